#!/usr/bin/env bash
# What names metrics names those that there are, and Prometheus takes it: usage: test_boards.sh BUILD ROOT
set -euo pipefail
build=$(realpath "$1")
root=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$root/scripts/boards" "$build" --check || fail "what is made from the table of metrics is not as it would be made now"

# Names, types and labels are a promise: who renames a metric breaks boards that we do not see. New ones are added to the file.
"$root/scripts/boards" "$build" --names | diff -u "$root/tests/metric_names.txt" - ||
  fail "metrics are not those of tests/metric_names.txt, by which others go; what is new is added there by scripts/boards BUILD --names"

while read -r alert; do
  grep -q "alertname: $alert\$" "$root/tests/prometheus/alerts_test.yml" || fail "no test has alert $alert fire"
done < <(sed -n 's/^ *- alert: //p' "$root/deploy/prometheus/alerts.yml")

command -v promtool >/dev/null || { echo "no promtool"; exit 77; }
promtool check config "$root/deploy/prometheus/prometheus.yml" >"$work/config" || fail "$(cat "$work/config")"
promtool test rules "$root/tests/prometheus/alerts_test.yml" >"$work/rules" 2>&1 || fail "$(cat "$work/rules")"

# Each name by the rules for names, those of plugins that no test runs, too.
awk '{ print "# HELP " $1 " x\n# TYPE " $1 " " $2 }
  $2 == "histogram" { print $1 "_bucket{le=\"+Inf\"} 0\n" $1 "_sum 0\n" $1 "_count 0"; next } { print $1 " 0" }' \
  "$root/tests/metric_names.txt" | promtool check metrics >"$work/names" 2>&1 || fail "$(cat "$work/names")"

# What the board asks, as rules, which promtool can read.
echo '{"groups": []}' |
  jq --slurpfile board "$root/deploy/grafana/dashboards/fmspipe.json" '
    [$board[0].panels[].targets[]?.expr | gsub("\\$__rate_interval"; "1m") | gsub("\\$[a-z]+"; ".*")] | unique | to_entries |
    {groups: [{name: "board", rules: map({record: "asked:\(.key)", expr: .value})}]}' >"$work/board.yml"
promtool check rules "$work/board.yml" >"$work/board" 2>&1 || fail "$(cat "$work/board")"
grep -q ' [1-9][0-9] rules found' "$work/board" || fail "the board asks for nothing: $(cat "$work/board")"
echo "names hold"
