#!/usr/bin/env bash
# A plugin that does not return makes its process not alive, by name, and nothing else; once it returns all is well again.
#   test_hang.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/common.sh"

address=unix:$work/admin.sock
# pipeline NAME: its sink does not return from a write as long as the file NAME.hangs is there
pipeline() {
  cat >"$work/$1.ini" <<END
[pipeline]
name = $1
[source]
plugin = fms_sim
interval = 10ms
[sink only]
plugin = stubborn
hangs = $work/$1.hangs
END
}
pipeline good
pipeline bad

health() { "$bin/fmspipe" health "$@" "$address" >"$work/health" 2>&1; }
dead() { ! health && grep -q "$1" "$work/health"; }
verdict() { { "$bin/fmspipe" status --json "$address" || true; } | jq -r ".pipelines[] | select(.name == \"$1\") | .verdict"; }
flows() { [ "$(verdict "$1")" = flowing ]; }

start both --admin="$address" "$work/good.ini" "$work/bad.ini"
until_true 30 "both flow" flows bad
until_true 30 "both flow" flows good
health || fail "not alive: $(cat "$work/health")"

touch "$work/bad.hangs"
until_true 60 "not alive" dead 'bad: its lane has not answered'
! grep -q good "$work/health" || fail "the other pipeline is blamed: $(cat "$work/health")"
! health --ready || fail "ready though it is not alive"
[ "$(verdict bad)" = stuck ] || fail "a lane that hangs is $(verdict bad)"
flows good || fail "the other pipeline does not flow"

rm "$work/bad.hangs"
until_true 30 "alive again" health
until_true 30 "it flows again" flows bad
stop both TERM
echo "hang: passed"
