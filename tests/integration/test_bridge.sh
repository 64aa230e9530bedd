#!/usr/bin/env bash
# One case of the whole job on real brokers: publisher -> MQTT -> bridge -> Kafka -> consumer, faults included.
#
#   fms-sandbox --kafka=real -- tests/integration/test_bridge.sh CASE BIN-DIRECTORY [SOURCE]
#
# SOURCE: the plugin that receives from MQTT, where it is not the pipeline file's.
# What was sent and what arrived are compared line by line: every message byte-identical, none lost, first arrivals in
# order per vehicle, the vehicle id as key. Duplicates may follow a fault; without one there must be none. On brokers of
# the user's own (FMS_TEST_MQTT, FMS_TEST_KAFKA) what others have sent is passed over, and cases that stop one are skipped.
set -euo pipefail
case=$1
bin=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
export TEST_COUNT=${TEST_COUNT:-10000}
duplicates=no
foreign=${FMS_TEST_MQTT:-}${FMS_TEST_KAFKA:-}

broker() {
  if [ -n "$foreign" ]; then
    echo "skipped: it would stop a broker that is not ours"
    exit 77
  fi
  ctl "$@"
}
sed "${3:+s/^plugin = mqtt_.*/plugin = $3/}" "$root/pipelines/bridge.ini" >"$work/bridge.ini"
start_bridge() { start bridge "$work/bridge.ini"; }
wait_subscribed() { until_true 40 "the bridge's subscription" logged bridge "source: receives"; }
start_publisher() { start publisher "$root/tests/integration/publisher.ini"; }

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
  ended publisher
  lines publisher "$TEST_COUNT" || fail "the publisher sent $(wc -l <"$work/publisher.out") of $TEST_COUNT"
  until_true 60 "all messages in Kafka" arrived
  cut -f2 "$work/kafka.tsv" >"$work/kafka"
  verify "$work/kafka"
  awk -F'\t' '{ match($2, /"vehicle_id":"[^"]*"/); if ($1 != substr($2, RSTART + 14, RLENGTH - 15)) exit 1 }' \
    "$work/kafka.tsv" || fail "a record's key is not its vehicle id"
  stop bridge TERM
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
  start_publisher
  ended consumer
  verify "$work/consumer.out"
  check_all
}

case_kafka_down_at_start() {
  duplicates=yes
  broker kafka stop
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 1000
  broker kafka start
  check_all
}

case_mqtt_down_at_start() {
  duplicates=yes
  start_bridge
  wait_subscribed # so that the broker knows the session
  broker mqtt stop
  start_publisher
  until_true 30 "the publisher's complaint" logged publisher 'cannot connect\|connection'
  broker mqtt start
  check_all
}

case_kafka_restarted() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  broker kafka restart
  check_all
}

case_mqtt_restarted() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  broker mqtt restart
  check_all
}

# publish TOPIC ARGUMENT...
publish() {
  local address=${FMS_MQTT#*://}
  mosquitto_pub -h "${address%:*}" -p "${address#*:}" -q 1 -t "$@"
}
# Bad payloads neither stop the fleet nor vanish: no JSON, nothing at all, NUL bytes, more than Kafka takes (1 MB), more
# than the pipeline takes (16 MiB; of that only the letter's headers are kept), nearly as much as MQTT allows (256 MB).
case_bad_payload() {
  local huge=$work/huge connections
  # has_letter SIZE REASON: whether there is such a letter, and not more of them than there were connections
  has_letter() {
    local count
    count=$(kcat -b "$FMS_KAFKA" -C -t fms-data-dead-letter -o beginning -e -q -f '%S|%h,\n' |
      grep -c "^$1|fms.reason=$2.*,fms.pipeline=bridge,fms.stage=.*,fms.topic=fms/data,fms.time=")
    [ "$count" -ge 1 ] && [ "$count" -le "$connections" ]
  }
  start_bridge
  wait_subscribed
  publish fms/data -m 'not JSON at all'
  publish fms/data -n
  printf '{"vehicle_id":\0}' | publish fms/data -s
  { printf '{"vehicle_id":"big","x":"'; head -c 3000000 /dev/zero | tr '\0' x; printf '"}'; } | publish fms/data -s
  head -c 20000000 /dev/zero >"$huge"
  publish fms/data -f "$huge"
  head -c 268000000 /dev/zero >"$huge"
  publish fms/data -f "$huge"
  rm "$huge"
  start_publisher
  until_true 120 "all messages in Kafka" arrived
  # Who reads the largest more slowly than the broker is patient is cut off, and gets again what it had not acknowledged.
  connections=$(grep -c "source: connected to" "$work/bridge.log")
  [ "$connections" = 1 ] || duplicates=yes
  check_all
  if [ -n "$foreign" ]; then return; fi # its letters may be others'
  has_letter 15 'key: the payload is no JSON object' || fail "no letter for what is no JSON"
  has_letter 0 'key: the payload is no JSON object' || fail "no letter for the empty payload"
  has_letter 16 'key: the payload is no JSON object' || fail "no letter for the NUL byte"
  has_letter 3000027 'topic fms-data-stream: .*too large' || fail "no letter for the large payload"
  has_letter -1 '.*with a payload of 20000000' || fail "no letter for the huge payload"
  has_letter -1 '.*with a payload of 268000000' || fail "no letter for the largest payload"
}

# The topic of the dead letters was there before, with Kafka's limit of 1 MiB: a letter that it does not take loses its payload,
# one whose key and topic are too large loses them as well, and the fleet goes on.
case_narrow_letters() {
  # letter SIZE HEADERS: how often there is such a letter
  letter() {
    kcat -b "$FMS_KAFKA" -C -t fms-data-dead-letter -o beginning -e -q -f '%S|%K|%h,\n' | grep -c "^$1|.*$2" || true
  }
  [ -z "$foreign" ] || { echo "skipped: the topic is others'"; exit 77; }
  printf 'first' | kcat -b "$FMS_KAFKA" -P -t fms-data-dead-letter # the broker makes it
  start_bridge
  wait_subscribed
  for i in 1 2 3; do
    { printf '{"vehicle_id":"big","n":%d,"x":"' "$i"; head -c 3000000 /dev/zero | tr '\0' x; printf '"}'; } | publish fms/data -s
  done
  publish fms/data -m 'no JSON'
  start_publisher
  check_all
  [ "$(letter -1 'fms.payload=dropped, 3000033 bytes')" = 3 ] || fail "no letters without payload"
  [ "$(letter -1 'fms.reason=topic fms-data-stream: .*too large.*fms.stage=sink kafka,fms.topic=fms/data')" = 3 ] ||
    fail "the letters do not say why"
  [ "$(letter 7 'fms.reason=key: ')" = 1 ] || fail "no letter for what is small"
}

# A topic may be any UTF-8 that MQTT allows, and comes through as it is: here as the dead letters' keys.
case_odd_topics() {
  local odd=('odd/Größe/日本/🚚' 'odd/ spaces, "quotes" and $' $'odd/\xef\xbb\xbfbom' 'odd//empty//' "odd/$(printf '%060000d' 1)")
  sed -i 's|^topic = fms/data .*|topic = fms/data, odd/#|' "$work/bridge.ini"
  start_bridge
  wait_subscribed
  for topic in "${odd[@]}"; do publish "$topic" -m 'no JSON'; done
  start_publisher
  check_all
  if [ -n "$foreign" ]; then return; fi # its letters may be others'
  printf '%s\n' "${odd[@]}" >"$work/odd"
  kcat -b "$FMS_KAFKA" -C -t fms-data-dead-letter -o beginning -e -q -f '%k\n' >"$work/keys"
  cmp "$work/odd" "$work/keys" || fail "the topics came out otherwise"
}

# A dead letter goes back to MQTT under its own topic, is rejected again, and stays: it does not go round. What cannot go back is
# set aside, and holds up nothing.
case_replay() {
  # shellcheck disable=SC2317 # until_true calls it
  letters() {
    [ "$(kcat -b "$FMS_KAFKA" -C -t "${3:-fms-data-dead-letter}" -o beginning -e -q -f '%s|%h\n' 2>/dev/null |
      LC_ALL=C grep -ac "$1")" = "$2" ]
  }
  # letter HEADER: a dead letter that tells another topic, or none
  letter() { printf 'foreign' | kcat -b "$FMS_KAFKA" -P -t fms-data-dead-letter -H fms.time=1 -H "$1"; }
  [ -z "$foreign" ] || { echo "skipped: others' letters would be replayed"; exit 77; }
  letter fms.topic=
  letter fms.topic=fms/+
  letter $'fms.topic=fms/\xff'
  letter other=header
  start_bridge
  wait_subscribed
  publish fms/data -m 'not JSON at all'
  until_true 40 "a dead letter" letters '^not JSON at all|fms.reason=key: ' 1
  sed 's/^name = replay/&\nstats_interval = 200ms/' "$root/pipelines/replay.ini" >"$work/replay.ini"
  start replay "$work/replay.ini"
  until_true 40 "the same once more" letters '^not JSON at all|replayed=[^,]*,fms.reason=key: .*,fms.topic=fms/data,' 1
  until_true 40 "the letter that is kept back" logged replay 'so far: 6 received, 6 delivered'
  letters '^foreign|.*fms.reason=.*,fms.pipeline=replay,.*,fms.topic=fms-data-dead-letter,' 4 fms-data-not-replayed ||
    fail "what cannot go back was not set aside"
  stop replay TERM
  logged replay 'transform once: dropped: 1' || fail "the letter was not kept back"
  logged replay 'transform restore: routed: 3' || fail "the letter was not sent back once"
  start_publisher
  check_all
}

# A batch in each format, one of them with an item that is no good and one that is broken: the items come out in their order, the
# two batches whole as dead letters, and the connection is still the first.
case_batches() {
  local i
  # reading SEQ
  reading() { printf '{"vehicle_id":"raspi-001","timestamp":1763320419,"speed":1.50,"rpm":1,"fuel_level":1,"seq":%d}' "$1"; }
  # batch FIRST: readings of three numbers, as an array
  batch() { printf '[%s,\n %s,%s]' "$(reading "$1")" "$(reading $(($1 + 1)))" "$(reading $(($1 + 2)))"; }
  # shellcheck disable=SC2317 # until_true calls it
  came() { kcat -b "$FMS_KAFKA" -C -t "$1" -o beginning -e -q -f "$3" 2>/dev/null >"$work/$1" && lines_of "$1" "$2"; }
  # shellcheck disable=SC2317
  lines_of() { [ "$(wc -l <"$work/$1")" -ge "$2" ]; }
  [ -z "$foreign" ] || { echo "skipped: others' records would be taken for ours"; exit 77; }
  start bridge "$root/pipelines/bridge_batches.ini"
  wait_subscribed
  publish fms/batches -m "$(batch 1)"
  batch 4 | gzip -c >"$work/batch"
  publish fms/batches -f "$work/batch"
  batch 7 | sed 's/^\[/[true,/' | zstd -q >"$work/batch"
  publish fms/batches -f "$work/batch"
  head -c -1 "$work/batch" >"$work/broken"
  publish fms/batches -f "$work/broken"
  publish fms/batches -m "$(reading 10)"
  until_true 40 "ten records" came fms-data-stream 10 '%k %s\n'
  until_true 40 "two dead letters" came fms-data-dead-letter 2 '%S %h\n'
  for i in {1..10}; do printf 'raspi-001 %s\n' "$(reading "$i")"; done | cmp - "$work/fms-data-stream" || fail "the items differ"
  grep -q "^$(wc -c <"$work/batch") fms.reason=item 0 at byte 1: it is no JSON object," "$work/fms-data-dead-letter" ||
    fail "no letter for the batch with an item that is no good"
  grep -q "^$(wc -c <"$work/broken") fms.reason=zstd: it ends too early" "$work/fms-data-dead-letter" ||
    fail "no letter for the broken batch"
  logged bridge "source: receives" 2 && fail "it has connected twice"
  stop bridge TERM
}

case_sigterm() {
  duplicates=yes
  start_bridge
  wait_subscribed
  start_publisher
  until_true 30 "some messages sent" lines publisher 2000
  stop bridge TERM
  start_bridge
  check_all
}

"case_$case"
echo "$case: passed"
