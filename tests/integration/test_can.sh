#!/usr/bin/env bash
# A truck's bus through a pipe to MQTT, in its own time: fms_sim -> can_source -> spool -> mosquitto, by the pipelines that stand in pipelines/.
#
#   fms-sandbox --kafka=none --mqtt=mosquitto -- tests/integration/test_can.sh BIN-DIRECTORY
#
# The samples are a second apart, of one vehicle, by its VIN; its odometer never goes back. When the bus ends, so does who reads it.
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
command -v mosquitto_sub >/dev/null || { echo "skipped: there is no mosquitto_sub"; exit 77; }

export FMS_CAN=$work/bus FMS_SPOOL=$work/spool FMS_INTERVAL=1s FMS_CLOCK=trusted # whoever has set that of this machine
mkfifo "$FMS_CAN"
url=${FMS_MQTT#*://}
timeout 60 mosquitto_sub -h "${url%:*}" -p "${url##*:}" -t fms/data -C 5 >"$work/samples" &
subscriber=$!
pids+=("$subscriber")
start truck "$root/pipelines/"{truck,truck_uplink,can_bus}.ini
wait "$subscriber" || fail "five samples do not come"
stop truck TERM

# The first may be of less than a second, in which not all has been said.
jq -se '.[1:] | length == 4 and all(.[]; .vehicle_id == "FMSSXM00000000001" and .speed >= 0 and .speed <= 120 and .rpm >= 600 and .rpm <= 3000
    and .fuel_level > 0 and .fuel_level <= 100 and .coolant_temperature == 85)
  and (map(.timestamp) | . == unique) and (map(.distance) | . == sort)' "$work/samples" >/dev/null ||
  fail "the samples are not a truck's: $(cat "$work/samples")"
