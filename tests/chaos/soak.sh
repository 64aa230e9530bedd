#!/usr/bin/env bash
# The bridge at a steady rate, for long: run by scripts/soak in fms-sandbox --kafka=real.
#
# The first sixth of the time warms up; in the rest, the highest of each third is compared with that of the first: memory
# may be 1 MiB higher, open files and threads not at all.
set -euo pipefail
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
pipelines=$(cd "$here/../../pipelines" && pwd)
work=$(mktemp -d)
export CHAOS_COUNTS=$work/counts CHAOS_SENDER_MQTT=$FMS_MQTT
export FMS_EXPECT=$CHAOS_COUNTS FMS_FORMAT=json
seconds=$((SOAK_MINUTES * 60))
every=$((seconds < 120 ? 2 : 10))
bridge="" sender=""

finish() {
  local status=$?
  for pid in $sender $bridge; do kill -9 "$pid" 2>/dev/null || true; done
  [ $status = 0 ] || tail -n 15 "$work"/*.log >&2
  rm -rf "$work"
}
trap finish EXIT

"$bin/fmspipe" "$pipelines/bridge.ini" 2>"$work/bridge.log" &
bridge=$!
until grep -q 'source: receives' "$work/bridge.log"; do kill -0 "$bridge"; sleep 0.1; done
"$bin/fmspipe" "$here/sender.ini" 2>"$work/sender.log" &
sender=$!

# One line: seconds, resident KiB, open files, threads, CPU milliseconds.
sample() {
  local ticks
  ticks=$(awk '{ print $14 + $15 }' "/proc/$bridge/stat")
  printf '%d\t%s\t%s\t%s\t%s\n' "$SECONDS" "$(awk '/^VmRSS/ { print $2 }' "/proc/$bridge/status")" \
    "$(find "/proc/$bridge/fd" -mindepth 1 | wc -l)" "$(awk '/^Threads/ { print $2 }' "/proc/$bridge/status")" \
    "$((ticks * 1000 / $(getconf CLK_TCK)))"
}
SECONDS=0
printf 'seconds\tresident KiB\topen files\tthreads\tCPU ms\n'
while [ "$SECONDS" -lt "$seconds" ]; do
  sample | tee -a "$work/samples"
  sleep "$every"
done

kill -TERM "$sender"
wait "$sender"
sender=""
promise=kept
"$bin/fmspipe" "$pipelines/verify.ini" >"$work/report" 2>"$work/verify.log" || promise=broken
jq -r '"sent \(.expected), delivered \(.distinct), lost \(.lost), duplicated \(.duplicated), out of order \(.out_of_order)"' \
  "$work/report"
kill -TERM "$bridge"
wait "$bridge"
bridge=""
awk -v total="$seconds" -v promise="$promise" '
  $1 >= total / 6 {
    third = int(($1 - total / 6) / (total * 5 / 18))
    if (third > 2) third = 2
    for (i = 2; i <= 4; i++) if ($i > most[third, i]) most[third, i] = $i
  }
  END {
    flat = most[2, 2] <= most[0, 2] + 1024 && most[2, 3] <= most[0, 3] && most[2, 4] <= most[0, 4]
    printf "resident: at most %d, %d, %d KiB in the three parts; open files %d, %d, %d; threads %d, %d, %d\n",
           most[0, 2], most[1, 2], most[2, 2], most[0, 3], most[1, 3], most[2, 3], most[0, 4], most[1, 4], most[2, 4]
    print (flat ? "flat" : "NOT FLAT") ", promise " promise
    exit !(flat && promise == "kept")
  }' "$work/samples"
