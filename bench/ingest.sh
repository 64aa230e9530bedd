#!/usr/bin/env bash
# What a message costs from MQTT to Kafka with mqtt_ingest, whose key is a level of the topic or a field of the JSON, and with
# mqtt_source: all in one run, QoS 1, 180 bytes of JSON, fed by a broker that does nothing but send, into whatever Kafka there is.
#
#   fms-sandbox --kafka=mock -- bench/ingest.sh BIN-DIRECTORY [SECONDS [ROUNDS]]
#
# CPU time is the bridge's own, user and system, its start included.
set -euo pipefail
bin=$(cd "$1" && pwd)
seconds=${2:-10}
rounds=${3:-3}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$here/../tests/integration/common.sh"

# run SOURCE KEY
run() {
  local hose ticks peak messages time
  "$bin/firehose" "$seconds" >"$work/hose" &
  hose=$!
  pids+=("$hose")
  until_true 10 "the firehose" grep -qs port "$work/hose"
  BENCH_MQTT=tcp://127.0.0.1:$(awk '/^port/ { print $2 }' "$work/hose")
  export BENCH_MQTT
  sed -e "s/^plugin = mqtt_ingest/plugin = $1/" -e "s/^key = .*/key = $2/" "$here/ingest.ini" >"$work/bridge.ini"
  start bridge --log-level=warn "$work/bridge.ini"
  until_true $((seconds + 60)) "the last acknowledgement" grep -q acknowledged "$work/hose"
  ticks=$(awk '{ print $14 + $15 }' "/proc/${pid_of[bridge]}/stat")
  peak=$(awk '/^VmHWM/ { print $2 }' "/proc/${pid_of[bridge]}/status")
  stop bridge TERM
  wait "$hose"
  read -r messages time < <(awk '/^acknowledged/ { print $2, $4 }' "$work/hose")
  awk -v source="$1 $2" -v n="$messages" -v s="$time" -v ticks="$ticks" -v hz="$(getconf CLK_TCK)" -v peak="$peak" 'BEGIN {
    printf "%-30s %9d messages in %6.2f s: %7.0f msg/s, %6.2f us CPU a message, %5.1f MiB at its peak\n", source, n, s, n / s,
           ticks / hz * 1e6 / n, peak / 1024 }'
}

for ((round = 0; round < rounds; round++)); do
  # shellcheck disable=SC2016
  { run mqtt_ingest '${topic[1]}'; run mqtt_ingest '${json:vehicle_id}'; run mqtt_source '${topic[1]}'; }
done
