#!/usr/bin/env bash
# A far end that falls silent (its link passes nothing and tells nobody) makes the bridge not ready, by name and for as long as it
# lasts, and never not alive.
#   fms-sandbox --kafka=real --links -- tests/integration/test_silence.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"

address=unix:$work/bridge.sock
sed -e 's/^\[pipeline\]$/&\nstall_after = 3s/' -e 's/^plugin = mqtt_ingest.*/&\nkeepalive = 1s/' "$root/pipelines/bridge.ini" >"$work/bridge.ini"
sed 's/^qos = .*/qos = 1/' "$root/pipelines/publisher.ini" >"$work/publisher.ini"

# A consumer has nothing in flight that could tell: its broker has to.
consumer=unix:$work/consumer.sock
start consumer --admin="$consumer" "$root/pipelines/consumer.ini"
consumer_ready() { "$bin/fmspipe" health --ready "$consumer" >"$work/consumer_health" 2>&1; }
consumer_unready() { ! consumer_ready && grep -q 'source: .*silent' "$work/consumer_health"; }

health() { "$bin/fmspipe" health "$@" "$address" >"$work/health" 2>&1; }
ready() { health --ready; }
unready() { ! ready && grep -q "$1" "$work/health"; }
sentence() { { "$bin/fmspipe" status --json "$address" || true; } | jq -r '.pipelines[0].sentence' | grep -q "$1"; }
settled() { [ "$("$bin/fmspipe" status --json "$address" | jq '.pipelines[0].in_flight.records')" = 0 ]; }
alive() { health || fail "not alive: $(cat "$work/health")"; }

start bridge --admin="$address" "$work/bridge.ini"
until_true 60 "the bridge is ready" ready
FMS_MQTT=$FMS_MQTT_DIRECT FMS_INTERVAL=100ms start publisher "$work/publisher.ini" # past the link, so that it goes on
until_true 30 "the page says that it flows" sentence '^Flowing'

# stall BROKER STAGE: its link stands still, then heals
stall() {
  local began
  ctl "$1" stall
  began=$SECONDS
  until_true 60 "not ready for $1" unready "$2"
  echo "$1: not ready $((SECONDS - began)) s after its link stood still: $(cat "$work/health")"
  [ "$1" != kafka ] || until_true 40 "the consumer is not ready" consumer_unready
  alive
  sentence "$2" || fail "the sentence does not name $2"
  ctl "$1" heal
  until_true 60 "ready again after $1" ready
  until_true 60 "the consumer is ready after $1" consumer_ready
  alive
  until_true 30 "it flows again after $1" sentence '^Flowing'
}
until_true 60 "the consumer is ready" consumer_ready
stall kafka 'sink kafka'
stall mqtt source

stop publisher TERM
until_true 30 "nothing is in flight" settled # a record that is would tell by its age
ctl kafka stall
until_true 60 "not ready though nothing comes" unready 'sink kafka: .*silent'
ctl kafka heal
until_true 60 "ready again" ready
stop consumer TERM
stop bridge TERM
[ ! -e "$work/bridge.sock" ] || fail "the socket has outlived its process"
echo "silence: passed"
