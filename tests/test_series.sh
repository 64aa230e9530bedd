#!/usr/bin/env bash
# 10 vehicles and 100,000 make equally many series, all there from the start: usage: test_series.sh FMSPIPE
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/integration/common.sh"

scrape() { curl -fs --unix-socket "$work/$1.sock" http://localhost/metrics >"$work/$1.txt"; }
# value SERIES FILE
value() { awk -v series="$1" 'index($0, series " ") == 1 { print $2 }' "$2"; }
received() { scrape "$1" && [ "$(value 'fmspipe_records_received_total{pipeline="fleet"}' "$work/$1.txt")" -ge "$2" ]; }
# names FILE: each series without its value, and each comment
names() { sed 's/^\([^#].*\) [^ ]*$/\1/' "$1"; }

for vehicles in 10 100000; do
  cat >"$work/$vehicles.ini" <<END
[pipeline]
name = fleet
vehicle = \${json:vehicle_id}
vehicle_fields = speed
[source]
plugin = fms_sim
vehicles = $vehicles
rate = 0
[transform check]
plugin = fms_check
[sink null]
plugin = null_sink
END
  start "$vehicles" --admin="unix:$work/$vehicles.sock" "$work/$vehicles.ini"
  until_true 20 "the first scrape" scrape "$vehicles"
  names "$work/$vehicles.txt" >"$work/$vehicles.first"
  until_true 60 "each vehicle" received "$vehicles" $((vehicles * 2))
  names "$work/$vehicles.txt" >"$work/$vehicles.last"
  stop "$vehicles" TERM
  diff "$work/$vehicles.first" "$work/$vehicles.last" || fail "series came or went while $vehicles vehicles sent"
done
diff "$work/10.last" "$work/100000.last" || fail "the series depend on the number of vehicles"
seen=$(awk 'index($0, "fmspipe_vehicles{") == 1 { n += $2 } END { print n }' "$work/100000.txt")
[ "$seen" = "$(value 'fmspipe_vehicles_limit{pipeline="fleet"}' "$work/100000.txt")" ] ||
  fail "of 100,000 vehicles $seen are told apart, which is not the limit"
echo "$(grep -vc '^#' "$work/10.txt") series"
