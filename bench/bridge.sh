#!/usr/bin/env bash
# The bridge at a steady rate: resident memory, and CPU a message, of its process.
#
#   build/bin/fms-sandbox --kafka=real -- bench/bridge.sh build/bin [MESSAGES-A-SECOND [SECONDS]]
set -euo pipefail
bin=$1
rate=${2:-1000}
seconds=${3:-20}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
pids=()

"$bin/fmspipe" "$root/pipelines/bridge.ini" 2>"$work/log" &
bridge=$!
pids+=("$bridge")
until grep -q 'source: receives' "$work/log"; do sleep 0.05; done

cpu() { awk '{print $14 + $15}' "/proc/$bridge/stat"; }
before=$(cpu)
TEST_RATE=$rate TEST_COUNT=$((rate * seconds)) "$bin/fmspipe" --log-level=warn "$root/tests/integration/publisher.ini" >/dev/null
after=$(cpu)
awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n=$((rate * seconds)) -v rate="$rate" '
  /^VmRSS/ { rss = $2 } /^VmHWM/ { peak = $2 } /^Threads/ { threads = $2 }
  END { printf "%d msg/s: resident %.1f MiB, peak %.1f MiB, %d threads, %.1f us CPU a message\n", rate, rss / 1024,
               peak / 1024, threads, ticks / hz * 1e6 / n }' "/proc/$bridge/status"
kill -TERM "$bridge"
wait "$bridge"
