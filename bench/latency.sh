#!/usr/bin/env bash
# How long a message takes from its publisher over mosquitto and the bridge to a consumer of Kafka, with mqtt_ingest and with
# mqtt_source: both in one run, in turns.
#
#   fms-sandbox --kafka=real -- bench/latency.sh BIN-DIRECTORY [MESSAGES-A-SECOND [SECONDS [ROUNDS]]]
#
# The bridge is pipelines/bridge.ini, QoS 1; publisher and consumer are the same for both.
set -euo pipefail
bin=$(cd "$1" && pwd)
rate=${2:-1000}
seconds=${3:-20}
rounds=${4:-3}
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
export FMS_EXPECT=$work/counts FMS_FORMAT=json

# run SOURCE ROUND
run() {
  local topic=latency-$1-$2
  rm -f "$work"/{counts,*.out,*.log}
  sed -e "s/^plugin = mqtt_ingest/plugin = $1/" -e "s/^topic = fms-data-stream/topic = $topic/" \
    "$root/pipelines/bridge.ini" >"$work/bridge.ini"
  sed -e 's/^profile = throughput/profile = realtime/' "$root/pipelines/verify.ini" >"$work/verify.ini"
  cat >"$work/sender.ini" <<END
[source]
plugin = fms_sim
vehicles = 100
rate = $rate
count = $((rate * seconds))
sequence = yes
counts = $work/counts
[sink mqtt]
plugin = mqtt_sink
server = $FMS_MQTT
qos = 1
client_id = latency
END
  start bridge "$work/bridge.ini"
  until_true 30 "a subscription" logged bridge 'source: receives'
  until_true 30 "the topic" logged bridge "created topic $topic"
  FMS_VERIFY_TOPIC=$topic FMS_GROUP=$topic start consumer "$work/verify.ini"
  until_true 30 "the partition" logged consumer 'assigned'
  start sender "$work/sender.ini"
  ended sender
  ended consumer
  stop bridge TERM
  jq -r --arg source "$1" '"\($source): \(.distinct) of \(.expected) messages, p50 \(.latency_ms.p50) ms, p90 \(.latency_ms.p90), p99 \(.latency_ms.p99), p99.9 \(.latency_ms."p99.9"), max \(.latency_ms.max)"' "$work/consumer.out"
}

for ((round = 0; round < rounds; round++)); do
  run mqtt_ingest "$round"
  run mqtt_source "$round"
done
