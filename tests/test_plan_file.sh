#!/usr/bin/env bash
# A file that only who asks can read is planned by a process that runs another one, which goes on as it was.
#   test_plan_file.sh FMSPIPE
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$tests/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE
cd "$work"
here=unix:$work/its/socket

# pipeline CONDITION [MORE]: a file
pipeline() {
  cat <<END
[source]
plugin = fms_sim
rate = 1000
[transform check]
plugin = filter
condition = $1
[sink null]
plugin = null_sink
${2-}
END
}

healthy() { "$bin/fmspipe" health --ready "$here" >/dev/null 2>&1; }

# run FILE...: as another user where that can be, in a folder of its own
as=()
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  as=(setpriv --reuid=10001 --regid=10001 --clear-groups --)
  chmod 755 "$work"
  "${as[@]}" "$bin/fmspipe" --version >/dev/null 2>&1 || as=()
fi
run() {
  [ ${#as[@]} = 0 ] || chown -R 10001:10001 its
  (cd its && exec "${as[@]}" "$bin/fmspipe" --admin="$here" "$@") 2>>its.log &
  pid_of[its]=$!
  pids+=($!)
  until_true 30 "the pipeline is ready" healthy
}

mkdir its ours
pipeline 'speed >= 0' >its/bridge.ini
echo 'speed >= 7' >its/condition
run bridge.ini

# --- 1. What would be done, and how that ends. The file is ours alone.
new=ours/bridge.ini
pipeline 'speed >= 5' >$new
chmod 600 $new
for words in "$new $here" "$new $work/its/socket" "./$new $here"; do
  # shellcheck disable=SC2086
  asked 0 plan $words
  says 'bridge: transform check: condition speed >= 0 -> speed >= 5: swapped'
done
FMSPIPE_ADMIN=$here asked 0 plan ./$new # a path that is no socket is no address
says 'bridge: transform check: condition speed >= 0 -> speed >= 5: swapped'
asked 0 plan "$here"
says 'nothing has changed'
cp $new ours/candidate.ini # the process has one file: it can stand for no other
asked 0 plan ours/candidate.ini "$here"
says 'bridge: transform check: condition speed >= 0 -> speed >= 5: swapped'
pipeline 'speed >=' >$new
asked 2 plan $new "$here"
said out "error: $new:6: [transform check]"
pipeline 'speed >= 0' '[sink copy]
plugin = file
path = /nowhere/copy' >$new
asked 0 plan $new "$here" # to open it would fail, and nothing is opened
says 'bridge: sink copy: comes'
pipeline 'speed >= 0' >$new
sed -i '1i[pipeline]\nname = other' $new
asked 0 plan $new "$here"
says 'bridge: pipeline: name (not set) -> other: at once'
: >$new
asked 2 plan $new "$here"
said out "error: $new: there is no [source] section"

# What the text names is the process's: its folder, its environment. To run code takes more than to ask.
# shellcheck disable=SC2016
pipeline '${file:condition}' >$new
asked 0 plan $new "$here"
# shellcheck disable=SC2016
says 'bridge: transform check: condition speed >= 0 -> ${file:condition}: swapped'
# shellcheck disable=SC2016
pipeline '${env:ONLY_OURS}' >$new
ONLY_OURS='speed >= 1' asked 2 plan $new "$here"
said out "error: $new:6: [transform check] condition"
sed 's|^plugin = filter|plugin = ./filter.so|' its/bridge.ini >$new
cp "$(dirname "$bin")/plugins/filter.so" its
asked 2 plan $new "$here"
said out "error: $new:5: plugin = ./filter.so: to load it is to run it"
! logged its 'reloaded' || fail "a plan has reloaded"
! grep -qF "$work/its/filter.so" "/proc/${pid_of[its]}/maps" || fail "a plan has loaded a file"

# --- 2. What cannot be asked.
asked 2 plan ours/none.ini "$here"
said err 'ours/none.ini: cannot be read: No such file'
asked 2 plan ours "$here"
said err 'ours: cannot be read: Is a directory'
asked 2 plan $new
said err "plan takes the address of a process, unix:/path/of/socket, behind: $new"
asked 2 plan "$here" $new
said err "the address stands last, with nothing behind it: $new"
asked 2 plan $new $new "$here"
said err 'plan takes one file'
asked 2 plan $new 127.0.0.1:80
said err 'over a unix socket only'
asked 1 plan $new "unix:$work/nobody"
said err "nobody listens at unix:$work/nobody"
asked 2 reload ./$new
said err "an address is unix:/path/of/socket or host:port, not: ./$new"
asked 1 plan "unix:$new"
said err "unix:$new is no socket"
asked 2 reload $new "$here"
said err 'fmspipe plan FILE ADDRESS tells what another one would change'
pipeline 'speed >= 0' >$new
head -c 262144 /dev/zero | tr '\0' '\n' >>$new
truncate -s 262144 $new
asked 0 plan $new "$here"
says 'nothing has changed'
echo >>$new
asked 2 plan $new "$here"
said err "$new: larger than 256 KiB"
if [ ${#as[@]} != 0 ]; then
  status=0
  setpriv --reuid=10002 --regid=10002 --clear-groups -- "$bin/fmspipe" plan its/bridge.ini "$here" >out 2>err || status=$?
  [ $status = 1 ] || fail "another user's ended with $status"
  said err 'may not be used by you: be the user that fmspipe runs as'
fi
stop its TERM

# --- 3. Several files: that of the same name is meant, by as much of its path as it takes.
mkdir -p its/one its/two
mv its/bridge.ini its/one
cp its/one/bridge.ini its/two
sed -i '1i[pipeline]\nname = second' its/two/bridge.ini
pipeline 'speed >= 0' >its/alone.ini
run one/bridge.ini two/bridge.ini alone.ini
mkdir -p ours/two
pipeline 'speed >= 5' >ours/alone.ini
asked 0 plan ours/alone.ini "$here"
says 'alone: transform check: condition speed >= 0 -> speed >= 5: swapped'
sed 's/speed >= 0/speed >= 6/' its/two/bridge.ini >ours/two/bridge.ini
asked 0 plan ours/two/bridge.ini "$here"
says 'second: transform check: condition speed >= 0 -> speed >= 6: swapped'
cp ours/two/bridge.ini ours/bridge.ini
asked 1 plan ours/bridge.ini "$here"
said out 'ours/bridge.ini: it may stand for one/bridge.ini, or for two/bridge.ini: give a path that ends as one of these does'
asked 1 plan ours/candidate.ini "$here"
said out 'none of this name'
stop its TERM

echo "a file is planned before the process has it"
