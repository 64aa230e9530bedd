#!/usr/bin/env bash
# Three members of a consumer group, each a process of its own, are restarted one after the other under load. With names of their own
# (group_instance_id) Kafka rebalances nothing; without, each hands over what it has committed: neither loses or repeats a record. One
# that is killed loses nothing, and repeats what it had not committed; so does one whose name another takes, which stops alone.
#   fms-sandbox --kafka=real --mqtt=none -- tests/integration/test_group.sh BIN-DIRECTORY
set -euo pipefail
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
kafka_log=$(dirname "$FMS_SANDBOX")/kafka/log
members=(one two three)

cat >"$work/sender.ini" <<'INI'
[pipeline]
name = sender
drain_timeout = 1m
[source]
plugin = fms_sim
vehicles = 30
rate = 600
sequence = yes
counts = ${env:COUNTS}
[sink kafka]
plugin = kafka_sink
brokers = ${env:FMS_KAFKA}
topic = in-${env:GROUP}
key = ${key}
partitions = 6
INI
# From Kafka to Kafka, so that what the group lets pass can be verified.
member_ini() {
  cat <<INI
[pipeline]
name = $1
[source]
plugin = kafka_source
brokers = $FMS_KAFKA
topic = in-$GROUP
group = $GROUP
start = earliest
partitions = 6
kafka.session.timeout.ms = 10000
kafka.heartbeat.interval.ms = 200
$2
[sink kafka]
plugin = kafka_sink
brokers = $FMS_KAFKA
topic = out-$GROUP
key = \${key}
partitions = 6
[dead_letter]
plugin = null_sink
INI
}

# What Kafka itself says: the group's generation, and how often one took the place of a member of its name.
generation() { grep -o "Stabilized group $GROUP generation [0-9]*" "$kafka_log" | tail -n 1 | tr -dc 0-9; }
replaced() { grep -c "joins group $GROUP in Stable state. Replacing" "$kafka_log" || true; }

# How many records have come out.
came() {
  kcat -b "$FMS_KAFKA" -Q -t "out-$GROUP:0:-1" -t "out-$GROUP:1:-1" -t "out-$GROUP:2:-1" -t "out-$GROUP:3:-1" -t "out-$GROUP:4:-1" \
    -t "out-$GROUP:5:-1" 2>/dev/null | awk '{ n += $NF } END { print n + 0 }'
}
came_to() { [ "$(came)" -ge "$1" ]; }
flows() { until_true 60 "records that come out" came_to $(($(came) + 300)); }
is_balanced() {
  local member
  for member in "${members[@]}"; do
    grep 'assigned$' "$work/$GROUP-$member.log" | tail -n 1 | grep -q ': 2 partitions' || return 1
  done
}
assignments() { grep -c 'assigned$' "$work/$GROUP-$1.log"; }
is_assigned_anew() { [ "$(assignments "$1")" -gt "$2" ]; }

# begin GROUP [LINE]: three members, each with that line in its [source], NAME being its name, and the fleet that feeds them
begin() {
  local member
  export GROUP=$1 COUNTS=$work/counts-$1
  start "$GROUP-sender" "$work/sender.ini"
  for member in "${members[@]}"; do
    member_ini "$member" "${2/NAME/$member}" >"$work/$GROUP-$member.ini"
    start "$GROUP-$member" "$work/$GROUP-$member.ini"
  done
  until_true 60 "two partitions for each member" is_balanced
  flows
}
# again NAME SIGNAL: the member ends, and is back
again() {
  local before
  before=$(assignments "$1")
  stop "$GROUP-$1" "$2"
  start "$GROUP-$1" "$work/$GROUP-$1.ini"
  until_true 60 "partitions for $1, which is back" is_assigned_anew "$1" "$before"
  flows
}
# hangs NAME: the member does nothing until the others have its partitions, then goes on, and has some again
has_changed() { [ "$(generation)" != "$1" ]; }
hangs() {
  local before
  before=$(generation)
  kill -STOP "${pid_of[$GROUP-$1]}"
  until_true 60 "others that take over from $1, which hangs" has_changed "$before"
  flows
  before=$(generation)
  kill -CONT "${pid_of[$GROUP-$1]}"
  until_true 60 "a group that $1, which goes on, is in again" has_changed "$before"
  until_true 60 "two partitions for each member" is_balanced
  flows
}
# Leaves in $lost, $repeated and $disordered what became of the records.
end() {
  local member
  stop "$GROUP-sender" TERM
  FMS_GROUP=verify-$GROUP FMS_VERIFY_TOPIC=out-$GROUP FMS_EXPECT=$COUNTS FMS_FORMAT=json FMS_IDLE=20s "$bin/fmspipe" \
    "$root/pipelines/verify.ini" >"$work/$GROUP.report" 2>"$work/$GROUP-verify.log" || true
  for member in "${members[@]}"; do stop "$GROUP-$member" TERM; done
  read -r sent lost repeated disordered \
    < <(jq -r '[.expected, .lost, .duplicated, .out_of_order] | map(tostring) | join(" ")' "$work/$GROUP.report")
  echo "group: $GROUP: sent $sent, lost $lost, repeated $repeated, disordered $disordered, generation $(generation)"
  [ "$sent" -gt 0 ] || fail "nothing was sent"
  [ "$lost$disordered" = 00 ] || fail "a promise was broken"
}

begin static "group_instance_id = NAME"
first=$(generation)
for member in "${members[@]}"; do again "$member" TERM; done
[ "$(generation)" = "$first" ] || fail "a restart within the session timeout: generation $first became $(generation)"
[ "$(replaced)" = 3 ] || fail "Kafka knew $(replaced) of three members by their names"
end
[ "$repeated" = 0 ] || fail "restarts have repeated records"

begin dynamic ""
first=$(generation)
for member in "${members[@]}"; do again "$member" TERM; done
[ "$(generation)" -ge $((first + 3)) ] || fail "the group has not seen the members go"
end
[ "$repeated" = 0 ] || fail "what was delivered was not committed before partitions went"

# Where librdkafka is one that can: only those partitions stand still that change hands.
cooperative="kafka.partition.assignment.strategy = cooperative-sticky"
GROUP=cooperative member_ini one "$cooperative" >"$work/cooperative.ini"
if "$bin/fmspipe" check "$work/cooperative.ini" >/dev/null 2>"$work/check.err"; then
  begin cooperative "$cooperative"
  for member in "${members[@]}"; do again "$member" TERM; done
  end
  [ "$repeated" = 0 ] || fail "what was delivered was not committed before partitions went"
else
  grep -o '"cooperative-sticky" needs .*' "$work/check.err" || fail "cooperative-sticky is not refused for librdkafka's sake"
fi

begin killed "group_instance_id = NAME"
first=$(generation)
again two KILL
[ "$(generation)" = "$first" ] || fail "a member that was killed, and is back: generation $first became $(generation)"
hangs three
end
[ "$repeated" -le 1000 ] || fail "more was repeated than what was not committed"

begin fenced "group_instance_id = NAME"
start fenced-intruder "$work/fenced-two.ini"
until_true 60 "the error of the member that was there first" logged fenced-two 'error .*FENCED_INSTANCE_ID: another member has joined as "two"'
flows
end # well for all of them: none has ended by it
stop fenced-intruder TERM
[ "$repeated" -le 1000 ] || fail "more was repeated than what was not committed"
echo "group: passed"
