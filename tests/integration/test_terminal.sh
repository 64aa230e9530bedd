#!/usr/bin/env bash
# What health, status and top say, and how they exit, while Kafka hangs and behind it.
#   fms-sandbox --kafka=real --mqtt=none -- test_terminal.sh BIN
set -euo pipefail
bin=$1
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/common.sh"
unset FMSPIPE_ADMIN
here=unix:$work/socket
cd "$work"

cat >uplink.ini <<END
[pipeline]
stall_after = 2s
[source]
plugin = fms_sim
rate = 50
[sink kafka]
plugin = kafka_sink
brokers = $FMS_KAFKA
topic = terminal
[dead_letter]
plugin = null_sink
END
start uplink --admin="$here" uplink.ini

# exits STATUS COMMAND...: with what it prints in `out`
exits() {
  local status=0
  timeout 20 "$bin/fmspipe" "${@:2}" "$here" >out 2>err || status=$?
  [ $status = "$1" ]
}
flows() { exits 0 status && grep -q '^uplink: Flowing: ' out; }
is_stuck() { exits 1 status && grep -q '^uplink: STUCK for .*sink kafka' out; }

until_true 60 "the bridge flows" flows
exits 0 health --ready || fail "what flows is not ready: $(cat out err)"
"$bin/fmspipe" top "$here" >top.out &
pids+=($!)
top=$!

ctl kafka freeze
until_true 30 "it is known to be stuck" is_stuck
grep -q '^> sink kafka ' out || fail "the stage that holds the rest is not marked: $(cat out)"
exits 1 health --ready || fail "what is stuck is ready: $(cat out)"
grep -q '^\[-\].*sink kafka' out || fail "health does not say what fails: $(cat out)"
! grep -q '^\[+\]' out || fail "health says what does not fail: $(cat out)"
exits 0 health || fail "what is stuck is alive all the same: $(cat out)"
[ "$(cat out)" = ok ] || fail "health does not say ok: $(cat out)"
exits 1 status --json || fail "status --json is ready"
[ "$(jq -r '.ready, .live, .pipelines[0].verdict, .pipelines[0].held_by' out | paste -sd,)" = 'false,true,stuck,sink kafka' ] ||
  fail "the document says something else: $(cat out)"

ctl kafka thaw
until_true 60 "it flows again" flows
exits 0 health --ready || fail "what flows again is not ready: $(cat out err)"
kill -INT $top
wait $top || fail "top ended with $?"
grep -qE '^[0-9:]{8}Z uplink: STUCK' top.out || fail "top has not seen that it was stuck"
stop uplink TERM
