#!/usr/bin/env bash
# One case of chaos: a stream of numbered messages, faults at random moments, and a count of what came out.
#
#   fms-sandbox --kafka=real --links -- tests/chaos/case.sh CASE BIN-DIRECTORY
#
# Environment: CHAOS_ROUNDS (how many faults), CHAOS_SEED, CHAOS_RATE (messages a second), CHAOS_VEHICLES,
# CHAOS_WINDOW (messages that the sender has under way), CHAOS_SOURCE (the plugin that receives from MQTT, where it is not the
# pipeline file's), CHAOS_ONCE (yes: exactly once, so that a repetition breaks the promise), CHAOS_PATIENCE (seconds until a fault
# must be over), CHAOS_KEEP (a folder that keeps the logs). Prints one line of the table that scripts/chaos heads. Exit status: 0
# the promise held or the case promises nothing, 1 it was broken, 77 the case can't run here.
set -euo pipefail
case=$1
bin=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
# shellcheck source=tests/chaos/count.sh
. "$root/tests/chaos/count.sh"
if [ -z "${FMS_MQTT_DIRECT:-}" ] || [ -n "${FMS_TEST_KAFKA:-}" ]; then
  echo "skipped: it breaks brokers, so it takes only those of fms-sandbox --kafka=real --links"
  exit 77
fi
rounds=${CHAOS_ROUNDS:-3}
once=${CHAOS_ONCE:-no}
RANDOM=${CHAOS_SEED:-1}
export CHAOS_COUNTS=$work/counts CHAOS_SENDER_MQTT=$FMS_MQTT_DIRECT FMS_SPOOL=$work/spool
promises=yes
sender=fleet   # or vehicle
is_thinned=no  # what is lost was to be
slowest=0      # recovery, in nanoseconds
clock_behind=0 # the sender's clock, in nanoseconds

keep_logs() {
  [ -z "${CHAOS_KEEP:-}" ] || { mkdir -p "$CHAOS_KEEP/$case" && cp "$work"/*.log "$CHAOS_KEEP/$case"; cp "$work/report" "$CHAOS_KEEP/$case" 2>/dev/null; } || true
  if mountpoint -q "$FMS_SPOOL" 2>/dev/null; then umount -l "$FMS_SPOOL"; fi
}
trap 'status=$?; keep_logs; finish $status' EXIT
skip() { echo "$case: left out: $*"; exit 77; }

# pause FROM TO: a random time between so many milliseconds
pause() { sleep "$(awk -v a="$1" -v b="$2" -v r="$RANDOM" 'BEGIN { print (a + (b - a) * r / 32767) / 1000 }')"; }

# The numbers of a fleet that has no spools; a spool between keeps them; and the sink behind it.
# shellcheck disable=SC2016 # fmspipe expands it
once_only='s/^plugin = mqtt_ingest.*/&\norigin = ${json:vehicle_id}\nsequence = ${json:seq}/
  /^\[sink spool\]/,/^$/s/^plugin = .*/&\nidentity = keep/
  /^\[sink kafka\]/,/^$/s/^profile = .*/&\ntransactional_id = chaos/'
[ "$once" = yes ] || once_only=

# adapt FILE SED-EXPRESSION: a copy of a pipeline file, or of the one that delivers once, with the source that was asked for
adapt() {
  local from=$1
  [ "$once:$from" != yes:bridge.ini ] || from=bridge_exactly_once.ini
  sed -e "${CHAOS_SOURCE:+s/^plugin = mqtt_.*/plugin = $CHAOS_SOURCE/}" -e "$once_only" -e "${2:-}" "$root/pipelines/$from" >"$work/$1"
}
adapt bridge.ini
adapt bridge_buffered_in.ini
adapt bridge_buffered_out.ini
declare -A ini=([bridge]=bridge.ini [in]=bridge_buffered_in.ini [out]=bridge_buffered_out.ini)
start_bridge() { start bridge "$work/${ini[bridge]}" </dev/null; } # without a terminal SIGHUP is a reload
start_in() { start in "$work/${ini[in]}" </dev/null; }
start_out() { start out "$work/${ini[out]}" </dev/null; }
start_fleet() { start sender "$root/tests/chaos/sender.ini"; }
# A vehicle whose spool numbers. Each start is another one by its name, for what was not stored when it ended is gone.
boots=0
start_vehicle() {
  boots=$((boots + 1))
  FMS_SETTLED=$work/settled.vehicle-$boots FMS_VEHICLE=vehicle-$boots vehicle numbered.ini numbered_uplink.ini
}
vehicle() {
  env -C "$root/tests/vehicle" FMSPIPE_PLUGIN_PATH="$bin/../tests/vehicle" FMS_STREAM=vehicle FMS_SYNC=always FMS_NUMBERED_BURST=20 \
    FMS_MQTT="$CHAOS_SENDER_MQTT" "$bin/fmspipe" "$@" >>"$work/sender.out" 2>>"$work/sender.log" &
  pid_of[sender]=$!
  pids+=($!)
}
# Who has numbered a message is told by MQTT, then, and not by its payload.
with_vehicle() {
  sender=vehicle
  sed -i '/^origin = /d; /^sequence = /d' "$work/bridge.ini"
}
# From here on messages flow.
begin() {
  until_true 60 "a subscription" logged "$1" "source: receives"
  "start_$sender"
  start live "$root/tests/chaos/live.ini"
  flows
}

# Whether a message that was sent after $1 (nanoseconds) has come out; one from a later hour was sent before the clock
# was set back.
came_after() {
  local sent
  sent=$(tail -c 400 "$work/live.out" 2>/dev/null | grep -o '"sent_ns":[0-9]*}' | tail -n 1 | tr -dc 0-9) || return 1
  [ -n "$sent" ] && [ "$sent" -gt "$1" ] && [ "$sent" -lt $(($1 + 1800000000000)) ]
}
# Waits until what is sent from now on comes out, and remembers the longest such time.
flows() {
  local from to
  from=$(date +%s%N)
  until_true "${CHAOS_PATIENCE:-180}" "messages after the fault" came_after $((from - clock_behind))
  to=$(($(date +%s%N) - from))
  [ $to -le "$slowest" ] || slowest=$to
}

# --- faults: each is one round ---

case_calm() { start_bridge; begin bridge; each pause 500 1000; }
case_bridge_sigterm() { start_bridge; begin bridge; each bridge_again TERM; }
case_bridge_killed() {
  grep -q '^plugin = mqtt_ingest' "$work/bridge.ini" || promises=no # paho acknowledges what is in flight
  start_bridge; begin bridge; each bridge_again KILL
}
bridge_again() { pause 100 1500; stop bridge "$1"; start_bridge; flows; }

case_buffered_killed() { start_in; start_out; begin in; each half_killed; }
half_killed() {
  pause 100 1500
  if [ $((RANDOM % 2)) = 0 ]; then stop in KILL; start_in; else stop out KILL; start_out; fi
  flows
}

# The spool is full, its source has nowhere to go, and then both halves die.
case_spool_full_killed() {
  for half in in out; do adapt "${ini[$half]}" 's|^max_size = 1GiB|max_size = 512KiB|'; done
  start_in; start_out; begin in; each full_killed
}
full_killed() {
  ctl kafka stop
  stop in KILL # a new one tells anew that the spool is full: what repeats is held back in the log
  : >"$work/in.log"
  start_in
  until_true 60 "the full spool" logged in ": full "
  pause 100 3000
  stop in KILL; stop out KILL
  start_in; start_out
  pause 100 3000
  stop in KILL; start_in
  ctl kafka start
  flows
}

case_mqtt_restarted() { start_bridge; begin bridge; each mqtt_restarted; }
mqtt_restarted() { pause 100 1500; ctl mqtt restart; flows; }

case_kafka_stopped() { start_bridge; begin bridge; each kafka_stopped 10; }
case_kafka_stopped_long() { rounds=1; start_bridge; begin bridge; kafka_stopped 90; } # longer than every time-out
kafka_stopped() { pause 100 1500; ctl kafka stop; sleep "$1"; ctl kafka start; flows; }

case_kafka_frozen() { start_bridge; begin bridge; each kafka_frozen; }
kafka_frozen() { pause 100 1500; ctl kafka freeze; sleep 10; ctl kafka thaw; flows; }

# What is on its way when a link breaks is lost with it: it passes nothing for a moment first.
link_cut() { pause 100 1500; ctl "$1" stall; pause 100 1000; ctl "$1" cut; pause 3000 15000; ctl "$1" heal; flows; }
case_mqtt_link_cut() { start_bridge; begin bridge; each link_cut mqtt; }
case_kafka_link_cut() { start_bridge; begin bridge; each link_cut kafka; }
case_mqtt_link_stalled() { start_bridge; begin bridge; each link_changed mqtt stall; }
case_kafka_link_stalled() { start_bridge; begin bridge; each link_changed kafka stall; }
# The producer itself fails for good and is replaced, what was under way offered again: records time out in the outage,
# and that is fatal to a producer that must not leave a gap.
case_producer_fatal() {
  adapt bridge.ini '/^partitions = /a kafka.message.timeout.ms = 2000'
  start_bridge; begin bridge
  each kafka_stopped 6
  logged bridge "starting a new producer" "$rounds" || fail "no producer failed"
}

case_mqtt_link_slow() { start_bridge; begin bridge; each link_changed mqtt slow; }
case_kafka_link_slow() { start_bridge; begin bridge; each link_changed kafka slow; }
link_changed() { pause 100 1500; ctl "$1" "$2"; pause 3000 15000; ctl "$1" heal; flows; }

# The vehicle's own link, before the broker.
case_vehicle_link_cut() {
  [ "$once" = no ] || with_vehicle
  CHAOS_SENDER_MQTT=$FMS_MQTT
  start_bridge; begin bridge; each link_cut mqtt
}

# A file changes and is read again, while its pipeline runs. ask NAME SED-EXPRESSION: asks for it; reload ... [OUTCOME]: and waits
ask() {
  sed -i "$2" "$work/${ini[$1]}"
  kill -HUP "${pid_of[$1]}"
}
reload() {
  local before
  before=$(grep -c "${3:-reloaded}\$" "$work/$1.log" || true)
  ask "$1" "$2"
  until_true 60 "a reload" logged "$1" "${3:-reloaded}\$" $((before + 1))
}
# What is changed, each time to something else.
other_filter() { echo "s/^condition = .*/condition = speed >= -$((RANDOM % 100)).$RANDOM/"; }
other_map() { echo "s/^drop = .*/drop = none$RANDOM/"; }
other_sink() { printf '%s\n' "/^kafka.linger.ms/d; s/^partitions = .*/&\nkafka.linger.ms = $((RANDOM % 20)).$RANDOM/"; }
other_source() { printf '%s\n' "/^keepalive/d; s/^clean_start = .*/&\nkeepalive = $((RANDOM % 1000 + 5))s/"; }
other_any() {
  local kinds=(filter map sink source)
  "other_${kinds[$((${1:-RANDOM} % 4))]}"
}
with_transforms() {
  sed -i 's/^\[sink kafka\]/[transform check]\nplugin = filter\ncondition = speed >= -1\n\n[transform map]\nplugin = json_map\ndrop = none\n\n&/' "$work/bridge.ini"
}
with_drain() { sed -i "s/^\[pipeline\]/&\ndrain_timeout = $2/" "$work/${ini[$1]}"; }

case_reload_transforms() { with_transforms; start_bridge; begin bridge; each reloaded_while_running "other_filter; echo ';'; other_map"; }
case_reload_sink() { start_bridge; begin bridge; each reloaded_while_running other_sink; }
case_reload_source() { start_bridge; begin bridge; each reloaded_while_running other_source; }
reloaded_while_running() { pause 0 1000; reload bridge "$(eval "$1")"; flows; }

# A file that is no good, and a sink that does not open: all goes on.
case_reload_bad() { start_bridge; begin bridge; each bad_reloaded; }
bad_reloaded() {
  cp "$work/bridge.ini" "$work/good"
  pause 0 1000; reload bridge '/^topic = fms-data-stream/d' "it was; see above"; flows
  cp "$work/good" "$work/bridge.ini"
  pause 0 1000; reload bridge 's|^\[dead_letter\]|[sink file]\nplugin = file\npath = /nowhere/at/all\n\n&|' "it was; see above"; flows
  cp "$work/good" "$work/bridge.ini"
}

# A transform that keeps records: they are passed on before it goes, or the bridge could not end well. It lets the newest of each vehicle
# through, which is not all.
case_reload_keeping() {
  is_thinned=yes
  sed -i 's/^\[sink kafka\]/[transform thin]\nplugin = throttle\ninterval = 500ms\n\n&/' "$work/bridge.ini"
  start_bridge; begin bridge; each reloaded_while_running other_interval
  stop bridge TERM
}
other_interval() { echo "s/^interval = .*/interval = $((RANDOM % 500 + 300))ms/"; }

# For a minute, one kind after the other, one each second (CHAOS_RELOADS: so many; without the pause). After each four it is seen what the
# process has. The first third warms up; flat is: the most in the last third is no more open files than in the second, and no more than
# 1 MiB more of resident memory. Sanitizers keep what was freed, and tell at its end what was not.
case_reload_often() {
  rounds=${CHAOS_RELOADS:-60}
  with_transforms; start_bridge; begin bridge
  for ((round = 0; round < rounds; round++)); do
    [ -n "${CHAOS_RELOADS:-}" ] || sleep 0.9
    reload bridge "$(other_any $round)"
    [ $((round % 4)) != 3 ] || sample bridge >>"$work/samples"
  done
  flows
  is_flat
  stop bridge TERM
  start_bridge
}
# A line: KiB, and the fewest open files in half a second, for connections end a moment later.
sample() {
  local files=999999 n
  for _ in 1 2 3 4 5; do
    n=$(find "/proc/${pid_of[$1]}/fd" -mindepth 1 | wc -l)
    files=$((n < files ? n : files))
    sleep 0.1
  done
  echo "$(awk '/^VmRSS/ { print $2 }' "/proc/${pid_of[$1]}/status") $files"
}
is_flat() {
  local more=1024
  ! grep -qE '__(asan|tsan)_init' "$bin/fmspipe" || more=1000000000
  awk -v n="$(wc -l <"$work/samples")" -v more=$more '
    { third = int((NR - 1) * 3 / n); for (i = 1; i <= 2; i++) if ($i > most[third, i]) most[third, i] = $i }
    END {
      printf "resident: at most %d, %d, %d KiB in the three parts; open files %d, %d, %d\n",
             most[0, 1], most[1, 1], most[2, 1], most[0, 2], most[1, 2], most[2, 2]
      exit most[2, 1] > most[1, 1] + more || most[2, 2] > most[1, 2]
    }' "$work/samples" >&2 || fail "it grows"
}

# The bridge is told to stop while it reloads, and once more to reload while it stops.
case_reload_stopped() { with_transforms; start_bridge; begin bridge; each stopped_reloading; }
stopped_reloading() {
  pause 100 1500
  [ $((RANDOM % 2)) = 0 ] || ctl kafka stall
  ask bridge "$(other_any)"
  pause 0 300
  kill -TERM "${pid_of[bridge]}"
  pause 0 1000
  ask bridge "$(other_any)" 2>/dev/null || true # it may have ended
  pause 0 500
  ctl kafka heal
  ended bridge
  start_bridge
  flows
}

# Killed in the middle of one.
case_reload_killed() {
  grep -q '^plugin = mqtt_ingest' "$work/bridge.ini" || promises=no
  with_transforms; start_bridge; begin bridge; each killed_reloading
}
killed_reloading() {
  pause 100 1500
  ask bridge "$(other_any)"
  pause 0 300
  stop bridge KILL
  start_bridge
  flows
}

# What a sink holds whose broker is silent goes to the next one, which finds it answering later.
case_reload_stalled() { with_drain bridge 2s; start_bridge; begin bridge; each stalled_reloaded; }
stalled_reloaded() { pause 100 1500; ctl kafka stall; pause 1000 3000; reload bridge "$(other_sink)"; pause 0 2000; ctl kafka heal; flows; }

# While a sink that goes settles what it has, which takes its time, others ask for something else.
case_reload_draining() { with_transforms; with_drain bridge 5s; start_bridge; begin bridge; each draining_reloaded; }
draining_reloaded() {
  pause 100 1500
  ctl kafka stall
  pause 200 1000
  ask bridge "$(other_sink)"
  pause 0 500
  ask bridge "$(other_any)"
  pause 0 500
  ask bridge "$(other_sink)"
  pause 500 3000
  ctl kafka heal
  flows
  reload bridge "$(other_filter)"
}

# A sink is led to a Kafka that there is not, so that all comes to stand before it, and then back.
case_reload_elsewhere() { with_drain bridge 2s; start_bridge; begin bridge; each elsewhere_reloaded; }
elsewhere_reloaded() {
  pause 100 1500
  reload bridge '/^\[sink kafka\]/,/^topic/s/^brokers = .*/brokers = 127.0.0.1:1/'
  pause 500 4000
  # shellcheck disable=SC2016 # it is fmspipe's
  reload bridge '/^\[sink kafka\]/,/^topic/s/^brokers = .*/brokers = ${env:FMS_KAFKA}/'
  flows
}

# A sink gets another name: what waits for the old one is the new one's, and comes first.
case_reload_renamed() { start_bridge; begin bridge; each renamed_reloaded; }
renamed_reloaded() {
  pause 100 1500
  ctl kafka slow # so that something waits
  pause 1500 3000
  ask bridge "s/^\[sink .*/[sink kafka$RANDOM]/"
  pause 2000 3000
  ctl kafka heal
  until_true 60 "a reload" logged bridge 'reloaded$' $((round + 1))
  flows
}

# Both halves, while the spool fills and while it is worked off.
case_reload_spool() { with_drain out 1s; start_in; start_out; begin in; each spool_reloaded; }
spool_reloaded() {
  pause 100 1000
  ctl kafka stop
  halves_reloaded
  pause 500 3000
  halves_reloaded
  ctl kafka start
  halves_reloaded
  flows
}
halves_reloaded() {
  reload in "$(other_source)"
  reload in "s/^max_size = .*/max_size = $((RANDOM + 900000))KiB/" # which closes the spool, and opens it again
  reload out "s/^max_size = .*/max_size = $((RANDOM + 900000))KiB/"
  reload out "$(other_sink)"
}

case_disk_full() {
  mkdir "$FMS_SPOOL"
  mount -t tmpfs -o size="${CHAOS_DISK:-6M}" none "$FMS_SPOOL" 2>/dev/null || skip "a small file system can't be mounted"
  start_in; start_out; begin in
  each disk_filled
}
disk_filled() {
  ctl kafka stop
  : >"$work/in.log"
  until_true 120 "the full disk" logged in "full\|No space"
  ctl kafka start
  flows
}

case_rebalance() {
  cp "$root/tests/chaos/member.ini" "$work/member.ini"
  # shellcheck disable=SC2016 # fmspipe expands it
  [ "$once" = no ] || sed -i '/^\[sink kafka\]/,$s/^plugin = .*/&\ntransactional_id = ${env:CHAOS_MEMBER}/' "$work/member.ini"
  start sender "$root/tests/chaos/sender_kafka.ini"
  member 1
  member 2
  start live "$root/tests/chaos/live.ini"
  flows
  each rebalanced
}
member() { CHAOS_MEMBER=member$1 start "member$1" "$work/member.ini"; }
# A third member comes; one leaves in order; one dies; they come back.
rebalanced() {
  pause 100 1500; member 3; flows
  pause 100 1500; stop member1 TERM; flows
  pause 100 1500; stop member2 KILL; member 2; member 1; flows
  pause 100 1500; stop member3 TERM; flows
}

case_clock_set_back() {
  local library
  library=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1 2>/dev/null) || skip "libfaketime is not installed"
  echo "+0" >"$work/clock"
  start_bridge
  until_true 60 "a subscription" logged bridge "source: receives"
  export LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$work/clock FAKETIME_NO_CACHE=1 \
    FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0 # or timed waits end at once
  start sender "$root/tests/chaos/sender.ini"
  unset LD_PRELOAD "${!FAKETIME_@}"
  start live "$root/tests/chaos/live.ini"
  flows
  each clock_set
}
# An hour more each time.
clock_set() {
  pause 500 1500
  clock_behind=$((clock_behind + 3600000000000))
  echo "-$((clock_behind / 3600000000000))h" >"$work/clock"
  flows
}

case_qos_0() {
  [ "$once" = no ] || skip "QoS 0 promises nothing"
  promises=no
  export FMS_QOS=0
  start_bridge; begin bridge; each link_cut mqtt
}

# --- faults of what delivers once, and those only: scripts/chaos --exactly-once ---

once_vehicle_killed() { with_vehicle; start_bridge; begin bridge; each vehicle_killed; }
vehicle_killed() { pause 100 1500; stop sender KILL; start_vehicle; flows; }

# Its whole machine, three spools and a truck; what counts as acknowledged is what `sync = always` has.
once_vehicle_power_cut() {
  local status=0
  with_vehicle
  "$root/tests/vehicle/run.sh" "$bin/.." cuts --cuts "$rounds" --seed "$RANDOM" --once --bridge "$work/bridge.ini" >"$work/cuts.log" || status=$?
  [ $status != 77 ] || skip "$(cat "$work/cuts.log")"
  cat "$work/cuts.log" >&2
  read -r sent lost < <(awk -F'|' '$2 ~ /always/ { print $3 + 0, $4 + 0 }' "$work/cuts.log")
  read -r duplicated disorder < <(awk -F'|' '$2 ~ /always|interval|off/ { twice += $6; late += $7 } END { print twice, late }' "$work/cuts.log")
  delivered=$((sent - lost)) corrupted=$status # whatever else is wrong
}

# What runs lets go of its session and writes nothing more, but does not end; the other writes from now on.
once_bridge_twice() { start_first; begin bridge; each taken_over; }
start_first() { start bridge --admin="unix:$work/bridge.$round" "$work/${ini[bridge]}" </dev/null; }
taken_over() {
  local first=${pid_of[bridge]} address=unix:$work/bridge.$round before
  pause 100 1500
  : >"$work/bridge.log"
  round=$((round + 1)) start_first # another address
  until_true 60 "word of the takeover" logged bridge "another process has taken over"
  until_true 30 "its source to be let go" stands_still "$address"
  before=$(delivered_by "$address")
  flows
  pause 1000 5000
  [ "$(delivered_by "$address")" = "$before" ] || fail "it writes on"
  kill -0 "$first" || fail "it has ended"
  { kill -KILL "$first" && wait "$first"; } 2>/dev/null || true
}
stands_still() { { "$bin/fmspipe" status --json "$1" || true; } | jq -e '.pipelines[0] | .state == "standing" and (.stages[0].why | test("let go"))' >/dev/null; }
delivered_by() { { "$bin/fmspipe" status --json "$1" || true; } | jq .pipelines[0].counts.delivered; } # it is not ready

# Whether the last transaction was committed nobody has heard: who asked is dead, or the answer never comes, or late.
once_commit_unanswered() { start_bridge; begin bridge; each commit_unanswered; }
commit_unanswered() {
  pause 100 1500
  ctl kafka doubt
  pause 0 5000
  case $((round % 3)) in
    0) stop bridge KILL; ctl kafka cut; start_bridge ;;
    1) ctl kafka cut ;;
  esac
  ctl kafka heal
  flows
}

once_coordinator_frozen() { start_bridge; begin bridge; each coordinator_frozen; }
coordinator_frozen() { pause 100 1500; ctl kafka doubt; ctl kafka freeze; ctl kafka heal; pause 3000 15000; ctl kafka thaw; flows; }

# Kafka aborts what takes longer, while nobody hears of it.
once_transaction_timeout() {
  adapt bridge.ini '/^partitions = /a kafka.transaction.timeout.ms = 2000'
  start_bridge; begin bridge; each transaction_timed_out
}
transaction_timed_out() { pause 100 1500; if [ $((RANDOM % 2)) = 0 ]; then ctl kafka stall; else ctl kafka hold; fi; pause 5000 15000; ctl kafka heal; flows; }

each() { for ((round = 0; round < rounds; round++)); do "$@"; done; }

# --- what every case ends with ---

end_fleet() { stop sender TERM; }
# What its spool has confirmed is to come, and so the spool is emptied.
end_vehicle() {
  local boot
  stop sender TERM
  for ((boot = 1; boot <= boots; boot++)); do
    [ ! -s "$work/settled.vehicle-$boot" ] || echo "$(tail -n 1 "$work/settled.vehicle-$boot") vehicle-$boot"
  done >"$CHAOS_COUNTS"
  vehicle numbered_uplink.ini
}

# Sets: sent delivered lost duplicated disorder corrupted
count() {
  local name all distinct
  [ -s "$CHAOS_COUNTS" ] || fail "the sender left no counts"
  verify "$CHAOS_COUNTS" "${CHAOS_IDLE:-20s}"
  read -r sent delivered lost duplicated disorder corrupted \
    < <(report '[.expected, .distinct, .lost, .duplicated, .out_of_order, .corrupted] | map(tostring) | join(" ")')
  [ $is_thinned = no ] || lost=0
  [ "$once" = yes ] || return 0
  for name in sender bridge in out member1 member2 member3; do # what may come again has when they have ended
    [ -z "${pid_of[$name]:-}" ] || ! kill -0 "${pid_of[$name]}" 2>/dev/null || stop "$name" TERM
  done
  read -r all distinct disorder < <(count_all)
  duplicated=$((all - distinct))
}

kind=case
[ "$once" = no ] || ! declare -F "once_$case" >/dev/null || kind=once
round=0 sent=
"${kind}_$case"
[ -n "$sent" ] || { "end_$sender"; count; }
verdict="kept"
if [ "$lost$disorder$corrupted" != 000 ]; then verdict=BROKEN; fi
if [ "$once" = yes ] && [ "$duplicated" != 0 ]; then verdict=BROKEN; fi
if [ $promises = no ]; then verdict="none made"; fi
printf '| %-20s | %6s | %8s | %9s | %6s | %10s | %12s | %8s | %-9s |\n' "$case" "$rounds" "$sent" "$delivered" "$lost" \
  "$duplicated" "$disorder" "$(awk -v ns="$slowest" 'BEGIN { printf "%.1f s", ns / 1e9 }')" "$verdict"
[ "$verdict" != BROKEN ]
