#!/usr/bin/env bash
# What ${env:NAME} stands for is read again: from the file of --env-file, and from one that only who reloads can read.
#   test_env_file.sh FMSPIPE
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$tests/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE FMSPIPE_ENV_FILE LEAST
cd "$work"
here=unix:$work/its/socket
mkdir its ours
cat >its/bridge.ini <<'END'
[pipeline]
drain_timeout = 1s
[source]
plugin = fms_sim
rate = 1000
[transform check]
plugin = filter
condition = speed >= ${env:LEAST}
[sink null]
plugin = null_sink
[dead_letter]
plugin = mqtt_sink
server = ssl://127.0.0.1:1
qos = 1
topic = x
password = ${env:PASSWORD:-none}
END

runs() { "$bin/fmspipe" plan "$here" >/dev/null 2>&1; }
as=()
run() {
  [ ${#as[@]} = 0 ] || chown -R 10001:10001 its
  (cd its && exec "${as[@]}" "$bin/fmspipe" --admin="$here" "$@" bridge.ini) 2>>its.log &
  pid_of[its]=$!
  pids+=($!)
  until_true 30 "it runs" runs
}
# shellcheck disable=SC2016
{
  swapped='bridge: transform check: condition speed >= ${env:LEAST} has another value: swapped'
  reopened='bridge: dead_letter: password (a secret) has another value: reopened'
}

# --- 1. What reads files reads that one, too, and says where it is bad.
asked 2 check its/bridge.ini
said err 'the environment variable LEAST is not set'
printf '# ours\nLEAST="0"\n' >its/one.env
asked 0 check --env-file=its/one.env its/bridge.ini
FMSPIPE_ENV_FILE=its/one.env asked 0 check its/bridge.ini
LEAST=x asked 0 check --env-file=its/one.env its/bridge.ini # which comes first
LEAST=0 asked 0 check --env-file=-its/none.env its/bridge.ini
asked 2 check --env-file=its/none.env its/bridge.ini
said err 'its/none.env is not there'
printf 'LEAST=0\nexport PASSWORD=hunter2\n' >its/bad.env
for command in check probe test run; do
  asked 2 $command --env-file=its/bad.env its/bridge.ini
  said err 'its/bad.env:2: NAME=value expected'
  ! grep -q hunter2 err || fail "a value is shown"
done
asked 2 check --env-file=its/one.env --env-file=its/one.env its/bridge.ini
said err 'names one file, and this is one more'
asked 2 check --env-file=- its/bridge.ini
said err '--env-file needs a file'

# --- 2. It is read again, however the reload is asked for; and what is only planned is not in use.
run --env-file=one.env --watch
asked 0 reload "$here"
says 'nothing has changed
reloaded'
printf 'LEAST=-1\n' >its/one.env
until_true 30 "--watch follows it" logged its "reload: ${swapped//[$\{\}]/.}"
printf 'LEAST=-1\nPASSWORD=hunter1\n' >its/one.env
until_true 30 "a secret is no other" logged its 'reload: bridge: dead_letter: password (a secret) has another value: reopened'
echo 'LEAST' >its/one.env
until_true 30 "a bad one is told" logged its 'not reloaded: a file is bad'
said its.log 'one.env:1: NAME=value expected'
asked 2 reload "$here"
said out 'error: one.env:1: NAME=value expected'
asked 2 plan "$here"
rm its/one.env
asked 2 reload "$here"
said out 'the file one.env is not there'
printf 'LEAST=-1\nPASSWORD=hunter1\n' >its/one.env
asked 0 plan "$here"
says 'nothing has changed'
printf 'LEAST=-2\n' >ours/two.env
asked 0 plan --env-file=ours/two.env "$here"
says "$swapped
$reopened"
asked 0 plan "$here"
says 'nothing has changed'
stop its TERM

# --- 3. One that the process cannot read is sent to it, and stays.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  chmod 755 "$work"
  as=(setpriv --reuid=10001 --regid=10001 --clear-groups --)
  "${as[@]}" test -x "$bin/fmspipe" || as=()
fi
: >its.log
printf 'LEAST=-2\nPASSWORD=hunter2\n' >ours/two.env
chmod 700 ours
LEAST=0 run
asked 0 reload --dry-run --env-file=ours/two.env "$here"
says "$swapped
$reopened"
asked 0 reload --env-file=ours/two.env "$here"
says "$swapped
$reopened
reloaded"
said its.log 'asks for a reload with its ours/two.env'
asked 0 reload "$here"
says 'nothing has changed
reloaded'
kill -HUP "${pid_of[its]}"
until_true 30 "SIGHUP has what was sent" logged its ' reloaded$' 3
[ "$(grep -c 'has another value' its.log)" = 0 ] || fail "SIGHUP has changed something: $(cat its.log)"
echo 'LEAST=x y' >ours/bad.env # of which the pipeline can make nothing
asked 2 reload --env-file=ours/bad.env "$here"
said out 'error: bridge.ini:8: [transform check] condition'
echo 'LEAST x' >ours/bad.env
asked 2 reload --env-file=ours/bad.env "$here"
said out 'error: ours/bad.env:1: NAME=value expected'
asked 0 plan "$here"
says 'nothing has changed'
asked 2 reload --env-file=ours/none.env "$here"
said err 'ours/none.env: cannot be read: No such file'
asked 2 plan --env-file=ours/two.env its/bridge.ini "$here"
said err 'plan takes one file, its/bridge.ini or that of --env-file'
FMSPIPE_ENV_FILE=ours/bad.env asked 0 reload "$here" # set for processes, and not sent
asked 0 reload --env-file=-ours/none.env "$here" # all is as the process was started
says "$swapped
$reopened
reloaded"
! grep -q hunter its.log out || fail "a value is shown"
stop its TERM

echo "the environment is read again"
