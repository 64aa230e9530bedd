#!/usr/bin/env bash
# The pipelines of a process change while it runs: files in a folder come and go, and shards of a file; what is said, that the others go
# on, that who goes loses nothing, and that who looks meanwhile is told so.
#   test_reload_set.sh FMSPIPE
set -euo pipefail
bin=$(cd "$(dirname "$1")" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$tests/integration/common.sh"
unset FMSPIPE_ADMIN FMSPIPE_ADMIN_PASSWORD_FILE
cd "$work"
here=unix:$work/socket

# pipeline FILE RUN [LINE]: the file, made anew as an editor does it; RUN names its report, LINE stands in [pipeline]
pipeline() {
  cat >"$1.new" <<END
[pipeline]
drain_timeout = 5s
${3-}
[source]
plugin = fms_sim
vehicles = 10
rate = 1000
sequence = yes
counts = counts.$2
[sink verify]
plugin = verify_sink
expect = counts.$2
report = report.$2
END
  mv "$1.new" "$1"
}

kept_promise() { said "report.$1" 'lost 0, duplicated 0, out of order 0, corrupted 0; promise kept'; }
ready() { "$bin/fmspipe" health --ready "$here" >/dev/null 2>&1; }
page() { curl -s --unix-socket socket "http://fmspipe/$1"; }
names() { page status | jq -r '[.pipelines[].name] | join(" ")'; }
are() { [ "$(names)" = "$1" ]; }

# --- 1. A folder without files is a process that waits; what is no pipeline file is none, and folders and FIFOs in it are not looked into.
mkdir -p conf.d/old.ini
mkfifo conf.d/fifo.ini
touch conf.d/notes.txt conf.d/.hidden.ini conf.d/x.ini~
start set --admin="$here" conf.d/
until_true 30 "it waits" logged set 'there is nothing to run: waiting for a reload'
until_true 30 "it is ready, for nothing" ready
asked 0 plan "$here"
says 'nothing has changed'

# --- 2. Files come; one that is changed meanwhile is changed, and one that is bad stops all of it.
pipeline conf.d/b.ini b1
pipeline conf.d/a.ini a1
asked 0 plan "$here"
says 'pipeline a: comes' 'pipeline b: comes'
asked 0 reload "$here"
says 'pipeline a: comes' 'pipeline b: comes' reloaded
until_true 30 "both are there" are 'a b'
until_true 30 "both are ready" ready
asked 0 reload "$here"
says 'nothing has changed' reloaded
pipeline conf.d/c.ini c1
pipeline conf.d/b.ini b1 'bogus = yes'
asked 2 reload "$here"
said out 'error: conf.d/b.ini:3:'
said out 'not reloaded: a file is bad, and all goes on as it was'
are 'a b' || fail "a bad file has changed something: $(names)"
pipeline conf.d/b.ini b1
pipeline conf.d/d.ini d1 'name = c'
asked 2 reload "$here"
said out 'the pipeline'"'"'s name "c" is also that of conf.d/c.ini'
rm conf.d/d.ini
pipeline conf.d/b.ini b1 'stall_after = 20s'
asked 0 reload "$here"
says 'b: pipeline: stall_after (not set) -> 20s: at once' 'pipeline c: comes' reloaded
until_true 30 "all are there, in the order of their files" are 'a b c'

# --- 3. One goes while somebody looks at it: it is drained, and who looks is told so.
"$bin/fmspipe" tap --json --pipeline=b source "$here" >tapped 2>tap.err &
tap=$!
until_true 30 "the tap shows records" test -s tapped
curl -sN --unix-socket socket http://fmspipe/events >events &
events=$!
until_true 30 "events come" grep -q '"name":"b"' events
page metrics >before
grep -q 'pipeline="b"' before || fail "b has no series"
mv conf.d/b.ini conf.d/bb.ini
sed -i 's/b1/bb1/' conf.d/bb.ini # what was b is another one from now on
asked 0 plan "$here"
says 'pipeline b: goes' 'pipeline bb: comes'
asked 0 reload "$here"
says 'pipeline b: goes' 'pipeline bb: comes' reloaded
kept_promise b1
wait $tap || fail "the tap ended with $?: $(cat tap.err)"
until_true 30 "it is forgotten" are 'a bb c'
page metrics >after
! grep -q 'pipeline="b"' after || fail "b still has series"
grep -q 'pipeline="bb"' after || fail "bb has none"
for path in 'history?pipeline=b' 'vehicles?pipeline=b' 'tap?pipeline=b&stage=source'; do
  [ "$(curl -s -o out -w '%{http_code}' --unix-socket socket "http://fmspipe/$path")" = 404 ] || fail "/$path: $(cat out)"
done
events_tell() { tail -n 3 events | grep -q '"name":"bb"'; }
until_true 30 "events go on" events_tell
kill $events

# --- 4. One that does not open leaves the others as they are, and the next reload asks for it again.
pipeline conf.d/d.ini d1
cat >>conf.d/d.ini <<END
[sink copy]
plugin = file
path = there/copy
END
rm conf.d/c.ini
asked 1 reload "$here"
said out 'pipeline c: goes'
said out 'pipeline d: comes'
said out 'error: conf.d/d.ini:16: [sink copy] path: there/copy: cannot be opened: No such file or directory'
said out 'not reloaded: what failed goes on as it was'
kept_promise c1
until_true 30 "c has gone, and d has not come" are 'a bb'
mkdir there
asked 0 reload "$here"
says 'pipeline d: comes' reloaded
until_true 30 "d is there" are 'a bb d'

# --- 5. All go, and the process waits; others come; a folder that cannot be read changes nothing.
mv conf.d away
asked 2 reload "$here"
said out 'conf.d/: cannot be read'
are 'a bb d' || fail "a folder that is not there has changed something: $(names)"
mv away conf.d
rm conf.d/*.ini~ conf.d/a.ini conf.d/bb.ini conf.d/d.ini
kill -HUP "${pid_of[set]}"
until_true 30 "none is there" are ''
for run in a1 bb1 d1; do kept_promise $run; done
until_true 30 "it is ready, for nothing, again" ready
pipeline conf.d/a.ini a2
asked 0 reload "$here"

# --- 6. Again and again: nothing grows.
times=100
grep -qE '__(asan|tsan)_init' "$bin/fmspipe" && times=20
sizes() { echo "$(find /proc/"${pid_of[set]}"/fd -mindepth 1 | wc -l) $(sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/"${pid_of[set]}"/status)"; }
for ((i = 1; i <= times; i++)); do
  if ((i % 2)); then pipeline conf.d/z.ini z; else rm conf.d/z.ini; fi
  asked 0 reload "$here"
  ((i % 2)) || kept_promise z
  rm -f report.z counts.z
  ((i != times / 5)) || sizes >first
done
sizes >last
read -r files_before kib_before <first
read -r files_after kib_after <last
[ "$files_after" -le "$files_before" ] || fail "$files_before open files became $files_after"
[ $times = 20 ] || [ "$((kib_after - kib_before))" -lt 4096 ] || fail "$kib_before KiB became $kib_after"
grep -q '"done":[1-9][0-9]*' <(page status) || fail "/status has not counted"
stop set TERM
kept_promise a2

# --- 7. The process ends when all that it has have ended, whatever has gone before.
pipeline conf.d/a.ini a3
sed -i 's/^rate/count = 500\nrate/' conf.d/a.ini
pipeline conf.d/b.ini b3
start ends --admin="$here" conf.d
until_true 30 "a has ended" logged ends 'a: ended'
sed -i 's/^count = 500/count = 600/' conf.d/a.ini # which it is not made to begin anew by
asked 0 plan "$here"
says 'a: source: count 500 -> 600: reopened' \
  'pipeline a: has ended, so this is not done; give its file another name to have it begin anew'
asked 0 reload "$here"
kept_promise a3
rm report.a3
mv conf.d/a.ini conf.d/again.ini
asked 0 reload "$here"
says 'pipeline a: goes' 'pipeline again: comes' reloaded
until_true 30 "it has begun anew, and ended" logged ends 'again: ended: 600 received'
rm conf.d/b.ini
kill -HUP "${pid_of[ends]}"
wait "${pid_of[ends]}" || fail "it ended with $?: $(cat ends.log)"
kept_promise a3
kept_promise b3
for command in check test probe; do
  asked 0 $command conf.d
done
asked 0 check conf.d
[ "$(head -n 1 out)" = 'conf.d/again.ini: ok' ] || fail "it says not that the file is good but: $(cat out)"

# --- 8. Shards: what is no more ours goes, what is ours now comes, and what stays is not touched.
shards() {
  pipeline shards.ini "s$1-\${shard}" "shards = 6
replicas = $2
replica = ${4:-0}
replicas_next = ${3:-0}"
}
shards 1 2
start shards --admin="$here" shards.ini
until_true 30 "the even ones are there" are 'shards-0 shards-2 shards-4'
sed -i 's/^replicas_next = 0/replicas_next = 3/' shards.ini
asked 0 plan "$here"
says 'warning: shards.ini: replicas_next = 3: until replicas is 3, too, 2 of the shards of replica 0 are nobody'"'"'s' \
  'shards-0: pipeline: replicas_next 0 -> 3: at once' 'pipeline shards-2: goes' 'pipeline shards-4: goes'
asked 0 reload "$here"
until_true 30 "one has stayed" are 'shards-0'
kept_promise s1-2
kept_promise s1-4
sed -i 's/^replicas_next = 3/replicas_next = 0/; s/^replicas = 2/replicas = 3/' shards.ini
asked 0 reload "$here"
says 'shards-0: pipeline: replicas 2 -> 3, replicas_next 3 -> 0: at once' 'pipeline shards-3: comes' reloaded
until_true 30 "the third ones are there" are 'shards-0 shards-3'
sed -i 's/^replicas = 3/replicas = 1/' shards.ini
rm -f counts.s1-2 counts.s1-4 report.s1-2 report.s1-4
asked 0 reload "$here"
until_true 30 "all are there, in order" are 'shards-0 shards-1 shards-2 shards-3 shards-4 shards-5'
[ "$(grep -c 'shards-0: starts' shards.log)" = 1 ] || fail "shard 0 was started anew: $(cat shards.log)"
stop shards TERM
for shard in 0 1 2 3 4 5; do kept_promise s1-$shard; done

# --- 9. --watch: files come into a folder and go, and Kubernetes puts a new folder behind its symbolic links.
mkdir watched
start watched --watch --admin="$here" watched
until_true 30 "it waits" logged watched 'there is nothing to run'
pipeline watched/a.ini w1
until_true 30 "a new file is noticed" logged watched 'reload: pipeline a: comes'
mv watched/a.ini watched/a.off
until_true 30 "one that has gone is noticed" logged watched 'reload: pipeline a: goes'
until_true 30 "it has gone" are ''
kept_promise w1
mkdir other
pipeline other/b.ini w2
mv watched gone
mv other watched
until_true 30 "another folder in its place is noticed" logged watched 'reload: pipeline b: comes'
rm -r gone
pipeline watched/c.ini w3
until_true 30 "what comes there is, too" logged watched 'reload: pipeline c: comes'
stop watched TERM
kept_promise w2
kept_promise w3

# map FOLDER FILE...: as the kubelet does it, with the links of what has gone removed behind it
map() {
  local folder=map/..$1 name link
  shift
  mkdir "$folder"
  for name in "$@"; do pipeline "$folder/$name.ini" "m-$name"; done
  ln -s "${folder#map/}" map/..data_tmp
  mv -T map/..data_tmp map/..data
  for name in "$@"; do [ -L "map/$name.ini" ] || ln -s "..data/$name.ini" "map/$name.ini"; done
  for link in map/*.ini; do [ -e "$link" ] || rm "$link"; done
}
mkdir map
map 2026_11_29 a b
start mapped map --watch --admin="$here"
until_true 30 "both run, each once" are 'a b'
map 2026_11_30 b c
rm -r map/..2026_11_29
until_true 30 "the links are followed" logged mapped 'reload: pipeline c: comes'
until_true 30 "one has gone, one has come" are 'b c'
[ "$(grep -c 'b: starts' mapped.log)" = 1 ] || fail "what stayed was started anew"
kept_promise m-a
stop mapped TERM
kept_promise m-b
kept_promise m-c

# --- 10. A reload that waits for a drain as the process is told to stop holds nothing up, and begins nothing.
mkdir late
pipeline late/a.ini l1
sed -i 's/^drain_timeout = .*/drain_timeout = 2s/' late/a.ini
cat >>late/a.ini <<END
[sink dead]
plugin = mqtt_sink
server = tcp://127.0.0.1:1
qos = 1
topic = x
END
pipeline late/b.ini l2
start late --admin="$here" late
until_true 30 "both are there" are 'a b'
holds() { page status | jq -e '.pipelines[0].in_flight.records > 0' >/dev/null; }
until_true 30 "a holds what it cannot deliver" holds
mv late/a.ini late/c.ini
kill -HUP "${pid_of[late]}"
until_true 30 "it has begun" logged late 'reload: pipeline a: goes'
kill -TERM "${pid_of[late]}"
wait "${pid_of[late]}" || true
grep -q 'pipeline c does not come: the process is about to end' late.log || fail "it did: $(cat late.log)"
kept_promise l2

echo "pipelines come and go as files and shards do, and who stays is not touched"
