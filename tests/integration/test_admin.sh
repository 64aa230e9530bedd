#!/usr/bin/env bash
# The watch over HTTP as a process has it: options, errors, sockets, passwords, what it costs.
#   test_admin.sh BIN LIBDIR OTHER: the folder of the programs; where libraries are, seen from beside it; a folder with a
#   fmspipe-admin.so of another version
set -euo pipefail
bin=$(realpath "$1")
libdir=$2
other=$(realpath "$3")
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/common.sh"
cd "$work"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE
export TSAN_OPTIONS="${TSAN_OPTIONS-}:atexit_sleep_ms=50" # many processes end here

cat >bridge.ini <<'END'
[source]
plugin = fms_sim
count = 0
rate = 1000
[sink null]
plugin = null_sink
END

# watched NAME ADDRESS... [-- OPTION...]: starts it; url_of[NAME] is where it listens on TCP
declare -A url_of
watched() {
  local name=$1 options=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("--admin=$1")
    shift
  done
  start "$name" "${options[@]}" "${@:2}" bridge.ini
  until_true 30 "$name starts" logged "$name" 'bridge: starts'
  url_of[$name]=$(sed -n 's|.*watch it at \(http:.*\)/$|\1|p' "$name.log")
}

# fails STATUS PATTERN OPTION...: it ends with that, says so, and has opened nothing
fails() {
  local status=0
  timeout 60 "$bin/fmspipe" "${@:3}" bridge.ini >refused.out 2>refused.log || status=$?
  [ $status = "$1" ] || fail "${*:3} ended with $status, not $1"
  grep -q -- "$2" refused.log || fail "${*:3} does not say: $2"
  ! grep -q 'bridge: starts' refused.log || fail "${*:3} has started the pipeline"
}

# status_of CURL-ARGUMENT...: of the answer
status_of() { curl -s -o body -w '%{http_code}' --max-time 20 "$@" || true; }
# answers STATUS PATTERN CURL-ARGUMENT...
answers() {
  local status
  status=$(status_of "${@:3}")
  [ "$status" = "$1" ] || fail "${*:3}: $status, not $1: $(cat body)"
  grep -q -- "$2" body || fail "${*:3}: no $2 in: $(cat body)"
}

# --- a process that is not watched has nothing of it
start unwatched bridge.ini
until_true 30 "it starts" logged unwatched 'bridge: starts'
! grep -qE 'fmspipe-admin|microhttpd' "/proc/${pid_of[unwatched]}/maps" || fail "an unwatched process has loaded the watch"

# --- what is answered
watched bridge 127.0.0.1:0 "unix:$work/a.sock"
url=${url_of[bridge]}
is_ready() { [ "$(status_of "$1/readyz")" = 200 ]; }
until_true 30 "it is ready" is_ready "$url"
for over in "" "--unix-socket a.sock"; do
  # shellcheck disable=SC2086
  {
    answers 200 '"name":"bridge"' $over "$url/status"
    answers 200 '^ok$' $over "$url/livez"
    answers 200 '^ok$' $over "$url/readyz"
    answers 200 '^\[+\]bridge ok$' $over "$url/livez?verbose"
  }
done
answers 404 'nothing by that name' "$url/nothing"
answers 405 'GET or HEAD' -X POST -d x "$url/status"
answers 403 'no page of another name' -H 'Host: example.com' "$url/status"
[ "$(status_of -I "$url/status")" = 200 ] || fail "HEAD"
[ "$(stat -c %a a.sock)" = 600 ] || fail "the socket's mode is $(stat -c %a a.sock)"
{ curl -sN --max-time 20 "$url/events" || true; } | grep -m 2 '^data: {"fmspipe"' >events.out
[ "$(wc -l <events.out)" = 2 ] || fail "events: $(cat events.out)"
threads() { sed -n 's/^Threads:\t//p' "/proc/${pid_of[$1]}/status"; }
[ "$(threads bridge)" -le $(($(threads unwatched) + 3)) ] || fail "the watch has more than three threads"

# --- what it costs, after all of that; not of an emulator, which keeps what it has translated
if [ "${bin##*/}" = bin ] && ! grep -qE 'lib(a|t|ub)san' "/proc/${pid_of[bridge]}/maps"; then
  resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${pid_of[$1]}/status"; }
  more=$(($(resident bridge) - $(resident unwatched)))
  echo "watched, a process has $more KiB more resident"
  [ $more -le 6144 ] || fail "the watch takes $more KiB, and 6144 are allowed"
fi

# --- sockets: of one that lives, of one that was killed
fails 1 "cannot listen at unix:$work/a.sock for --admin: another process listens there" "--admin=unix:$work/a.sock"
answers 200 '^ok$' --unix-socket a.sock http://localhost/livez
fails 1 "cannot listen at ${url#http://} for --admin: another process listens there" "--admin=${url#http://}"
stop bridge KILL
[ -S a.sock ] || fail "a killed process has cleaned up"
watched heir "unix:$work/a.sock"
answers 200 '^ok$' --unix-socket a.sock http://localhost/livez
curl -sN --max-time 20 --unix-socket a.sock http://localhost/events >stream.out &
listener=$!
pids+=("$listener")
until_true 30 "the stream begins" grep -q '^data: ' stream.out
stop heir TERM
wait "$listener" || fail "a stream does not end with the process, but breaks"
[ ! -e a.sock ] || fail "the socket is left behind"

# --- addresses that are none, or too many; of the environment
fails 2 '--admin=example.com:80: the host is neither an IP address nor localhost' --admin=example.com:80
fails 2 '--admin=127.0.0.1:66000: the port is no number' --admin=127.0.0.1:0,127.0.0.1:66000
fails 2 '--admin needs an address' --admin=
fails 2 '--admin needs an address' --admin=,
fails 2 '8 addresses at most' --admin=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0,127.0.0.1:0 \
  --admin=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0,127.0.0.1:0 --admin=127.0.0.1:0
FMSPIPE_ADMIN=127.0.0.1 fails 2 '--admin=127.0.0.1: the port is missing'
FMSPIPE_ADMIN="unix:$work/b.sock,127.0.0.1:0" watched environment
answers 200 '^ok$' --unix-socket b.sock http://localhost/livez
answers 200 '^ok$' "${url_of[environment]}/livez"
stop environment TERM
FMSPIPE_ADMIN=nonsense watched line 127.0.0.1:0 # which counts more
stop line TERM

# --- passwords
fails 1 '--admin-password-file=none: No such file or directory' --admin=127.0.0.1:0 --admin-password-file=none
: >password
fails 2 '--admin-password-file=password: its first line is empty' --admin=127.0.0.1:0 --admin-password-file=password
echo secret >password
watched guarded 0.0.0.0:0 "unix:$work/c.sock" -- --admin-password-file=password
! logged guarded 'whoever reaches' || fail "a warning in spite of the password"
url=http://127.0.0.1:${url_of[guarded]##*:}
answers 401 'password' "$url/status"
answers 401 'password' -u admin:wrong "$url/status"
answers 200 'bridge' -u admin:secret "$url/status"
answers 200 '^ok$' "$url/livez"
answers 200 'bridge' --unix-socket c.sock http://localhost/status
! grep -q secret guarded.log || fail "the log has the password"
stop guarded TERM
watched open 0.0.0.0:0
logged open 'whoever reaches 0.0.0.0:0 can watch this process' || fail "no warning"
stop open TERM

# --- without the shared object, or with another version's
programs=${bin##*/} # bin, or what runs that by an emulator
mkdir -p alone/bin "alone/$programs"
cp "$bin/../bin/fmspipe" alone/bin
[ "$programs" = bin ] || cp "$bin/fmspipe" "alone/$programs"
bin=$work/alone/$programs
fails 1 '--admin needs fmspipe-admin.so, .*No such file' --admin=127.0.0.1:0
mkdir -p "alone/$libdir/fmspipe"
cp "$other/fmspipe-admin.so" "alone/$libdir/fmspipe"
fails 1 'fmspipe-admin.so.* 0.0.1' --admin=127.0.0.1:0
stop unwatched TERM
echo "watched, guarded, refused, and cleaned up"
