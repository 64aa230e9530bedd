#!/usr/bin/env bash
# One case of the whole job on real brokers: publisher -> MQTT -> bridge -> Kafka -> consumer, faults included.
#
#   fms-sandbox --kafka=real -- tests/integration/test_bridge.sh CASE BIN-DIRECTORY
#
# What was sent and what arrived are compared line by line: every message byte-identical, none lost, first arrivals in
# order per vehicle, the vehicle id as key. Duplicates may follow a fault; without one there must be none. On brokers of
# the user's own (FMS_TEST_MQTT, FMS_TEST_KAFKA) what others have sent is passed over, and cases that stop one are skipped.
set -euo pipefail
case=$1
bin=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
export TEST_COUNT=${TEST_COUNT:-10000}
duplicates=no
foreign=${FMS_TEST_MQTT:-}${FMS_TEST_KAFKA:-}
pids=()

finish() {
  local status=$?
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  if [ $status != 0 ] && [ $status != 77 ]; then
    for log in "$work"/*.log; do echo "--- $log"; tail -n 20 "$log"; done
  fi
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# until_true SECONDS WHAT COMMAND...
until_true() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $limit ] || fail "gave up waiting: $what"
    sleep 0.05
  done
}

# start NAME FILE: runs a pipeline, its stdout in NAME.out (appended), its log in NAME.log; its pid in $started.
start() {
  "$bin/fmspipe" "$2" >>"$work/$1.out" 2>>"$work/$1.log" &
  started=$!
  pids+=("$started")
}
ctl() {
  if [ -n "$foreign" ]; then
    echo "skipped: it would stop a broker that is not ours"
    exit 77
  fi
  "$bin/fms-sandbox" ctl "$@"
}
logged() { grep -q "$2" "$work/$1.log" 2>/dev/null; }
lines() { [ -f "$work/$1.out" ] && [ "$(wc -l <"$work/$1.out")" -ge "$2" ]; }
start_bridge() {
  start bridge "$root/pipelines/bridge.ini"
  bridge=$started
}
wait_subscribed() { until_true 40 "the bridge's subscription" logged bridge "source: receives"; }
start_publisher() { start publisher "$root/tests/integration/publisher.ini"; publisher=$started; }

# Reads the topic with a client that is not ours until it has seen every message that was sent, or time is up.
arrived() {
  kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -e -q -f '%k\t%s\n' 2>/dev/null >"$work/kafka.tsv" || return 1
  [ "$(cut -f2 "$work/kafka.tsv" | sort -u | comm -12 - <(sort -u "$work/publisher.out") | wc -l)" -ge "$TEST_COUNT" ]
}

# verify FILE: payloads, one a line, against what the publisher sent.
verify() {
  awk -v duplicates="$duplicates" -v foreign="$foreign" -v name="$(basename "$1")" '
    function vehicle(line) { match(line, /"vehicle_id":"[^"]*"/); return substr(line, RSTART, RLENGTH) }
    function seq(line) { match(line, /"seq":[0-9]+/); return substr(line, RSTART + 6, RLENGTH - 6) + 0 }
    FNR == NR { sent[$0] = 1; n++; next }
    !($0 in sent) { if (foreign == "") corrupted++; next }
    $0 in seen { repeated++; next }
    { seen[$0] = 1; got++; v = vehicle($0); s = seq($0); if (s < last[v]) disorder++; last[v] = s }
    END {
      printf "%s: sent %d, arrived %d, lost %d, repeated %d, out of order %d, corrupted %d\n", name, n, got, n - got,
             repeated, disorder, corrupted
      exit !(n > 0 && got == n && !disorder && !corrupted && (duplicates == "yes" || !repeated))
    }' "$work/publisher.out" "$1" || fail "the promise was broken"
}

# What every case ends with.
check_all() {
  wait "$publisher" || fail "the publisher ended with $?"
  lines publisher "$TEST_COUNT" || fail "the publisher sent $(wc -l <"$work/publisher.out") of $TEST_COUNT"
  until_true 60 "all messages in Kafka" arrived
  cut -f2 "$work/kafka.tsv" >"$work/kafka"
  verify "$work/kafka"
  awk -F'\t' '{ match($2, /"vehicle_id":"[^"]*"/); if ($1 != substr($2, RSTART + 14, RLENGTH - 15)) exit 1 }' \
    "$work/kafka.tsv" || fail "a record's key is not its vehicle id"
  kill -TERM "$bridge"
  wait "$bridge" || fail "the bridge ended with $?"
}

case_plain() {
  start_bridge
  wait_subscribed
  if [ -n "$foreign" ]; then # our consumer counts, and others' records would count too
    start_publisher
    check_all
    return
  fi
  FMS_START=earliest FMS_FORMAT=json FMS_SHOW=$TEST_COUNT start consumer "$root/pipelines/consumer.ini"
  consumer=$started
  start_publisher
  wait "$consumer" || fail "the consumer ended with $?"
  verify "$work/consumer.out"
  check_all
}

case_kafka_down_at_start() {
  duplicates=yes
  ctl kafka stop
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 1000
  ctl kafka start
  check_all
}

case_mqtt_down_at_start() {
  duplicates=yes
  start_bridge
  wait_subscribed # so that the broker knows the session
  ctl mqtt stop
  start_publisher
  until_true 30 "the publisher's complaint" logged publisher 'cannot connect\|connection'
  ctl mqtt start
  check_all
}

case_kafka_restarted() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  ctl kafka restart
  check_all
}

case_mqtt_restarted() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  ctl mqtt restart
  check_all
}

# One bad payload neither stops the fleet nor vanishes.
case_bad_payload() {
  local address=${FMS_MQTT#*://} letter
  start_bridge
  wait_subscribed
  mosquitto_pub -h "${address%:*}" -p "${address#*:}" -q 1 -t fms/data -m 'not JSON at all'
  start_publisher
  check_all
  letter=$(kcat -b "$FMS_KAFKA" -C -t fms-data-dead-letter -o beginning -e -q -f '%s|%h\n' | tail -n 1)
  case $letter in
    'not JSON at all|'*'fms.reason=key: the payload is no JSON object'*'fms.pipeline=bridge'*'fms.stage=sink kafka'*'fms.topic=fms/data'*) ;;
    *) fail "the dead letter reads: $letter" ;;
  esac
}

case_sigterm() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  kill -TERM "$bridge"
  wait "$bridge" || fail "the bridge ended with $? on SIGTERM"
  start_bridge
  check_all
}

"case_$case"
echo "$case: passed"
