#!/usr/bin/env bash
# The benchmarks still measure: each part once, for a moment, with the contenders that are always there. Figures are not judged.
#   fms-sandbox --kafka=real -- tests/integration/test_bench.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
/usr/bin/python3 -c 'import confluent_kafka' 2>/dev/null || { echo "skipped: no python3-confluent-kafka"; exit 77; }

/usr/bin/python3 "$root/bench/run.py" --bin "$bin" --out "$work/bench" --rounds 1 --seconds 1 --warm-up 0.5 \
  --latency-seconds 1 --records 20000 --base --only floor --only mqtt_ingest
/usr/bin/python3 "$root/bench/table.py" "$work/bench/raw.jsonl" >"$work/bench/table.md"
cat "$work/bench/table.md"

jq -e -s 'map(select(.what != "machine")) | all(has("failed") | not)' "$work/bench/raw.jsonl" >/dev/null || fail "a run has failed"
jq -e -s 'map(select(.rate)) | length > 20 and all(.rate > 0)' "$work/bench/raw.jsonl" >/dev/null || fail "too few figures"
jq -e -s 'map(select(.what == "kill" and .contender != "floor")) | length == 1 and all(.expected == 20000 and .lost == 0)' \
  "$work/bench/raw.jsonl" >/dev/null || fail "a kill has lost something"
[ "$(grep -c '^### ' "$work/bench/table.md")" -ge 12 ] || fail "a table is missing"
