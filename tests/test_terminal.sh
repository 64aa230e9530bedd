#!/usr/bin/env bash
# status, top and tap of a process that runs, as a user has them, in a terminal and without.
#   test_terminal.sh FMSPIPE
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE NO_COLOR
export LC_ALL=C.UTF-8
here=unix:$work/socket
cd "$work"

cat >fleet.ini <<'END'
[pipeline]
name = fleet
[source]
plugin = fms_sim
vehicles = 50
rate = 2000
[transform check]
plugin = fms_check
field.speed = number 0 to 60
[sink null]
plugin = null_sink
[dead_letter]
plugin = null_sink
END
start fleet --admin="$here" fleet.ini
healthy() { "$bin/fmspipe" health --ready "$here" >/dev/null 2>&1; }
until_true 30 "the pipeline is ready" healthy

# tap ARGUMENT...: into `out` and `err`; it has to end well
tap() { timeout 60 "$bin/fmspipe" tap "$@" "$here" >out 2>err || fail "tap $* ended with $?: $(cat err)"; }
# all JQ-CONDITION: holds for each line, of which there are some
all() { [ "$(jq -s "length > 0 and all(.[]; $1)" out)" = true ] || fail "not all are so: $1: $(head -n 3 out)"; }

# --- 1. tap: records as they pass, those that are asked for and no others.
tap source --limit=50
[ "$(wc -l <out)" = 50 ] || fail "50 are not 50"
all '(.payload | fromjson | has("speed")) and .topic == "fms/data" and (.key | startswith("raspi-")) and .headers == [] and
  .timestamp <= .time and .payload_size == (.payload | length)'
grep -q 'records shown: 50; dropped' err || fail "it does not say how many it has shown"
tap check --limit=20
tap check --out --limit=50
all '(.payload | fromjson | .speed) <= 60'
tap sink null --out --limit=20 --where='speed > 30 and vehicle_id ~ "raspi-00*"'
all '(.payload | fromjson | .speed > 30 and (.vehicle_id | startswith("raspi-00")))'
tap check --dead --limit=20
all '(.reason | contains("speed")) and (.payload | fromjson | .speed) > 60'
tap dead_letter --limit=5
all '[.headers[] | select(.name == "fms.reason")] | length == 1'

# --- 2. What cannot be says why.
refused() {
  local status=0
  timeout 60 "$bin/fmspipe" tap "${@:3}" >out 2>err || status=$?
  [ $status = "$1" ] || fail "tap ${*:3} ended with $status, not $1"
  grep -qF -- "$2" err || fail "tap ${*:3} does not say: $2: $(cat err)"
}
refused 1 'has no stage of that name; there are: source, transform check, sink null, dead_letter' nul "$here"
refused 1 'there is no pipeline of that name; there is: fleet' check --pipeline=other "$here"
refused 2 'over a unix socket only' check 127.0.0.1:9
refused 2 '--where: [transform filter] condition: column 9: expected' check --where='speed > ' "$here"
refused 2 'not both' check --out --dead "$here"
refused 2 '--limit takes a whole number from 1 to 1000000000, not: 0' check --limit=0 "$here"
tapping=()
for _ in 1 2 3 4; do
  "$bin/fmspipe" tap dead_letter --where='speed < 0' "$here" >/dev/null 2>>quiet.log &
  tapping+=($!)
  pids+=($!)
done
until_true 30 "four taps are open" logged fleet 'dead_letter: a tap was opened' 5
refused 1 'as many taps are open as there may be' check "$here"

# --- 3. Who has stopped reading, and who has gone, holds nobody up; a signal ends a tap well.
kill -STOP "${tapping[0]}"
{ kill -KILL "${tapping[1]}"; wait "${tapping[1]}" || true; } 2>/dev/null
received() { "$bin/fmspipe" status --json "$here" | jq '.pipelines[0].counts.received'; }
before=$(received)
more() { [ "$(received)" -gt $((before + 5000)) ]; }
until_true 30 "records pass all the same" more
until_true 30 "who has gone is found out" logged fleet 'dead_letter: a tap was closed' 2
kill -INT "${tapping[2]}"
wait "${tapping[2]}" || fail "a tap that was interrupted ended with $?"
kill -CONT "${tapping[0]}"
kill -TERM "${tapping[0]}"
wait "${tapping[0]}" || fail "a tap that was stopped ended with $?"

# --- 4. Of several pipelines one is to be named; who is always behind is told what was dropped all the same.
sed -e 's/name = fleet/name = fast/' -e 's/rate = 2000/rate = 20000/' fleet.ini >fast.ini
start fast --admin="unix:$work/two" fleet.ini fast.ini
until_true 30 "the second process is watched" logged fast 'fast: starts'
refused 1 'say which pipeline, by --pipeline=NAME or ?pipeline=NAME; there are: fleet, fast' source "unix:$work/two"
timeout 60 "$bin/fmspipe" tap source --pipeline=fleet --limit=1 "unix:$work/two" >out 2>err || fail "none of fleet"
behind() {
  { curl -sN --unix-socket two 'http://fmspipe/tap?stage=source&pipeline=fast' || true; } |
    python3 -c 'import sys, time; [(sys.stdout.write(sys.stdin.read(50000)), time.sleep(0.05)) for _ in range(60)]' >out
  grep -q '^{"dropped":[1-9]' out
}
until_true 30 "it is told what was dropped" behind
stop fast TERM

# --- 5. Without a terminal top prints lines, and status tells all.
timeout --preserve-status -s INT 3 "$bin/fmspipe" top "$here" >out 2>err || fail "top ended with $?"
grep -qE '^[0-9:]{8}Z fleet: Flowing: ' out || fail "top prints no lines: $(cat out)"
! grep -q $'\033' out || fail "top commands what is no terminal"
"$bin/fmspipe" status "$here" >out || fail "a pipeline that flows is not ready"
grep -q '^fleet: Flowing: ' out || fail "status does not begin with the sentence"
grep -qE '^  transform check +[0-9,]+ ' out || fail "status has no table"

# --- 6. In a terminal top draws in place, whatever its size, and leaves the screen as it was.
screen() { tmux -L "fmspipe-$$" "$@"; }
shows() { screen capture-pane -p >shown && grep -qE -- "$1" shown; }
lacks() { screen capture-pane -p >shown && ! grep -qE -- "$1" shown; }
fits() { screen capture-pane -p >shown && [ "$(wc -L <shown)" -le "$1" ] && [ "$(wc -l <shown)" -le "$2" ]; }
screen -f /dev/null new-session -d -x 100 -y 20 'env -u TMUX PS1=prompt-. bash --norc --noprofile'
trap 'screen kill-server 2>/dev/null || true; finish' EXIT
until_true 30 "a shell" shows 'prompt-\.'
screen send-keys "echo before; $bin/fmspipe top $here; echo ended with \$?" Enter
until_true 30 "top draws" shows '^fleet: Flowing'
shows '^  stage .* link' || fail "no table: $(cat shown)"
lacks before || fail "top draws among what was there"
screen resize-window -x 50 -y 6
until_true 30 "a small screen has the sentence and the keys" shows '^q: quit'
{ shows "^fleet: Flowing" && fits 50 6; } || fail "top does not fit: $(cat shown)"
screen send-keys j j j
until_true 30 "it can be moved" lacks '^fmspipe 0'
screen send-keys k k k
until_true 30 "and back" shows '^fmspipe 0'
screen resize-window -x 120 -y 30
until_true 30 "a large screen has all" shows '^  dead_letter'
screen send-keys p
until_true 30 "it is held" shows 'PAUSED'
screen send-keys q
until_true 30 "q quits" shows '^ended with 0'
shows '^before' || lacks '^fleet: ' || fail "the screen is not as it was: $(cat shown)"
screen send-keys 'stty -a | tr " " "\n" | grep -xE -e "-?(echo|icanon);?"' Enter
until_true 30 "the terminal is as it was" shows '^icanon$'
shows '^echo$' || fail "the terminal does not echo: $(cat shown)"

# --- 7. Without colours, and where the terminal has one screen alone.
screen set -w alternate-screen off
screen send-keys "clear; NO_COLOR=1 $bin/fmspipe top $here; echo ended" Enter
until_true 30 "top draws without colours" shows '^q: quit'
! screen capture-pane -pe | grep -q $'\033\\[[0-9;]*3[0-7]m' || fail "it has colours"
screen send-keys q
until_true 30 "the prompt does not stand behind the footer" shows '^ended'
screen set -w alternate-screen on

# --- 8. Ctrl-Z gives the screen back until fg.
screen send-keys "clear; $bin/fmspipe top $here" Enter
until_true 30 "top draws" shows '^q: quit'
screen send-keys C-z
until_true 30 "it is stopped" shows 'Stopped'
lacks '^q: quit' || fail "the screen is not given back: $(cat shown)"
screen send-keys fg Enter
until_true 30 "it goes on" shows '^q: quit'
screen send-keys q
until_true 30 "and ends" lacks '^q: quit'

# --- 9. A process that hangs is told from one that does well; so is one that has ended.
screen send-keys "clear; TERM=xterm $bin/fmspipe top $here" Enter
until_true 30 "top draws again" shows '^fleet: Flowing'
kill -STOP "${pid_of[fleet]}"
until_true 30 "silence is noticed" shows '^NOTHING IS HEARD since .* said nothing'
until_true 30 "by a tap, too" logged quiet 'has said nothing'
kill -CONT "${pid_of[fleet]}"
until_true 30 "and its end" lacks 'NOTHING IS HEARD'
until_true 30 "by a tap, too" logged quiet 'is heard again'
stop fleet TERM
wait "${tapping[3]}" || fail "a tap whose pipeline has ended, ended with $?"
logged quiet ' has ended' || fail "it does not say why"
until_true 30 "the end is noticed" shows '^NOTHING IS HEARD since .* nobody listens'
start fleet --admin="$here" fleet.ini
until_true 30 "a new process is found" lacks 'NOTHING IS HEARD'
screen send-keys C-c
until_true 30 "Ctrl-C quits" shows 'prompt-\.'
stop fleet TERM
