#!/usr/bin/env bash
# What health and status print and how they exit, where a script stands for the process that is looked at.
#   test_client.sh FMSPIPE
set -euo pipefail
fmspipe=$(realpath "$1")
stub=$(realpath "$(dirname "$0")")/watch_stub.py
work=$(mktemp -d)
cd "$work"
python3 "$stub" socket . 2>stub.log &
stub_pid=$!
trap 'kill $stub_pid; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; head -n 20 out err stub.log >&2; exit 1; }
limit=$((SECONDS + 10))
until [ -S socket ]; do
  [ $SECONDS -lt $limit ] || fail "the stub does not listen"
  sleep 0.05
done
here=unix:$work/socket
export -n FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE

# expect STATUS ARGUMENT...; said FILE TEXT
expect() {
  local wanted=$1 status=0
  shift
  timeout 20 "$fmspipe" "$@" >out 2>err || status=$?
  [ $status = "$wanted" ] || fail "$* ended with $status, not $wanted"
}
said() { grep -qF -- "$2" "$1" || fail "$1 lacks: $2"; }
silent() { [ ! -s "$1" ] || fail "$1 is not empty"; }

# 1. health: `ok`, or what fails and nothing else.
printf '200\nok\n' >livez
printf '503\n[+]bridge/source ok\n[-]bridge/sink kafka: down \033[2J since 14:02:11\nreadyz check failed\n' >readyz
expect 0 health "$here"
[ "$(cat out)" = ok ] || fail "a healthy process is not ok"
expect 1 health --ready "$here"
[ "$(cat out)" = '[-]bridge/sink kafka: down \x1b[2J since 14:02:11' ] || fail "not what fails, and that alone"
silent err
FMSPIPE_ADMIN=$here,127.0.0.1:1 expect 0 health
expect 0 health "$work/socket"
expect 0 health ./socket
expect 0 health --admin="$here"

# 2. What can go wrong says what it is, and what to do.
expect 1 health unix:/nowhere
said err 'nobody listens at unix:/nowhere: does fmspipe run, with --admin=unix:/nowhere?'
expect 2 health
said err 'there is no address: give that of --admin'
for nonsense in nonsense 127.0.0.1 127.0.0.1:0 'a b:80'; do
  expect 2 health "$nonsense"
  said err "an address is unix:/path/of/socket or host:port, not: $nonsense"
done
expect 2 health "unix:/$(printf '%0107d' 0)"
said err 'the path of a socket has 107 bytes at most'
expect 2 tap "$here" kafka
said err 'the address stands last'
expect 2 stats
said err 'there is no such command, and no such file: stats'
expect 0 help
said out 'usage: fmspipe'
expect 2 health http://a/b
said err 'an address is unix:/path/of/socket or host:port, not: http://a/b'
expect 2 health more "$here"
said err 'health takes an address, unix:/path/of/socket or host:port, and not: more'
echo secret >password
expect 1 health "$here"
said err 'it wants a password: give --admin-password-file'
echo wrong >wrong
expect 1 health --admin-password-file=wrong "$here"
said err 'it does not take the password of --admin-password-file'
expect 0 health --admin-password-file=password "$here"
FMSPIPE_ADMIN_PASSWORD_FILE=password expect 0 health "$here"
expect 2 health --admin-password-file=missing "$here"
said err 'cannot read the password in missing: No such file'
rm password livez
expect 1 health "$here"
said err 'is no fmspipe, or an older one'
printf '500\nbroken \033[2J\n' >livez
expect 1 health "$here"
said err 'HTTP status 500: broken \x1b[2J'
for answer in '200\n<html>\n' '503\n<html>\n'; do # of somebody else
  printf %b "$answer" >livez
  expect 1 health "$here"
  silent out
done
touch hang
expect 1 health "$here"
said err 'has not answered within 5 s'
rm hang
expect 1 health "unix:$work/wrong"
said err 'is no socket: an address is what --admin says of a process'
printf '405\nthis can be looked at only\n' >reload
expect 1 reload "$here"
said err 'is no fmspipe, or an older one'
rm reload

# 3. status: text, or the document in one line; its exit status is readiness.
cat >status <<'END'
200
{"fmspipe":"1","time":1000,"ready":true,
 "pipelines":[{"name":"bridge","verdict":"flowing","sentence":"Flowing: 5,012/s in","stages":[{"name":"source","rate_out":7.25}]}]}
END
expect 0 status "$here"
[ "$(head -n 1 out)" = 'bridge: Flowing: 5,012/s in' ] || fail "the sentence does not come first"
expect 0 status --json "$here"
{ [ "$(wc -l <out)" = 1 ] && [ "$(jq -r '.pipelines[0].stages[0].rate_out' out)" = 7.25 ]; } || fail "no document in one line"
sed -i 's/"ready":true/"ready":false/' status
expect 1 status "$here"
said out 'bridge: Flowing'
silent err
printf '200\n<html>\n' >status
expect 1 status "$here"
said err "what it says is no JSON"
silent out

# 4. tap and top: who says nothing, or is somebody else, and an output that takes nothing.
printf '200\n{"topic":"t"}\n' >tap
printf '200\n{"fmspipe":"1","pipelines":[{"name":"bridge","sentence":"Flowing"}]}\n' >status
touch events foreign
for command in 'tap kafka' top; do
  # shellcheck disable=SC2086 # words
  expect 1 $command "$here"
  said err 'is no fmspipe'
done
rm foreign
for command in 'tap kafka' top; do
  status=0
  # shellcheck disable=SC2086
  timeout 20 "$fmspipe" $command "$here" >/dev/full 2>err || status=$?
  [ $status = 1 ] || fail "$command to a full disk ended with $status"
  said err 'standard output'
done
touch hang
expect 1 tap kafka "$here"
said err 'has not answered within 5 s'
