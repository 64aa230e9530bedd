#!/usr/bin/env bash
# A pipeline's file has another name again and again, so that one goes and another comes with its MQTT session and its file, in mid-stream:
# the old one is drained and closed first, so nothing is lost, repeated or out of order, and no session is taken from anybody.
#   fms-sandbox --kafka=none --mqtt=mosquitto -- tests/integration/test_renamed.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE
cd "$work"
mkdir conf.d

cat >sender.ini <<INI
[source]
plugin = fms_sim
vehicles = 20
rate = 2000
sequence = yes
counts = counts
[sink mqtt]
plugin = mqtt_sink
server = $FMS_MQTT
topic = renamed/\${json:vehicle_id}/data
qos = 1
INI
cat >conf.d/0.ini <<INI
[pipeline]
on_reject = stop
[source]
plugin = mqtt_ingest
server = $FMS_MQTT
topic = renamed/+/data
qos = 1
client_id = renamed
clean_start = no
session_expiry = 1h
[sink file]
plugin = file
path = came
INI
cat >verify.ini <<INI
[source]
plugin = file
path = came
[sink verify]
plugin = verify_sink
expect = counts
report = report
INI

start bridge --admin="unix:$work/socket" conf.d
until_true 30 "it receives" logged bridge 'source: receives'
start sender sender.ini
grown() { [ "$(stat -c %s came 2>/dev/null || echo 0)" -gt "$1" ]; }
for i in 1 2 3 4 5 6 7 8; do
  until_true 30 "records come" grown "$(stat -c %s came 2>/dev/null || echo 0)"
  mv conf.d/$((i - 1)).ini conf.d/$i.ini
  "$bin/fmspipe" reload "unix:$work/socket" >out 2>&1 || fail "reload $i: $(cat out)"
  [ "$(cat out)" = "pipeline $((i - 1)): goes
pipeline $i: comes
reloaded" ] || fail "reload $i: $(cat out)"
done
stop sender TERM
quiet() { local size; size=$(stat -c %s came); sleep 1; [ "$(stat -c %s came)" = "$size" ]; }
until_true 30 "all has come" quiet
stop bridge TERM
! grep -q 'connection to .* \(lost\|does not last\)\|has the session' bridge.log || fail "a session was taken: $(cat bridge.log)"
"$bin/fmspipe" verify.ini 2>verify.log || true
grep -q 'lost 0, duplicated 0, out of order 0, corrupted 0; promise kept' report || fail "$(cat report)"
cat report
