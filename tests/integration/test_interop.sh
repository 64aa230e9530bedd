#!/usr/bin/env bash
# An MQTT broker and our plugins for it: every version, QoS and transport on a calm link, and what breaks it.
#
#   fms-sandbox --kafka=none --mqtt=BROKER --mqtt-secure --links -- tests/integration/test_interop.sh BROKER BIN-DIRECTORY
#
# fms_sim -> mqtt_sink -> BROKER -> mqtt_ingest or mqtt_source -> verify_sink. Prints the rows of a table.
set -euo pipefail
broker=$1
bin=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/integration
# shellcheck source=tests/integration/common.sh
. "$here/common.sh"
if [ -z "${FMS_MQTT_SECURE:-}" ] || [ -z "${FMS_MQTT_DIRECT:-}" ]; then
  echo "skipped: it restarts the broker, so it takes only that of fms-sandbox --mqtt-secure --links"
  exit 77
fi
export TEST_WORK=$work TEST_COUNT=2000
runs=0
failed=0

case $broker in
  mosquitto)
    TEST_WINDOW=100
    duplicates=1   # up to this QoS a message may come again
    disorder=none
    ;;
  artemis)
    TEST_WINDOW=1 # 2.40 keeps the order of one message at a time
    duplicates=2  # 2.40 sends again by another packet identifier: nobody can tell that from another message
    disorder="mqtt_source 3.1.1 2" # 2.40 mixes up PUBREL, and paho waits for that
    ;;
esac
export TEST_WINDOW

# --- what happens while messages are on their way to the receiver

during_calm() { ended sender; }
during_aliases() { ended sender; }

# What is on its way when a link breaks is lost with it, messages and acknowledgements: it passes nothing for a moment first.
during_cut() {
  local round
  for round in 1 2 3; do
    until_true 30 "some messages" lines receiver $((round * 400))
    ctl mqtt stall
    sleep 0.2
    ctl mqtt cut
    sleep 0.2
    ctl mqtt heal
  done
  ended sender
}

# All is confirmed to the sender before: what is not it would send again, and that is another message to the broker.
during_restart() {
  ctl mqtt stall
  ended sender
  ctl mqtt slow
  until_true 30 "some messages" lines receiver 100
  ctl mqtt restart
  ctl mqtt heal
}

# --- runs

# begin PLUGIN VERSION QOS TRANSPORT: for a run of its own, with a topic and a session that none had before
begin() {
  plugin=$1 transport=$4
  export TEST_VERSION=$2 TEST_QOS=$3 TEST_RATE=3000 TEST_TOPIC=interop-$((++runs)) TEST_CLIENT=receiver-$runs
  export TEST_SENDER=$FMS_MQTT_DIRECT TEST_RECEIVER=$FMS_MQTT
  if [ "$transport" = TLS ]; then TEST_SENDER=$FMS_MQTT_SECURE TEST_RECEIVER=$FMS_MQTT_SECURE; fi
  rm -f "$work"/{*.out,*.log,*.ini,counts,report}
  adapt sender
  adapt receiver
}

# adapt NAME [SED-EXPRESSION...]: a copy of a pipeline file, changed
adapt() {
  local name=$1 expression=(-e "s/^plugin = mqtt_ingest/plugin = $plugin/")
  [ "$transport" = TCP ] || expression+=(-e "/^server = /a ca_file = $FMS_MQTT_CA")
  sed "${expression[@]}" "${@:2}" "$here/interop_$name.ini" >"$work/$name.ini"
}

# receive [NAME]: starts a receiver
receive() {
  start "${1:-receiver}" "$work/receiver.ini"
  until_true 40 "a subscription" logged "${1:-receiver}" "source: receives"
}

# row EVENT SENT LOST DUPLICATED DISORDER CORRUPTED: judges the run
row() {
  local verdict=kept
  if [ "$3$6" != 00 ]; then verdict=BROKEN; fi
  if [ "$5" != 0 ] && [ "$plugin $TEST_VERSION $TEST_QOS" != "$disorder" ]; then verdict=BROKEN; fi
  if [ "$4" != 0 ]; then
    case $1 in
      cut | restart) [ "$TEST_QOS" -le "$duplicates" ] || verdict=BROKEN ;;
      *) verdict=BROKEN ;;
    esac
  fi
  [ $verdict = kept ] || failed=$((failed + 1))
  printf '| %-9s | %-11s | %-5s | %3d | %-4s | %-7s | %5d | %4d | %10d | %12s | %9d | %-7s |\n' "$broker" "$plugin" \
    "$TEST_VERSION" "$TEST_QOS" "$transport" "$1" "${@:2}" "$verdict"
}

# stream EVENT: a run in which that happens
stream() {
  local counts
  receive
  start sender "$work/sender.ini"
  "during_$1"
  ended receiver
  read -ra counts < <(sed -n \
    's/.*: lost \([0-9]*\), duplicated \([0-9]*\), out of order \([0-9]*\), corrupted \([0-9]*\);.*/\1 \2 \3 \4/p' "$work/report")
  row "$1" "$TEST_COUNT" "${counts[@]}"
}

run_calm() { begin "$@"; stream calm; }
run_cut() { begin "$@"; TEST_RATE=1000; stream cut; }
run_restart() { begin "$@"; stream restart; }

# More topics than aliases, and the vehicle taken from the topic: a wrong one shows.
run_aliases() {
  begin "$@"
  adapt sender -e "s|^topic = .*|topic = $TEST_TOPIC/\${key}|"
  adapt receiver -e "s|^topic = .*|topic = $TEST_TOPIC/+|" -e '/^qos = /a topic_alias_maximum = 10' \
    -e "/^expect = /a vehicle = \${topic[1]}"
  stream aliases
}

# More than what is read at once.
run_large() {
  local address=$FMS_MQTT_DIRECT arrived=0
  begin "$@"
  for size in 300000 3000000; do head -c $size /dev/zero | tr '\0' x; echo; done >"$work/large"
  adapt receiver -e "/^\[sink verify\]/,\$d" -e '/^format = /a count = 2'
  receive
  while read -r message; do
    printf %s "$message" | mosquitto_pub -h 127.0.0.1 -p "${address##*:}" -q "$TEST_QOS" -t "$TEST_TOPIC/data" -s
  done <"$work/large"
  ended receiver
  ! cmp -s "$work/large" "$work/receiver.out" || arrived=2
  row large 2 $((2 - arrived)) 0 0 0
}

# Two members; the order is not promised.
run_shared() {
  local came distinct
  begin "$@"
  adapt receiver -e "s|^topic = .*|topic = \$share/fleet/$TEST_TOPIC/data|" -e "/^\[sink verify\]/,\$d"
  for member in one two; do TEST_CLIENT=$TEST_TOPIC-$member receive $member; done
  start sender "$work/sender.ini"
  ended sender
  until_true 30 "all messages" all_came one two
  for member in one two; do lines $member 1 || fail "member $member got nothing"; stop $member TERM; done
  came=$(cat "$work"/{one,two}.out | wc -l)
  distinct=$(sort -u "$work"/{one,two}.out | wc -l)
  row shared "$TEST_COUNT" $((TEST_COUNT - distinct)) $((came - distinct)) 0 0
}
all_came() { [ "$(sort -u "${@/*/$work/&.out}" | wc -l)" -ge "$TEST_COUNT" ]; }

echo "| broker    | plugin      | MQTT  | QoS | over | event   |  sent | lost | duplicated | out of order | corrupted | promise |"
echo "|-----------|-------------|-------|-----|------|---------|-------|------|------------|--------------|-----------|---------|"
for version in 3.1.1 5; do
  for qos in 0 1 2; do
    for transport in TCP TLS; do run_calm mqtt_ingest $version $qos $transport; done
    for transport in TCP TLS; do run_calm mqtt_source $version $qos $transport; done
    [ $qos = 0 ] || for event in cut restart; do run_$event mqtt_ingest $version $qos TCP; done
  done
  run_large mqtt_ingest $version 1 TCP
done
run_aliases mqtt_ingest 5 1 TCP
run_shared mqtt_ingest 5 1 TCP
[ $failed = 0 ] || fail "$failed of $runs runs"
echo "passed: $broker, $runs runs"
