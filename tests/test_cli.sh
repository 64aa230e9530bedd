#!/bin/bash
# test_cli.sh FMSPIPE PIPELINES: the command line: exit codes, what it prints where, signals.
# Uses the plugins fms_sim, null_sink, console_sink and verify_sink, which the program finds by itself or by FMSPIPE_PLUGIN_PATH.
set -euo pipefail

# SIGHUP may be ignored where this runs, as by nohup, which a shell cannot undo.
[ "${FMS_HANGUP:-}" = default ] || FMS_HANGUP=default exec env --default-signal=HUP "$0" "$@"

fmspipe=$(realpath "$1")
pipelines=$(realpath "$2")
work=$(mktemp -d)
child=
trap 'if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAILED: $*" >&2
    sed 's/^/    stdout: /' out >&2
    sed 's/^/    stderr: /' err >&2
    exit 1
}

# expect STATUS ARGUMENT...: runs fmspipe; its output is in `out` and `err` afterwards
expect() {
    local expected=$1 status=0
    shift
    timeout 60 "$fmspipe" "$@" >out 2>err || status=$?
    [ "$status" -eq "$expected" ] || fail "fmspipe $* exited with $status, not $expected"
}

# said FILE TEXT: a line of the file holds the text
said() {
    grep -qF -- "$2" "$1" || fail "\"$2\" is not in $1"
}

# wait_for FILE TEXT: the same, within 30 seconds
wait_for() {
    local deadline=$((SECONDS + 30))
    until grep -qF -- "$2" "$1"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for \"$2\" in $1"
        sleep 0.02
    done
}

# start ARGUMENT...: runs fmspipe in the background
start() {
    : >out
    : >err
    "$fmspipe" "$@" >out 2>err &
    child=$!
}

# ended STATUS: the one in the background ends with it, within 30 seconds
ended() {
    local deadline=$((SECONDS + 30)) status=0
    while kill -0 "$child" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.02
    done
    kill -0 "$child" 2>/dev/null && fail "it did not end"
    wait "$child" || status=$?
    child=
    [ "$status" -eq "$1" ] || fail "it exited with $status, not $1"
}

# insist: sends SIGTERM until the one in the background has gone, for 30 seconds; those within half a second count as one
insist() {
    local deadline=$((SECONDS + 30))
    while kill -TERM "$child" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.1
    done
}

# fill: makes the pipe `pipe`, which is full, and which nobody reads until `exec 3>&-`
fill() {
    rm -f pipe
    mkfifo pipe
    exec 3<>pipe
    dd if=/dev/zero bs=4096 count=1000 oflag=nonblock >&3 2>/dev/null || true
}

# lines MORE: the file `out` gets more lines than that, within 30 seconds
lines() {
    local deadline=$((SECONDS + 30))
    until [ "$(wc -l <out)" -gt "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $1 lines"
        sleep 0.02
    done
}

cat >finite.ini <<'END'
[source]
plugin = fms_sim
vehicles = 3
rate = 0
count = 100
[sink console]
plugin = console_sink
format = json
END

cat >endless.ini <<'END'
[source]
plugin = fms_sim
interval = 10ms
[sink null]
plugin = null_sink
END

# --- what it says of itself
expect 0 --help
said out "usage: fmspipe"
said out "exit status: 0 done; 1 a failure, records left unsettled, a test that failed, not healthy, or not reloaded; 2 bad configuration"
[ ! -s err ] || fail "--help wrote to stderr"
expect 0 --version
grep -qE '^fmspipe [0-9]+\.[0-9]+\.[0-9]+$' out || fail "--version is no version"
expect 0 plugins
said out "fms_sim"
said out "null_sink"
expect 0 describe null_sink
said out "null_sink"
expect 0 describe fms_sim
said out "vehicles"
expect 0 describe --format=markdown fms_sim
said out "|"
expect 0 describe pipeline
said out "max_in_flight_bytes"
expect 0 describe test
said out "expect.NAME"

# --- output that cannot be written is a failure, of each command that has some
printf '[source]\nplugin = fms_sim\n[transform r]\nplugin = filter\ncondition = speed > 0\n[sink n]\nplugin = null_sink\n[test t]\ninput.1 = {}\n' >tested.ini
for arguments in --help --version plugins "describe fms_sim" "check finite.ini" "test tested.ini" "probe finite.ini" \
    "new-plugin --type=sink made"; do
    status=0
    # shellcheck disable=SC2086
    timeout 60 "$fmspipe" $arguments >/dev/full 2>err || status=$?
    [ "$status" -eq 1 ] || fail "$arguments to a full device exited with $status, not 1"
    said err "standard output cannot be written, and lacks what was to stand there"
done

# --- bad usage
expect 2
said err "--help"
expect 2 --no-such-option
said err "unknown option, or the beginning of several: --no-such-option; see fmspipe --help"
expect 2 --log finite.ini # -format or -level
said err "unknown option, or the beginning of several: --log;"
expect 2 check -x finite.ini
said err "unknown option, or the beginning of several: -x;"
expect 2 -h
said err "unknown option, or the beginning of several: -h;"
expect 2 --version=1
said err "this option takes no value: --version=1;"
expect 2 check finite.ini --log-level
said err "this option needs a value: --log-level;"
expect 2 check
expect 2 --log-format=xml finite.ini
said err "xml"
expect 2 --log-level=loud finite.ini
expect 2 --timeout=0 probe finite.ini
expect 2 --timeout=99999999999999999 probe finite.ini
expect 2 --until=nobody finite.ini
said err "nobody"
expect 2 describe no_such_plugin
said err "no_such_plugin"
expect 2 no_such_file.ini
said err "no_such_file.ini"

# --- tests in the file; neither source nor sink is touched
cat >tested.ini <<'END'
[source]
plugin = mqtt_ingest
server = tcp://no.such.host
topic = a
[sink kafka]
plugin = kafka_sink
brokers = no.such.host
topic = b

[test all_is_well]
input.a = {"n":1}
input.b = {"n":2}
key.b = kay
header.b.trace.id = 17
input_file = lines
expect.a = {"n":1}
expect_topic.a = fms/data
expect.b = {"n":2}
expect_key.b = kay
expect_header.b.trace.id = 17
expect_file = lines
END
printf '{"n":3}\n\n{"n":4}' >lines
expect 0 test tested.ini
said out "tested.ini:10: all_is_well: passed"
said out "1 passed, 0 failed"
[ ! -s err ] || fail "a test that passes wrote to stderr"
cat tested.ini - >untrue.ini <<'END'
[test differs]
input.a = {"n":1}
input.b = {"n":2}
expect.a = {"n":3}
expect_topic.a = fms/other
expect_header.a.trace = 1
reject.a = *
[test lacks]
input.a = {"n":1}
expect.a = {"n":1}
expect.b = {"n":2}
END
expect 1 test tested.ini untrue.ini
cat >expected <<'END'
tested.ini:10: all_is_well: passed
untrue.ini:10: all_is_well: passed
untrue.ini:22: differs: FAILED
  expect.a, its topic:
    - fms/other
    + fms/data
          ^
  expect.a, its header trace:
    - 1
    + (none)
  expect.a:
    - {"n":3}
    + {"n":1}
           ^
  a record that is not expected:
    + {"n":2}
  reject.a: there is none
    - *
untrue.ini:29: lacks: FAILED
  expect.b: there is none
    - {"n":2}
2 passed, 2 failed
END
diff expected out || fail "the report reads otherwise"
cat >timed.ini <<'END'
[source]
plugin = fms_sim
[transform check]
plugin = fms_check
field.n = integer 1 to 9
timestamp =
[transform throttle]
plugin = throttle
key = ${key}
interval = 10s
[sink null]
plugin = null_sink

[test an_hour_takes_no_time]
every = 4s
key = a
input.1 = {"n":1}
input.2 = {"n":2}
input.3 = {"n":30}
input.4 = {"n":4}
expect.1 = {"n":1}
expect.2 = {"n":2}
expect.4 = {"n":4}
reject.3 = n: 30 is above 9
END
expect 0 test timed.ini
cat tested.ini - >mistaken.ini <<'END'
[test nameless]
input.a = 1
key.b = 2
expect_topic.c = 3
[test empty]
expect.a = 1
[test]
input.a = 1
[test fileless]
input_file = no/such/file
[test unknown]
inpt.a = 1
END
for command in check test; do
    expect 2 "$command" mistaken.ini
    said err "mistaken.ini:24: [test nameless] key.b: there is no input.b"
    said err "mistaken.ini:25: [test nameless] expect_topic.c: there is no expect.c"
    said err "mistaken.ini:26: [test empty] has no input"
    said err "mistaken.ini:28: [test] has no name"
    said err "mistaken.ini:33: [test unknown] unknown option \"inpt.a\"; did you mean \"input.a\"?"
done
sed '/^\[test nameless/,/^\[test fileless/{/^\[test fileless/!d}; /^\[test unknown/,$d' mistaken.ini >fileless.ini
expect 2 test fileless.ini
said err "[test fileless] no/such/file: No such file or directory"

# --- a batch, compressed, of more items than fit in flight at once, one of which can never fit and one of which is none
awk 'BEGIN {
    for (i = 0; i < 100000; i++) {
        printf "%s{\"n\":%d", i == 0 ? "[" : ",", i
        if (i == 50000) printf ",\"x\":\"%2000000s\"", ""
        printf "}%s", i == 70000 ? ",true" : ""
    }
    print "]" }' >batch.json
printf '{"payload":{"base64":"%s"}}\n' "$(gzip -c batch.json | base64 -w 0)" >batch.gz
cat >batch.ini <<'END'
[pipeline]
max_in_flight_bytes = 4500KiB
[source]
plugin = file
path = batch.gz
format = record
[transform unpack]
plugin = decompress
[transform split]
plugin = split
key = ${json:n}
[sink file]
plugin = file
path = items
append = no
[dead_letter]
plugin = file
path = letters
format = record
append = no
END
expect 0 run batch.ini
said err "item 50000 at byte 588891: it does not fit max_in_flight_bytes; 1 more are no good"
[ "$(wc -l <letters)" = 1 ] || fail "not one dead letter: $(wc -l <letters)"
awk 'BEGIN { for (i = 0; i < 100000; i++) if (i != 50000) printf "{\"n\":%d}\n", i }' | cmp - items || fail "the items differ"

# --- check
cannot_go_on="one record that is rejected stops this pipeline at each start: add a [dead_letter] section"
for file in "$pipelines"/*.ini; do
    expect 0 check "$file"
    said out "$file: ok"
    ! grep -qF "$cannot_go_on" err || fail "$file is stopped for good by one record"
done
printf '[pipeline]\nname = p\n[source]\nplugin = file\npath = x\n[sink null]\nplugin = null_sink\n' >stuck.ini
expect 0 check stuck.ini
said err "stuck.ini:1: $cannot_go_on"
printf '[dead_letter]\nplugin = null_sink\n' | cat stuck.ini - >letters.ini
for policy in stop drop; do
    sed "s/^name = .*/on_reject = $policy/" stuck.ini >$policy.ini
done
sed 's/^name = .*/name = forgets/; s/plugin = file/plugin = fms_sim/; /^path/d' stuck.ini >forgets.ini
expect 0 check letters.ini stop.ini drop.ini forgets.ini
[ ! -s err ] || fail "what has a way out is warned of"
expect 0 check finite.ini endless.ini
said out "finite.ini: ok"
said out "endless.ini: ok"

# what a file promises, and each reason for which that is not exactly once
for file in "$pipelines"/*.ini; do
    expect 0 check "$file"
    said out " promises: "
    ! grep -qF "nothing is said of what it promises" out || fail "$file has a plugin that says nothing: $(cat out)"
done
expect 0 check "$pipelines"/bridge_exactly_once.ini
said out " promises: exactly once"
expect 0 check stuck.ini
said out "p promises: neither at least once nor at most once"
said out "stuck.ini:3: [source] without a position all of it is read again at each start: set position"
said out "stuck.ini:6: [sink null] nothing is kept of what it takes: another sink keeps it"
expect 0 run finite.ini
! grep -qF promises out err || fail "a run tells what check tells"
expect 2 check finite.ini ./finite.ini
said err "the pipeline's name \"finite\" is also that of"
expect 0 probe finite.ini

# --- a broken file: every error, with file and line, and nothing is started
cat >broken.ini <<'END'
[pipeline]
max_in_flight = lots
[source]
plugin = fms_sin
[sink null]
plugin = null_sink
colour = red
[snik]
END
for command in check run; do
    expect 2 "$command" broken.ini
    for place in "broken.ini:2: " "broken.ini:4: " "broken.ini:7: " "broken.ini:8: "; do
        said err "$place"
    done
    said err "did you mean \"fms_sim\"?"
    said err "did you mean [sink]?"
    [ "$(grep -c ' error ' err)" -eq 4 ] || fail "not four errors"
    [ ! -s out ] || fail "a broken file wrote to stdout"
done
expect 2 run finite.ini broken.ini
[ ! -s out ] || fail "a good pipeline was started beside a broken one"

# --- run: to its end; the word `run` may be left out; stdout belongs to console_sink
expect 0 finite.ini
[ "$(wc -l <out)" -eq 100 ] || fail "not 100 records on stdout"
said err "100 received, 100 delivered"
expect 0 --log-format=json run finite.ini
[ "$(wc -l <out)" -eq 100 ] || fail "not 100 records on stdout"
grep -vqE '^\{"time":"[^"]*","level":".*\}$' err && fail "a log line is no JSON"
expect 0 --log-level=error finite.ini
[ ! -s err ] || fail "--log-level=error says more"
expect 0 --until=finite finite.ini endless.ini
said err "endless: ended"

# --- signals
start endless.ini
wait_for err "endless: starts"
kill -TERM "$child"
ended 0
said err "SIGTERM: stopping"
said err "endless: ended"
said err ", 0 in flight"

start endless.ini
wait_for err "endless: starts"
kill -INT "$child"
ended 0
said err "SIGINT: stopping"

start endless.ini
wait_for err "endless: starts"
kill -HUP "$child" # there is no terminal that could hang up
wait_for err " reloaded"
kill -TERM "$child"
ended 0
said err "SIGHUP: reloading"

: >out
: >err
nohup "$fmspipe" endless.ini >out 2>err &
child=$!
wait_for err "endless: starts"
kill -HUP "$child"
kill -TERM "$child"
ended 0
said err "SIGTERM: stopping"
grep -q "SIGHUP" err && fail "SIGHUP stopped what nohup had started"

# --- shards
cat >shards.ini <<'END'
[pipeline]
shards = 3
replicas = ${env:REPLICAS}
replica = host-${env:REPLICA}
[source]
plugin = fms_sim
count = 10
topic = shard/${shard}
[sink console]
plugin = console_sink
format = json
END
REPLICAS=2 REPLICA=0 expect 0 shards.ini
said err "shards-0: ended: 10 received, 10 delivered"
said err "shards-2: ended: 10 received, 10 delivered"
grep -q "shards-1" err && fail "a shard runs that is another replica's"
REPLICAS=2 REPLICA=0 expect 0 --until=shards-2 shards.ini endless.ini
REPLICAS=2 REPLICA=2 expect 2 check shards.ini
said err "shards.ini:4: replica is 2, but replicas = 2, and they are counted from 0"
sed -i 's/{shard}/{shart}/' shards.ini
REPLICAS=2 REPLICA=1 expect 2 check shards.ini
[ "$(grep -c "unknown reference" err)" -eq 1 ] || fail "an error of the file is not told once"
sed -i 's/{shart}/{shard}/' shards.ini
REPLICAS=4 REPLICA=3 start shards.ini
wait_for err "there is nothing to run: waiting for a reload, or to be told to stop"
said err "shards.ini: replica 3 has none of the 3 shards"
kill -TERM "$child"
ended 0

# A full pipe that nobody reads holds console_sink up, so that the first signal ends it only after drain_timeout. Two signals at
# once are one.
cat >stuck.ini <<'END'
[pipeline]
drain_timeout = ${env:DRAIN}
stats_interval = 10ms
[source]
plugin = fms_sim
rate = 0
[sink console]
plugin = console_sink
format = json
[sink file]
plugin = file
path = taken
END
fill
: >out
for drain in 1s 1h; do
    : >err
    DRAIN=$drain "$fmspipe" stuck.ini >pipe 2>err &
    child=$!
    wait_for err ", 10000 in flight"
    kill -TERM "$child"
    kill -HUP "$child"
    wait_for err "stopping; a second signal ends at once"
    [ $drain = 1s ] || insist
    ended 1
    [ $drain = 1s ] || said err "second signal: ending at once"
    [ $drain = 1h ] || said err "records are left undelivered after drain_timeout"
done

# A plugin that does not return is not waited for either: verify_sink prints when it is closed. (The thread sanitizer flushes
# standard output even in _exit, and so would wait for it.) Nor beside a pipeline that has failed, with no signal at all; nor is one
# with a long drain_timeout waited for that has ended; and the first signal that comes meanwhile is a first one. Nor one that
# fails and does not return itself.
cat >unclosed.ini <<'END'
[pipeline]
drain_timeout = 10ms
[source]
plugin = fms_sim
sequence = yes
[sink verify]
plugin = verify_sink
END
cat >failing.ini <<'END'
[pipeline]
drain_timeout = 1h
[source]
plugin = fms_sim
rate = 0
count = 1
[transform check]
plugin = fms_check
field.never = string
[sink null]
plugin = null_sink
END
sed -e 's/^drain_timeout = .*/drain_timeout = 10ms/' -e "s/null/verify/" failing.ini >both.ini
# Nor one of a pipeline that has ended well by itself.
cat >alone.ini <<'END'
[pipeline]
drain_timeout = 1h
[source]
plugin = fms_sim
rate = 0
count = 1
sequence = yes
[sink verify]
plugin = verify_sink
END

# stuck ERR ARGUMENT...: runs it beside others; verify_sink will be stuck in `pipe`
stuck() {
    local err=$1
    shift
    : >"$err"
    "$fmspipe" "$@" >pipe 2>"$err" &
    child=$!
}
unclosed() {
    child=$1
    if grep -q __tsan_init "$fmspipe"; then
        kill -KILL "$child"
        ended 137
    else
        ended 1
    fi
}
stuck err.stopped unclosed.ini
stopped=$child
stuck err.beside unclosed.ini failing.ini
beside=$child
stuck err.both both.ini
both=$child
stuck err.ended alone.ini
ended=$child
wait_for err.stopped "unclosed: starts"
kill -TERM "$stopped"
wait_for err.beside "failing: failed"
kill -TERM "$beside"
wait_for err.beside "SIGTERM: stopping; a second signal ends at once"
wait_for err.stopped "unclosed: a plugin has not returned"
wait_for err.beside "unclosed: a plugin has not returned"
wait_for err.both "both: a plugin has not returned"
wait_for err.ended "alone: a plugin has not returned"
grep -q "after its pipeline began to close; the process ends without it" err.ended || fail "it does not say since when"
unclosed "$stopped"
unclosed "$beside"
unclosed "$both"
unclosed "$ended"
grep -q "failing: a plugin has not returned" err.beside && fail "it has returned"
grep -q "second signal: ending" err.beside && fail "the first signal was taken for a second one"
exec 3>&-

# Nothing that is said of a command line waits for who reads it, either.
fill
for arguments in --bad run; do
    status=0
    timeout 60 "$fmspipe" $arguments >out 2>pipe || status=$?
    [ "$status" -eq 2 ] || fail "$arguments with a standard error that is full exited with $status, not 2"
done
exec 3>&-

# Standard error that nobody reads: more is logged than it holds, records flow on, and signals are obeyed.
cat >talkative.ini <<'END'
[pipeline]
stats_interval = 1ms
[source]
plugin = fms_sim
rate = 0
[sink console]
plugin = console_sink
format = json
END
fill
: >err
for status in 0 1; do
    : >out
    if [ $status = 0 ]; then
        "$fmspipe" talkative.ini >out 2>pipe &
    else
        : >taken
        DRAIN=1h "$fmspipe" stuck.ini >pipe 2>pipe &
    fi
    child=$!
    if [ $status = 0 ]; then
        lines 100000
        lines $(($(wc -l <out) + 100000))
        kill -TERM "$child"
    else
        wait_for taken vehicle_id # by the file, and not by the console
        insist
    fi
    ended $status
done
[ "$(grep -vc '^{.*}$' out)" -eq 0 ] || fail "a line on stdout is not whole"
exec 3>&-

# --- standard descriptors that are closed: nothing else takes their place
cat >closed.ini <<'END'
[source]
plugin = fms_sim
rate = 0
count = 100
[sink file]
plugin = file
path = data
END
"$fmspipe" closed.ini 0<&- 1>&- 2>&- || fail "it exited with $? where its standard descriptors are closed"
[ "$(grep -c '^{.*}$' data)" -eq 100 ] || fail "not 100 records in the file"
[ "$(wc -l <data)" -eq 100 ] || fail "log lines are in the file"
status=0
"$fmspipe" finite.ini >&- 2>err || status=$?
[ "$status" -eq 1 ] || fail "it exited with $status where console_sink has no standard output"
said err "[sink console] standard output is closed"

# --- a stage that cannot be opened is no mistake of the file
sed 's|^path = .*|path = no/such/directory/data|' closed.ini >unopened.ini
expect 1 unopened.ini
said err "[sink file] path: no/such/directory/data"

# A template that needs a record is checked before there is one.
cat >early.ini <<'END'
[source]
plugin = fms_sim
topic = fms/${json:vehicle_id}
[sink null]
plugin = null_sink
END
expect 2 check early.ini
said err 'early.ini:3: [source] topic'

# What a plugin finds wrong when it is closed makes the run a failed one.
cat >verify.ini <<'END'
[source]
plugin = fms_sim
vehicles = 7
rate = 0
count = 1000
sequence = yes
counts = counts
[sink verify]
plugin = verify_sink
expect = ${env:EXPECT:-counts}
END
expect 0 verify.ini
said out 'lost 0, duplicated 0, out of order 0, corrupted 0; promise kept'
sed 's/raspi-003/raspi-009/' counts >other
EXPECT=other expect 1 verify.ini
said out '  missing: raspi-009 1 to 143'
said err 'sink verify: the promise was broken: lost 143'

# Whoever has installed a part of fmspipe has told what to do for the rest.
programs=$(basename "$(dirname "$fmspipe")") # bin, or what runs that by an emulator
mkdir -p part/bin "part/$programs" part/share/fmspipe
cp "$(dirname "$fmspipe")/../bin/fmspipe" part/bin
[ "$programs" = bin ] || cp "$fmspipe" "part/$programs"
fmspipe=$work/part/$programs/fmspipe
printf 'absent install the package fmspipe-absent\nfmspipe-client install another\nnew-plugin install the package fmspipe-dev\n' \
  >part/share/fmspipe/parts
printf '[source]\nplugin = absent\n[sink null]\nplugin = absen\n' >absent.ini
expect 2 check absent.ini
said err 'absent.ini:2: the plugin "absent" is not here: install the package fmspipe-absent'
said err 'absent.ini:4: there is no plugin "absen" in '
expect 1 status unix:absent.sock
said err 'fmspipe-client.so: cannot open shared object file: No such file or directory; install another'
expect 1 new-plugin mine --type=sink
said err '/share/fmspipe/new-plugin: No such file or directory; install the package fmspipe-dev'
[ ! -e mine ] || fail "a folder is begun that has nothing in it"
rm part/share/fmspipe/parts
expect 1 new-plugin mine --type=sink
said err 'No such file or directory; install all of fmspipe'
