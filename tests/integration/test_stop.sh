#!/usr/bin/env bash
# A pipeline whose Kafka does not answer any more, neither the group's last commit nor whoever leaves, stops all the same, and well:
# what is settled is settled.
#   fms-sandbox --kafka=real --mqtt=none -- tests/integration/test_stop.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"

cat >"$work/copy.ini" <<'END'
[pipeline]
drain_timeout = 10ms
[source]
plugin = kafka_source
brokers = ${env:FMS_KAFKA}
topic = from
group = copy
start = earliest
commit_interval = 1h
[sink kafka]
plugin = kafka_sink
brokers = ${env:FMS_KAFKA}
topic = to
key = k
[dead_letter]
plugin = kafka_sink
brokers = ${env:FMS_KAFKA}
topic = dead
key = k
END

copied() {
  kcat -b "$FMS_KAFKA" -C -t to -o beginning -e -q 2>/dev/null >"$work/to" && [ "$(wc -l <"$work/to")" = 20 ]
}

seq 20 | kcat -b "$FMS_KAFKA" -P -t from
start copy "$work/copy.ini"
until_true 60 "the records" copied
ctl kafka freeze
stop copy TERM
ctl kafka thaw
logged copy "the last commit was not confirmed in time" || fail "it was not the commit that was waited for"
echo "stop: passed"
