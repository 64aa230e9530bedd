# What the scripts that run pipelines share; sourced by them.
# shellcheck shell=bash
: "${bin:?the folder of the programs}"
work=$(mktemp -d)
pids=()
declare -A pid_of

# finish [STATUS]: an exit status of 1 or more, but for 77 (skipped), shows the ends of the logs.
finish() {
  local status=${1:-$?} log
  for pid in "${pids[@]}"; do { kill -9 "$pid" && wait "$pid"; } 2>/dev/null || true; done
  if [ "$status" != 0 ] && [ "$status" != 77 ]; then
    for log in "$work"/*.log; do echo "--- $log"; tail -n 20 "$log"; done >&2
  fi
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# until_true SECONDS WHAT COMMAND...
until_true() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt "$limit" ] || fail "gave up waiting: $what"
    sleep 0.05
  done
}

# start NAME ARGUMENT...: runs fmspipe, its stdout in NAME.out and its log in NAME.log (appended); see ${pid_of[NAME]}.
start() {
  local name=$1
  shift
  "$bin/fmspipe" "$@" >>"$work/$name.out" 2>>"$work/$name.log" &
  pid_of[$name]=$!
  pids+=($!)
}

# ended NAME: waits for its end and fails if that was no good one. stop NAME SIGNAL: brings it about.
ended() { wait "${pid_of[$1]}" || fail "$1 ended with $?"; }
stop() {
  kill "-$2" "${pid_of[$1]}"
  if [ "$2" = KILL ]; then { wait "${pid_of[$1]}" || true; } 2>/dev/null; else ended "$1"; fi
}

# logged NAME PATTERN [TIMES]; lines NAME COUNT: whether it has put out so many
logged() {
  local times
  times=$(grep -c "$2" "$work/$1.log" 2>/dev/null) && [ "$times" -ge "${3:-1}" ]
}
lines() { [ -f "$work/$1.out" ] && [ "$(wc -l <"$work/$1.out")" -ge "$2" ]; }
ctl() { "$bin/fms-sandbox" ctl "$@"; }

# asked STATUS ARGUMENT...: fmspipe ends with that, its words in `out` and `err`. said FILE TEXT: it is there; says LINE...: `out` is that.
asked() {
  local wanted=$1 status=0
  shift
  timeout 60 "$bin/fmspipe" "$@" >out 2>err || status=$?
  [ $status = "$wanted" ] || fail "$* ended with $status, not $wanted: $(cat out err)"
}
said() { grep -qF -- "$2" "$1" || fail "$1 lacks \"$2\": $(cat "$1")"; }
says() { [ "$(cat out)" = "$(printf '%s\n' "$@")" ] || fail "it says not \"$*\" but: $(cat out)"; }
