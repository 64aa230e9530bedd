#!/usr/bin/env bash
# What storing a record costs, by sync mode and by how many records come at once.
#   bench/spool.sh BIN-DIRECTORY [FOLDER]      FOLDER: on the disk to be measured (default: the temporary folder)
set -euo pipefail
bin=$(cd "$1" && pwd)
work=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$work"' EXIT
TIMEFORMAT='%R %U %S'

echo "sync      at once   records   wall us   CPU us (fms_sim included)"
measure() { # SYNC AT-ONCE RECORDS
  cat >"$work/p.ini" <<END
[pipeline]
max_in_flight = $2
[source]
plugin = fms_sim
rate = 0
count = $3
[sink spool]
plugin = spool
path = $work/spool
sync = $1
END
  rm -rf "$work/spool"
  { time "$bin/fmspipe" --log-level=error "$work/p.ini"; } 2>"$work/time"
  awk -v sync="$1" -v once="$2" -v n="$3" '
    { printf "%-9s %7d %9d %9.1f %8.1f\n", sync, once, n, $1 * 1e6 / n, ($2 + $3) * 1e6 / n }' "$work/time"
}
for sync in always interval off; do
  measure $sync 1 2000
  measure $sync 256 200000
done
