#!/usr/bin/env bash
# Who gets a second try of scripts/test, and how it is counted: usage: test_suite.sh ROOT
# shellcheck disable=SC2034 # what is set here is read by what is evaluated
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
kafka=yes passed=0 failed=0 retried=0
eval "$(sed -n '/^tests() {/,/^}/p; /^suite() {/,/^}/p' "$1/scripts/test")"

# Each fails at its first try, but for `good`.
cat >"$work/flaky" <<'END'
[ -e "$0.$1" ] || { touch "$0.$1"; exit 1; }
END
cat >"$work/CTestTestfile.cmake" <<END
add_test(good true)
add_test(ours bash $work/flaky ours)
add_test(broker_s bash $work/flaky broker_s)
add_test(whole bash $work/flaky whole)
add_test(broken false)
set_tests_properties(good ours PROPERTIES LABELS unit)
set_tests_properties(broker_s PROPERTIES LABELS broker)
set_tests_properties(whole PROPERTIES LABELS "integration;once")
set_tests_properties(broken PROPERTIES LABELS "integration;real-kafka")
END

# counts PASSED FAILED RETRIED
counts() {
  [ "$passed $failed $retried" = "$*" ] || { echo "$passed passed, $failed failed, $retried retried, not $*" >&2; exit 1; }
  passed=0 failed=0 retried=0
  rm -f "$work"/flaky.*
}

suite "$work" . none
counts 3 2 3
suite "$work" . once
counts 2 2 2
suite "$work" unit none
counts 1 1 0
suite "$work" nothing none
counts 0 1 0
kafka=no
suite "$work" . none
counts 3 1 2
echo "counted"
