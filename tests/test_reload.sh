#!/usr/bin/env bash
# The file of a pipeline changes while it runs: who asks for that, what is said, and that no record is lost, repeated or out of order.
#   test_reload.sh FMSPIPE
# shellcheck disable=SC2016 # ${...} of pipeline files
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$tests/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE
cd "$work"
here=unix:$work/socket

# fleet CONDITION [MORE]: the file, made anew as an editor does it
fleet() {
  cat >fleet.new <<END
[pipeline]
drain_timeout = 2s
[source]
plugin = fms_sim
vehicles = 20
rate = 5000
sequence = yes
counts = counts
[transform check]
plugin = filter
condition = $1
[sink verify]
plugin = verify_sink
expect = counts
report = report
${2-}
END
  mv fleet.new fleet.ini
}

kept_promise() { said report 'lost 0, duplicated 0, out of order 0, corrupted 0; promise kept'; }
healthy() { "$bin/fmspipe" health --ready "$here" >/dev/null 2>&1; }

fleet 'speed >= 0'
start fleet --admin="$here",127.0.0.1:0 fleet.ini
until_true 30 "the pipeline is ready" healthy

# --- 1. What is printed, and the exit statuses.
asked 0 reload "$here"
said out 'nothing has changed'
fleet 'speed >= -1'
for dry in plan 'reload --dry-run' plan; do # it changes nothing, so it says the same again
  # shellcheck disable=SC2086
  asked 0 $dry "$here"
  [ "$(cat out)" = 'fleet: transform check: condition speed >= 0 -> speed >= -1: swapped' ] || fail "$dry: $(cat out)"
done
asked 0 reload "$here"
[ "$(cat out)" = 'fleet: transform check: condition speed >= 0 -> speed >= -1: swapped
reloaded' ] || fail "reload: $(cat out)"
asked 0 plan "$here"
[ "$(cat out)" = 'nothing has changed' ] || fail "what was done is to be done: $(cat out)"

fleet 'speed >=' # no condition
for ask in plan reload; do
  asked 2 $ask "$here"
  said out 'error: fleet.ini:11:'
done
said out 'not reloaded: a file is bad, and all goes on as it was'
rm fleet.ini
asked 2 reload "$here"
fleet 'speed >= -1' '[sink copy]
plugin = file
path = /nowhere/copy'
asked 1 reload "$here"
said out 'fleet: sink copy: comes'
said out '/nowhere/copy'
said out 'not reloaded: what failed goes on as it was'
fleet 'speed >= -1'
sed -i 's/^drain_timeout.*/&\nvehicle = ${key}\nvehicle_fields = speed..most/' fleet.ini
asked 2 plan "$here"
said out 'vehicle_fields: "speed..most" is no path of a payload'

# --- 2. Who may ask, and how.
said fleet.log 'watch it at http://127.0.0.1:'
tcp=$(sed -n 's|.*watch it at http://\(.*\)/$|\1|p' fleet.log)
asked 2 reload "$tcp"
said err 'over a unix socket only'
[ "$(curl -s -o out -w '%{http_code}' -X POST "http://$tcp/reload")" = 403 ] || fail "TCP was not refused: $(cat out)"
said out 'over unix sockets only'
asked 2 reload more "$here"
asked 1 reload "unix:$work/nobody"

# --- 3. A reload that takes its time: another waits, and one whose client goes is done all the same.
dead='[sink dead]
plugin = mqtt_sink
server = tcp://127.0.0.1:1
qos = 1
topic = x'
fleet 'speed >= -1' "$dead"
asked 0 reload "$here"
said out 'fleet: sink dead: comes'
# Who serves HTTP gives way to all else; the threads that a stage makes, which somebody has asked for there, do not.
given_way() {
  sed 's/.*) //' "/proc/${pid_of[fleet]}"/task/*/stat | awk -v its="$(sed 's/.*) //' "/proc/${pid_of[fleet]}/stat" | cut -d' ' -f17)" '$17 != its' | wc -l
}
[ "$(given_way)" -le 2 ] || fail "$(given_way) threads have given way, and not only the two that look and answer"
fleet 'speed >= -1'
rm -f first
"$bin/fmspipe" reload "$here" >first 2>&1 &
first=$!
until_true 30 "the first has begun" grep -q 'sink dead: goes' first
asked 0 reload "$here"
said out 'nothing has changed'
wait $first || fail "the first ended with $?"
said first 'reloaded'
said fleet.log 'it has gone, and with it'
! grep -q 'has settled none of them' fleet.log || fail "a stage that has just come is said to hang"
fleet 'speed >= -1' "$dead"
asked 0 reload "$here"
fleet 'speed >= -2'
rm -f first
"$bin/fmspipe" reload "$here" >first 2>&1 &
first=$!
until_true 30 "the first has begun" grep -q 'sink dead: goes' first
kill -KILL $first
wait $first 2>/dev/null || true
asked 0 plan "$here"
[ "$(cat out)" = 'nothing has changed' ] || fail "it was not done: $(cat out)"

# --- 4. SIGHUP: where there is no terminal.
fleet 'speed >= -3'
times=$(grep -c ' reloaded$' fleet.log)
kill -HUP "${pid_of[fleet]}"
until_true 30 "SIGHUP reloads" logged fleet ' reloaded$' $((times + 1))
said fleet.log 'reload: fleet: transform check: condition speed >= -2 -> speed >= -3: swapped'

# In a terminal, which could hang up, it stops.
terminal() { SHELL=/bin/bash script -qec "echo \$\$ >pid; exec $bin/fmspipe terminal.ini" /dev/null <keys >shown; }
sed 's/counts = counts//; s/^report = report/report = other/; s/^expect.*//' fleet.ini >terminal.ini
mkfifo keys
terminal &
exec 4>keys
until_true 30 "it runs in a terminal" grep -qs 'terminal: starts' shown
kill -HUP "$(cat pid)"
wait $! || fail "in a terminal it ended with $?: $(cat shown)"
exec 4>&-
said shown 'SIGHUP: stopping'

# One that is asked for as the process ends holds nothing up.
for i in 1 2 3 4 5; do
  start end$i terminal.ini
  until_true 30 "it runs" logged end$i 'terminal: starts'
  kill -HUP "${pid_of[end$i]}"
  stop end$i TERM
done

# Nor does one that is asked for while what is in flight is settled, however it is asked for.
{ cat terminal.ini; echo "$dead"; } >late.ini
start late --admin="unix:$work/late" late.ini
until_true 30 "it runs" logged late 'late: starts'
until_true 30 "something is in flight" logged late 'sink dead: '
kill -TERM "${pid_of[late]}"
until_true 30 "it stops" logged late 'SIGTERM: stopping'
sed -i 's/speed >= -3/speed >= -4/' late.ini
asked 1 reload "unix:$work/late"
said out 'late: it has ended, or is about to, and is not changed any more'
sleep 0.6 # what comes earlier is no second signal
kill -HUP "${pid_of[late]}"
wait "${pid_of[late]}" && fail "records that nobody took were settled"
said late.log 'SIGHUP: not reloaded: the process is about to end'
said late.log 'records left unsettled' # it was not ended at once

# What is told of them to those who watch.
reloads() { curl -s --unix-socket socket http://fmspipe/status | jq -c .reload; }
counted() { [ "$(reloads | jq "$1")" = true ]; }
until_true 30 "/status has counted them" counted '.done == 8 and .kept == 1 and .bad == 2 and .good and .last > 1e9'
fleet 'speed >='
asked 2 reload "$here"
until_true 30 "/status tells that the last one was bad" counted '.bad == 3 and (.good | not)'
curl -s --unix-socket socket http://fmspipe/metrics >metrics
for line in 'fmspipe_config_last_reload_successful 0' 'fmspipe_reloads_total{result="bad"} 3' 'fmspipe_reloads_total{result="kept"} 1'; do
  grep -qxF "$line" metrics || fail "/metrics lacks $line"
done
fleet 'speed >= -3'

# --- 5. Again and again: nothing grows.
python3 "$tests/reload_often.py" fleet.ini socket "${pid_of[fleet]}" 500 >sizes
read -r files_before kib_before < <(sed -n 1p sizes)
read -r files_after kib_after < <(sed -n 2p sizes)
[ "$files_after" -le "$files_before" ] || fail "$files_before open files became $files_after"
grep -qE '__(asan|tsan)_init' "$bin/fmspipe" || # which keep what was freed
  [ "$((kib_after - kib_before))" -lt 4096 ] || fail "$kib_before KiB became $kib_after"

# --- 6. What [pipeline] says, while records flow: it is seen, under its name, and what was counted stays counted.
# own LINE...: these stand there, too
own() {
  fleet 'speed >= -3'
  printf '%s\n' "$@" | sed -i '/^\[pipeline\]/r /dev/stdin' fleet.ini
  asked 0 reload "$here"
}
get() { curl -s --unix-socket socket "http://fmspipe/$1"; }
shows() { [ "$(get status | jq ".pipelines[0] | $1")" = true ]; }
received() { get status | jq '.pipelines[0].counts.received'; }
before=$(received)
"$bin/fmspipe" tap 'transform check' --rate=50 "$here" >tapped &
tap=$!
until_true 30 "there is a tap" test -s tapped
own 'name = other'
said out 'fleet: pipeline: name (not set) -> other: at once'
until_true 30 "it is known as other" shows '.name == "other" and .counts.received >= '"$before"
get metrics >seen
grep -q 'fmspipe_records_received_total{pipeline="other"}' seen || fail "/metrics does not tell of other"
! grep -q 'pipeline="fleet"' seen || fail "/metrics tells of fleet"
[ "$(get 'history?pipeline=other' | jq '.time | length > 0')" = true ] || fail "its history is gone: $(get 'history?pipeline=other')"
more_than() { [ "$(wc -l <"$1")" -gt "$2" ]; }
until_true 30 "the tap goes on" more_than tapped "$(wc -l <tapped)"
kill "$tap"
wait "$tap" || true
own 'name = other' 'time = ${json:timestamp}' 'vehicle = ${json:vehicle_id}' 'vehicle_fields = speed'
until_true 30 "its vehicles are known" shows '.vehicles.new == 20 and .age.count > 0'
vehicles() { get "vehicles?pipeline=other&limit=100"; }
known() { vehicles | jq '[.vehicles[].records] | add'; }
before=$(known)
own 'name = other' 'vehicle = ${json:vehicle_id}' 'vehicle_fields = rpm, speed' 'max_vehicles = 50' 'silent_after = 5m'
[ "$(vehicles | jq '.silent_after == 300 and .limit == 50 and .total == 20 and .fields == ["rpm", "speed"]')" = true ] ||
  fail "its vehicles: $(vehicles)"
[ "$(known)" -ge "$before" ] || fail "of $before records of vehicles $(known) are known"
tell_rpm() { [ "$(vehicles | jq '[.vehicles[].fields.rpm] | all')" = true ]; }
until_true 30 "the new field is looked at" tell_rpm
own 'name = other' 'vehicle = ${key}x'
[ "$(vehicles | jq '[.vehicles[].vehicle | endswith("x")] | all')" = true ] || fail "other vehicles: $(vehicles)"
before=$(received)
own
until_true 30 "its name is its file's again" shows '.name == "fleet" and .vehicles == null and .counts.received >= '"$before"
stop fleet TERM
kept_promise
said fleet.log 'info  other, transform check: kept'

# Two pipelines of one process have two names.
two() {
  for i in 1 2; do
    printf '[pipeline]\nname = %s\n[source]\nplugin = fms_sim\n[sink none]\nplugin = null_sink\n' "${!i}" >two$i.ini
  done
}
two a b
start two --admin="$here" two1.ini two2.ini --until=a
until_true 30 "both are ready" healthy
two b b
asked 2 reload "$here"
said out "the pipeline's name \"b\" is also that of two1.ini"
two b a # two that would exchange theirs take a step between
asked 1 reload "$here"
said out 'a: it does not change: pipeline b, which was to change, still has its name'
two c a
asked 0 reload "$here"
two b a
asked 0 reload "$here"
stop two TERM

# What files hold is read again, and is as it was where the old ones come back.
echo 'speed >= -1' >condition
echo 100 >rate
cat >files.ini <<'END'
[source]
plugin = fms_sim
rate = ${file:rate}
[transform check]
plugin = filter
condition = ${file:condition}
[sink none]
plugin = null_sink
END
start files --admin="unix:$work/files" files.ini
until_true 30 "it runs" logged files 'files: starts'
asked 0 plan "unix:$work/files"
[ "$(cat out)" = 'nothing has changed' ] || fail "files that hold the same: $(cat out)"
echo 'speed >= -2' >condition
asked 0 reload "unix:$work/files"
[ "$(cat out)" = 'files: transform check: what its files hold: swapped
reloaded' ] || fail "a file that holds something else: $(cat out)"
asked 0 plan "unix:$work/files"
[ "$(cat out)" = 'nothing has changed' ] || fail "what was done is to be done: $(cat out)"
rm condition
asked 2 reload "unix:$work/files"
said out 'files.ini:6: [transform check] condition = "${file:condition}": column 1: the file condition is not there'
echo 'speed >= -2' >condition
rm rate
sed -i 's/^rate = .*/rate = 200/' files.ini # the new ones do not need it
asked 0 reload "unix:$work/files"
said out 'files: source: rate ${file:rate} -> 200: reopened'
stop files TERM

# Sinks that have for good what they take, and others: the source is told, and what is on its way is lost or repeated nowhere.
cat >from.ini <<END
[source]
plugin = fms_sim
vehicles = 20
rate = 20000
sequence = yes
counts = counts
[sink queue]
plugin = spool
path = from
sync = off
END
# through [MORE]: a file
through() { printf '[source]\nplugin = spool\npath = from\nsync = off\n[sink kept]\nplugin = spool\npath = to\nsync = off\n%s' "${1-}" >through.ini; }
cat >to.ini <<END
[source]
plugin = spool
path = to
sync = off
[sink verify]
plugin = verify_sink
expect = counts
idle_timeout = 30s
report = report
END
rm -f counts report
through
start queues --admin="$here" from.ini through.ini
until_true 30 "both are ready" healthy
for _ in 1 2 3 4 5 6 7 8; do
  through '[sink none]
plugin = null_sink
'
  asked 0 reload "$here"
  said out 'through: source: its sinks have for good what they take: yes -> no: reopened'
  through
  asked 0 reload "$here"
  said out 'through: source: its sinks have for good what they take: no -> yes: reopened'
done
asked 0 plan "$here"
[ "$(cat out)" = 'nothing has changed' ] || fail "what was said at the start is said again: $(cat out)"
stop queues TERM
start rest --until=to through.ini to.ini
ended rest
kept_promise

# --- 7. --watch: an editor's new file, and a folder that Kubernetes puts behind a symbolic link.
swapped() { logged "$1" "condition speed >= $2 -> speed >= $3: swapped"; }
fleet 'speed >= 0'
start watched --watch --log-level=debug fleet.ini
until_true 30 "it runs" logged watched 'fleet: starts'
cp fleet.ini copy
mv copy fleet.ini # it holds the same
fleet 'speed >= -1'
until_true 30 "an editor is noticed" swapped watched 0 -1
mkdir elsewhere
touch elsewhere/report report.other # beside it, and not it
sed 's/speed >= -1/speed >= -2/' -i fleet.ini
until_true 30 "sed -i is noticed" swapped watched -1 -2
cat fleet.ini >elsewhere/kept
sed 's/speed >= -2/speed >= -3/' elsewhere/kept >fleet.ini # in place
until_true 30 "what is written in place is noticed" swapped watched -2 -3
sed 's/speed >= -3/speed >=/' -i fleet.ini
until_true 30 "a bad file is told" logged watched 'not reloaded: a file is bad'
fleet 'speed >= -3'
until_true 30 "the good one is there again" logged watched 'debug reloaded'
rm fleet.ini
mkfifo fleet.ini # to which nobody writes: nobody waits for him
until_true 30 "what is no file is told" logged watched 'is no file that can be read again'
rm fleet.ini
fleet 'speed >= -3'
until_true 30 "the good one is there again" logged watched 'debug reloaded' 2
[ "$(grep -c 'info  reloaded' watched.log)" = 3 ] || fail "it reloaded more often than the file changed: $(grep reloaded watched.log)"
stop watched TERM
kept_promise

# map FOLDER CONDITION: as the kubelet does it
map() {
  mkdir "map/..$1"
  fleet "$2"
  mv fleet.ini "map/..$1/fleet.ini"
  ln -s "..$1" map/..data_tmp
  mv -T map/..data_tmp map/..data
}
mkdir map
map 2026_11_29 'speed >= 0'
ln -s ..data/fleet.ini map/fleet.ini
start mapped map/fleet.ini --watch
until_true 30 "it runs" logged mapped 'fleet: starts'
map 2026_11_30 'speed >= -1'
rm -r map/..2026_11_29
until_true 30 "the link is followed" swapped mapped 0 -1
map 2026_12_01 'speed >= -2'
rm -r map/..2026_11_30
until_true 30 "the link is followed again" swapped mapped -1 -2
stop mapped TERM
kept_promise

echo "reloads do what the files ask for, and lose nothing"
