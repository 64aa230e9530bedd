#!/usr/bin/env bash
# Odd messages, one of each kind (bench/odd.c), in a stream of good ones at full speed, through the shipped bridge: each costs
# itself and nothing else.
#   fms-sandbox --kafka=real --mqtt=none -- tests/integration/test_odd_bridge.sh BIN-DIRECTORY
# TEST_COUNT: how many good messages.
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
count=${TEST_COUNT:-100000}
rejected=10

# offsets TOPIC: how many records it has
offsets() {
  kcat -b "$FMS_KAFKA" -L -J -t "$1" | jq -r '.topics[0].partitions[].partition' |
    xargs -I{} kcat -b "$FMS_KAFKA" -Q -t "$1:{}:-1" 2>/dev/null | awk '{ n += $NF } END { print n + 0 }'
}

# The topic of the dead letters has Kafka's own limit of 1 MiB, as one that somebody made before has.
sed -e 's|^topic = fms/data .*|topic = fms/#|' -e '/^topic.max.message.bytes/d' "$root/pipelines/bridge.ini" >"$work/bridge.ini"
"$bin/firehose" --odd $((count + rejected)) >"$work/hose.log" &
pids+=($!)
until_true 10 "the broker" grep -qs port "$work/hose.log"
FMS_MQTT=tcp://127.0.0.1:$(sed -n 's/^port //p' "$work/hose.log") start bridge "$work/bridge.ini"
until_true 240 "all messages to be acknowledged" grep -qs acknowledged "$work/hose.log"
stop bridge TERM
cat "$work/hose.log"

good=$(offsets fms-data-stream) letters=$(offsets fms-data-dead-letter)
echo "delivered $good, dead letters $letters"
kcat -b "$FMS_KAFKA" -C -t fms-data-dead-letter -o beginning -e -q -f '%k|%S|%h\n' | tr -d '\000' | cut -c 1-400 | tee "$work/letters"
grep -q 'over 1 connection$' "$work/hose.log" || fail "a message has cost the connection"
[ "$good" = "$count" ] || fail "$good of $count good messages were delivered"
[ "$letters" = $rejected ] || fail "$letters dead letters instead of $rejected"
echo "odd bridge: passed"
