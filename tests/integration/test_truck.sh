#!/usr/bin/env bash
# A truck's bus to Kafka, by truck.ini, truck_uplink.ini and bridge.ini as they are; the MQTT broker goes and comes back while it drives, and
# the truck's process is killed while its spool is full of what the broker has not.
#
#   fms-sandbox --kafka=real -- tests/integration/test_truck.sh BIN-DIRECTORY
#
# What Kafka has is what the frames said: each second of the drive, in order, none lost, but for what the killed process had not made
# samples of. The bus is a log of the drive that is replayed into a pipe, 40 times as fast, and waits for a reader.
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
if [ -n "${FMS_TEST_MQTT:-}${FMS_TEST_KAFKA:-}" ]; then
  echo "skipped: it would stop a broker that is not ours"
  exit 77
fi
export FMS_SPOOL=$work/spool FMS_INTERVAL=1s
export FMS_CLOCK=trusted # nobody need have set that of the machine that tests
seconds=600

# --- the drive: what the model puts on the bus
pipe() { # NAME, then lines of a pipeline's source and sink
  cat >"$work/$1.ini"
  start "$1" "$work/$1.ini"
}
pipe drive <<END
[source]
plugin = fms_sim
format = can
rate = 0
count = $((seconds * 120))
[sink log]
plugin = file
path = $work/drive.can
END
ended drive

# --- the truck, its bus, and the bridge
truck=unix:$work/truck.sock
mkfifo "$work/bus"
exec 3<>"$work/bus" # so that it has a reader and a writer when they go and come
start_truck() { FMS_CAN=$work/bus start truck --admin="$truck" "$root/pipelines/truck.ini" "$root/pipelines/truck_uplink.ini" 3>&-; }
stored() { { "$bin/fmspipe" status --json "$truck" 2>/dev/null || true; } | jq '.pipelines[0].counts.delivered' | grep . || echo 0; }
has_stored() { [ "$(stored)" -ge "$1" ]; }

arrived() { sort -u "$work/kafka.tsv" | wc -l; }
has_arrived() { [ "$(arrived)" -ge "$1" ]; }

start bridge "$root/pipelines/bridge.ini" 3>&-
until_true 40 "the bridge's subscription" logged bridge "source: receives"
until_true 40 "its topic" kcat -b "$FMS_KAFKA" -C -t fms-data-stream -e -q 2>"$work/kcat.log"
kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -q -u -f '%k\t%s\n' >"$work/kafka.tsv" 2>"$work/kcat.log" 3>&- & # a client that is not ours
pids+=($!)
start_truck
pipe replay 3>&- <<END
[source]
plugin = can_source
path = $work/drive.can
speed = 40
[sink bus]
plugin = file
path = $work/bus
END
until_true 30 "samples in Kafka" has_arrived 40

ctl mqtt stop
until_true 30 "samples in the spool" has_stored $(($(stored) + 40))
ctl mqtt start
until_true 60 "what the spool had, in Kafka" has_arrived "$(stored)"

ctl mqtt stop
until_true 30 "samples in the spool again" has_stored $(($(stored) + 40))
stored=$(stored)
stop truck KILL
start_truck
ctl mqtt start

ended replay
exec 3>&- # the bus ends
until_true 60 "the end of the drive" logged truck "truck: ended"
last=$(tail -n 1 "$work/drive.can" | cut -c2-11)
until_true 60 "the whole drive in Kafka" grep -q "\"timestamp\":$((last + 1))," "$work/kafka.tsv"
stop truck TERM
stop bridge TERM
"$root/tests/can/driven.py" "$work/drive.can" "$work/kafka.tsv" "$stored"
