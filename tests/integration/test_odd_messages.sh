#!/usr/bin/env bash
# Odd messages, each kind that a publisher gets past mosquitto, in the midst of good ones: they cost themselves at most.
#
#   fms-sandbox --kafka=none --mqtt=mosquitto -- tests/integration/test_odd_messages.sh BIN-DIRECTORY
#
# mosquitto -> mqtt_ingest -> console_sink, dead letters in a file. Every good message arrives once and in order, over one
# connection, and what is odd arrives or is a dead letter; after a restart nothing of it comes again.
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
command -v mosquitto_pub >/dev/null || { echo "skipped: there is no mosquitto_pub"; exit 77; }
prefix=odd$$
count=100000

cat >"$work/receiver.ini" <<END
[pipeline]
name = receiver
max_in_flight_bytes = 256KiB

[source]
plugin = mqtt_ingest
server = $FMS_MQTT
topic = $prefix/#
client_id = $prefix
clean_start = no

[sink copy]
plugin = console_sink
format = json

[dead_letter]
plugin = file
path = $work/letters
format = record
END

url=${FMS_MQTT#*://}
publish() { mosquitto_pub -h "${url%:*}" -p "${url##*:}" -V 5 -q 1 "$@"; }
odd() { publish -t "$prefix/odd" "$@"; }
good() { seq "$1" "$2" | publish -t "$prefix/data" -l; }
letters() { [ -f "$work/letters" ] && [ "$(wc -l <"$work/letters")" = "$1" ]; }

start receiver "$work/receiver.ini"
until_true 40 "the subscription" logged receiver "source: receives"
large=$(head -c 60000 /dev/zero | tr '\0' x)
good 1 30000
odd -m indicator -D publish payload-format-indicator 2
odd -m response -D publish response-topic 'a/+'
odd -n
good 30001 60000
odd -m properties -D publish user-property a "$large" -D publish user-property b "$large" -D publish user-property c "$large" \
  -D publish user-property d "$large" -D publish user-property e "$large"
head -c 300000 /dev/zero | odd -s
good 60001 $count
until_true 60 "all good messages" grep -qx $count "$work/receiver.out"
until_true 20 "two dead letters" letters 2

grep -E '^[0-9]+$' "$work/receiver.out" >"$work/arrived"
seq 1 $count | cmp - "$work/arrived" || fail "not each good message once and in order"
for payload in indicator response ''; do
  [ "$(grep -cx "$payload" "$work/receiver.out")" = 1 ] || fail "the odd message \"$payload\" did not arrive once"
done
[ "$(grep -c "\"topic\":\"$prefix/odd\"" "$work/letters")" = 2 ] || fail "the dead letters have not their topic"
grep -q "properties are larger than what can be held" "$work/letters" || fail "the reason of one is not there"
! logged receiver " lost: " || fail "the connection broke"

stop receiver TERM
start receiver "$work/receiver.ini"
until_true 40 "the subscription" logged receiver "source: receives" 2
good 1 1
until_true 40 "the last message" lines receiver $((count + 4))
if [ "$(wc -l <"$work/receiver.out")" != $((count + 4)) ] || [ "$(tail -n 1 "$work/receiver.out")" != 1 ] || ! letters 2; then
  fail "something came again"
fi
stop receiver TERM

# The shipped bridge into a spool, for which Kafka may be away.
sed "s/^name = .*/&\nmax_in_flight_bytes = 256KiB/; s|^topic = .*|topic = $prefix/#|" "$root/pipelines/bridge_buffered_in.ini" \
  >"$work/buffered.ini"
export FMS_SPOOL=$work/spool FMS_BRIDGE_ID=$prefix-buffered
start buffered "$work/buffered.ini"
until_true 40 "the subscription" logged buffered "source: receives"
head -c 300000 /dev/zero | odd -s
good 1 1
until_true 20 "a dead letter beside the spool" grep -q '"fms.reason","' "$FMS_SPOOL-letters.jsonl"
stop buffered TERM
logged buffered "ended: 2 received, 2 delivered, 1 rejected (1 to dead letters" || fail "the spool has not what is good"

echo "$count good messages and 5 odd ones: nothing lost, nothing came twice"
