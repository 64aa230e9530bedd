#!/usr/bin/env bash
# Twelve shards on three hosts, while the number of replicas changes and hosts fail: what was sent, and what came out.
#
#   tests/shards/hosts.sh BIN-DIRECTORY      as root, or where a user may make namespaces
#
# Environment: SHARDS_ROUNDS (how often all of it happens), SHARDS_RATE (messages a second), SHARDS_VEHICLES, SHARDS_SOURCE (the
# plugin that receives from MQTT), SHARDS_PLANNED (yes: only changes in two steps, which repeat nothing), SHARDS_MQTT (mosquitto,
# artemis), SHARDS_KEEP (a folder that keeps the logs).
#
# The hosts, the broker and Kafka are network namespaces of their own, with a switch between them. Prints a line for each change
# and one at the end. Exit status: 0 nothing was lost, nor out of order for any vehicle; 1 it was; 77 it cannot run here.
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
hosts=(host0 host1 host2)

# --- namespaces: made in a mount namespace of our own, so that they go with us ---

address_of() { case $1 in mqtt) echo 10.18.0.1 ;; kafka) echo 10.18.0.2 ;; fleet) echo 10.18.0.3 ;; *) echo "10.18.0.1${1#host}" ;; esac; }
make_namespaces() {
  local name
  [ "${SHARDS_OUTSIDE:-none}" != "$(readlink /proc/self/ns/net)" ] && [ -n "${SHARDS_OUTSIDE:-}" ] || exit 2 # never in the machine's own
  mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p /run/netns
  ip netns attach switch $$ # else it would go with the last process in it
  ip link add switch type bridge && ip link set switch up
  for name in mqtt kafka fleet "${hosts[@]}"; do
    ip netns add "$name"
    ip link add "to-$name" type veth peer name eth0 netns "$name"
    ip link set "to-$name" master switch up
    ip -n "$name" address add "$(address_of "$name")/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
  done
}

case ${2:-outside} in
  outside)
    if ! unshare --mount --net true 2>/dev/null; then
      echo "skipped: no namespaces can be made here"
      exit 77
    fi
    SHARDS_OUTSIDE=$(readlink /proc/self/ns/net) exec unshare --mount --net "$0" "$bin" brokers
    ;;
  brokers)
    make_namespaces
    exec ip netns exec mqtt "$bin/fms-sandbox" --kafka=none --mqtt="${SHARDS_MQTT:-mosquitto}" \
      --listen="$(address_of mqtt)" -- "$0" "$bin" kafka
    ;;
  kafka)
    exec ip netns exec kafka "$bin/fms-sandbox" --kafka=real --mqtt=none --listen="$(address_of kafka)" -- \
      env FMS_MQTT="$FMS_MQTT" "$0" "$bin" inside
    ;;
esac

# --- inside: bridges on hosts ---

# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
keep_logs() { [ -z "${SHARDS_KEEP:-}" ] || { mkdir -p "$SHARDS_KEEP" && cp "$work"/*.log "$work"/report "$SHARDS_KEEP" 2>/dev/null; } || true; }
trap 'keep_logs; finish' EXIT
export SHARDS_COUNTS=$work/counts FMS_TAKEOVER_PAUSE=${FMS_TAKEOVER_PAUSE:-1s}
sed -e "${SHARDS_SOURCE:+s/^plugin = mqtt_.*/plugin = $SHARDS_SOURCE/}" -e '/^clean_start/a keepalive = 2s' \
  "$root/pipelines/bridge_shards.ini" >"$work/bridge.ini"
replicas=0 next=0
planned=${SHARDS_PLANNED:-no} dies=no
[ "${SHARDS_SOURCE:-}" != mqtt_source ] || planned=yes
declare -A host_of

# on HOST NAME ARGUMENT...: as start, there.
on() {
  local host=$1 name=$2
  shift 2
  ip netns exec "$host" "$bin/fmspipe" "$@" >>"$work/$name.out" 2>>"$work/$name.log" &
  pid_of[$name]=$!
  pids+=($!)
}

# number NAME: its file has the numbers as they are now.
number() {
  sed -e "s/^replicas = .*/replicas = $replicas/" -e "s/^replicas_next = .*/replicas_next = $next/" "$work/bridge.ini" >"$work/$1.new"
  mv "$work/$1.new" "$work/$1.ini"
}
# bridge R [HOST]: replica R, where it belongs unless a host is named.
bridge() {
  local host=${2:-${hosts[$1 % ${#hosts[@]}]}}
  local its=bridge-$1-$host
  host_of[bridge-$1]=$host
  number "$its"
  FMS_REPLICA=bridge-$1 on "$host" "bridge-$1" --admin="unix:$work/$its.sock" "$work/$its.ini"
  until_true 30 "the start of replica $1" "$bin/fmspipe" health "unix:$work/$its.sock" >/dev/null 2>&1
}
# It goes on, with other numbers: what it no longer has is drained, acknowledged, and its sessions are let go of.
renumber() {
  local its=bridge-$1-${host_of[bridge-$1]}
  number "$its"
  "$bin/fmspipe" reload "unix:$work/$its.sock" >>"$work/reloads.log" 2>&1 || fail "replica $1 was not reloaded"
}
# What a replica holds is drained, acknowledged, and its sessions are let go of.
again() { stop "bridge-$1" TERM; bridge "$1"; }
cut() { ip -n switch link set "to-$1" down; }
heal() { ip -n switch link set "to-$1" up; }

# Whether a message of each vehicle that was sent after $1 (nanoseconds) has come out: so each shard has its owner.
all_came_after() {
  timeout 3 kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -e -q -f '%k %s\n' 2>/dev/null |
    awk -v after="$1" -v vehicles="${SHARDS_VEHICLES:-60}" '
      match($0, /"sent_ns":[0-9]+/) && substr($0, RSTART + 10, RLENGTH - 10) + 0 > after { came[$1] = 1 }
      END { exit length(came) < vehicles }'
}
flows() {
  local from
  from=$(date +%s%N)
  until_true 120 "messages of all vehicles $1" all_came_after "$from"
  printf '%-58s all flow again after %s s\n' "$1" "$(awk -v ns=$(($(date +%s%N) - from)) 'BEGIN { printf "%.1f", ns / 1e9 }')"
}
all_receive() { [ "$(cat "$work"/bridge-?.log | grep -c "source: receives")" = 12 ]; }
pause() { sleep "$(awk -v r="$RANDOM" 'BEGIN { print 0.2 + r / 32767 }')"; }
takeovers() { cat "$work"/bridge-*.log "$work"/twin.log 2>/dev/null | grep -c "connection to .* \(lost\|does not last\)" || true; }

# A rolling change, the highest number first: every other one is reloaded, the rest are stopped and started, where they belong. Shards have
# two owners meanwhile, or none.
change_at_once() {
  local r before=$replicas
  replicas=$1
  for ((r = before - 1; r >= replicas; r--)); do stop "bridge-$r" TERM; done
  for ((r = (before < replicas ? before : replicas) - 1; r >= 0; r--)); do
    if ((r % 2)); then renumber "$r"; else again "$r"; fi
  done
  for ((r = before; r < replicas; r++)); do bridge "$r"; done
}
# In two steps, while all run: what moves is given up by all before any takes it, so that nobody is pushed out. Where one `dies`, it does so
# between the steps, and comes back as it was.
change_in_steps() {
  local r before=$replicas lost
  lost=$(takeovers)
  next=$1
  for ((r = before - 1; r >= 0; r--)); do renumber "$r"; done
  for ((r = before; r < next; r++)); do bridge "$r"; done # which wait
  [ "$dies" = no ] || { stop bridge-0 KILL && bridge 0; }
  replicas=$1 next=0
  for ((r = (before > replicas ? before : replicas) - 1; r >= 0; r--)); do renumber "$r"; done
  for ((r = before - 1; r >= replicas; r--)); do stop "bridge-$r" TERM; done # which have none
  flows "$before -> $1 replicas, given up before they are taken"
  [ "$(takeovers)" = "$lost" ] || fail "a session was taken from one that had it"
}

gives_way() {
  local name
  for name in twin bridge-0-host0; do
    [[ $("$bin/fmspipe" health --ready "unix:$work/$name.sock" 2>&1 || true) != *"has taken the session over"* ]] || return 0
  done
  return 1
}
# Who is pushed out says so, and is not ready; when the other one goes, it comes back.
twice() {
  number twin
  FMS_REPLICA=0 on host2 twin --admin="unix:$work/twin.sock" "$work/twin.ini"
  until_true 60 "one of the two that gives way, and says so" gives_way
  stop twin TERM
  flows "replica 0 runs twice"
}

# Host 1 dies, and with it, unseen, its connections; its replicas are started elsewhere.
killed() {
  local r dead=()
  cut host1
  for ((r = 0; r < replicas; r++)); do [ "${host_of[bridge-$r]}" != host1 ] || dead+=("$r"); done
  for r in "${dead[@]}"; do stop "bridge-$r" KILL; done
  for r in "${dead[@]}"; do bridge "$r" host0; done
  flows "host 1 is killed, replica ${dead[*]} goes to host 0"
  heal host1
}

# Host 2 is cut off and its replicas are started elsewhere, but it lives, and comes back with all that it held.
cut_off() {
  local r old=() gone=()
  for ((r = 0; r < replicas; r++)); do
    [ "${host_of[bridge-$r]}" != host2 ] || { gone+=("$r"); old+=("${pid_of[bridge-$r]}"); }
  done
  cut host2
  pause
  for r in "${gone[@]}"; do bridge "$r" host0; done
  flows "host 2 is cut off, replica ${gone[*]} goes to host 0"
  heal host2
  pause
  kill "${old[@]}"
  for r in "${old[@]}"; do wait "$r" || fail "a replica that was cut off ended with $?"; done
  flows "host 2 is back, and its replicas are told to stop"
}
# The same without anybody else: what is unacknowledged comes again.
cut_for_a_while() {
  cut host0
  sleep 4
  heal host0
  flows "host 0 was cut off for 4 s"
}

# What takes a session from somebody who has it. paho has acknowledged what such a one still holds, so mqtt_source promises nothing then.
unplanned() {
  change_at_once 5
  flows "3 -> 5 replicas, one after the other"
  twice
  killed
  cut_for_a_while
  cut_off
  dies=yes
}

change_at_once 4
until_true 90 "12 subscriptions" all_receive
on fleet sender "$root/tests/shards/sender.ini"
flows "12 shards, 4 replicas, 3 hosts"
for ((round = 0; round < ${SHARDS_ROUNDS:-1}; round++)); do
  change_in_steps 3
  [ "$planned" = yes ] || unplanned
  change_in_steps 4
done
stop sender TERM
FMS_EXPECT=$SHARDS_COUNTS FMS_FORMAT=json FMS_IDLE=${SHARDS_IDLE:-5s} "$bin/fmspipe" "$root/pipelines/verify.ini" \
  >"$work/report" 2>"$work/verify.log" || true
for ((r = 0; r < replicas; r++)); do stop "bridge-$r" TERM; done
read -r sent lost duplicated disorder corrupted \
  < <(jq -r '[.expected, .lost, .duplicated, .out_of_order, .corrupted] | map(tostring) | join(" ")' "$work/report")
echo "sent $sent, lost $lost, out of order $disorder, corrupted $corrupted, duplicated $duplicated"
# What is missing, and what Kafka has of it: whether it was lost before Kafka, or is not read.
if [ "$lost" != 0 ]; then
  jq -c '.missing' "$work/report"
  for vehicle in $(jq -r '.missing[].vehicle' "$work/report" | sort -u | head -n 9); do
    kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -e -q -f '%k partition %p, offset %o: %s\n' | grep "^$vehicle " | head -n 3
  done || true
fi
[ "$planned" = no ] || [ "$duplicated" = 0 ] || fail "a planned change has repeated something"
[ "$sent" -gt 0 ] && [ "$lost$disorder$corrupted" = 000 ]
