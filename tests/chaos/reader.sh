#!/usr/bin/env bash
# Whoever counts for scripts/chaos counts what is committed: no aborted transaction, and none that nobody has ended. A commit in doubt was one.
#
#   fms-sandbox --kafka=real --mqtt=none --links -- tests/chaos/reader.sh BIN-DIRECTORY
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
# shellcheck source=tests/chaos/count.sh
. "$root/tests/chaos/count.sh"
transactions=$root/tests/chaos/transactions.py
/usr/bin/python3 -c 'import confluent_kafka' 2>/dev/null || { echo "skipped: no python3-confluent-kafka"; exit 77; }

# counted LAST MESSAGES DISTINCT DISORDERED: so verify.ini and kcat count the numbers 1 to LAST
counted() {
  local found
  echo "$1 raspi-001" >"$work/counts"
  verify "$work/counts" 3s
  found=$(report '[.messages, .distinct, .out_of_order, .lost, .duplicated] | map(tostring) | join(" ")')
  [ "$found" = "$2 $3 $4 $(($1 - $3)) $(($2 - $3))" ] || fail "verify.ini counts $found, not $*, at $isolation"
  found=$(count_all)
  [ "$found" = "$2 $3 $4" ] || fail "kcat counts $found, not $*, at $isolation"
}

"$transactions" commit 1 100 abort 51 150 commit 101 150 leave 101 200
counted 150 150 150 0
counted 200 150 150 0
"$transactions" commit 151 200 # which ends what was left
counted 200 200 200 0

# That they are there, and what a repetition and a wrong order look like.
isolation=read_uncommitted
counted 200 400 200 0
isolation=read_committed
"$transactions" commit 202 203 abort 150 150 commit 150 150 commit 201 201
counted 203 204 203 1

# A commit in doubt has reached Kafka, and whoever asked for it does not learn that.
ctl kafka doubt &
doubt=$!
"$transactions" commit 204 204 &
pids+=($!)
wait "$doubt" || fail "no commit came to be in doubt"
kill -9 "${pids[-1]}" || fail "it learnt"
ctl kafka heal
counted 204 205 204 1
echo "read"
