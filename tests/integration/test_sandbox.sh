#!/usr/bin/env bash
# test_sandbox.sh SANDBOX mock|real mosquitto|artemis - what the other integration tests rely on holds: the brokers
# answer, outlive their restarts with what they held, and leave nothing behind, however the sandbox ends.
#
# It runs itself as the sandbox's command, with the part to play as a fourth argument.
set -euo pipefail

if [[ $# -lt 3 || ! -x $1 || ! $2 =~ ^(mock|real)$ || ! $3 =~ ^(mosquitto|artemis)$ ]]; then
    echo "usage: $0 SANDBOX mock|real mosquitto|artemis" >&2
    exit 2
fi
sandbox=$(realpath "$1")
kafka=$2
mqtt=$3
part=${4:-all}
self=$(realpath "$0")
deadline_s=${FMS_TEST_DEADLINE_S:-90}

check() # WHAT COMMAND...
{
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok      $what"
    else
        printf 'FAILED  %s: status %d of: %s\n%s\n' "$what" $? "$*" "$output" >&2
        exit 1
    fi
}

ends_with() # STATUS COMMAND...
{
    local wanted=$1 got=0
    shift
    "$@" || got=$?
    [[ $got -eq $wanted ]] || { echo "status $got, not $wanted"; return 1; }
}

fails() { ! "$@"; }
says() { local text=$1; shift; [[ $("$@" 2>&1) == *"$text"* ]]; } # whatever the status
is_number() { [[ $("$@") =~ ^[0-9]+$ ]]; }

wait_until() # COMMAND...: not for ever
{
    local end=$((SECONDS + deadline_s))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { echo "not within $deadline_s s: $*"; return 1; }
        sleep 0.05
    done
}

process_is_gone() # PID; a zombie is gone when its threads are, which may still write
{
    local state threads
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
    threads=$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l) || return 0
    [[ -z $state || ( $state == Z && $threads -le 1 ) ]]
}

ctl() { "$sandbox" ctl "$@"; }
subscriber() { mosquitto_sub -h 127.0.0.1 -p "${FMS_MQTT##*:}" -i subscriber -c -q 1 -t test "$@"; }
publish() { mosquitto_pub -h 127.0.0.1 -p "${FMS_MQTT##*:}" -q 1 -t test -m "$1"; }
receives() { [[ $(subscriber -C 1 -W 10) == "$1" ]]; }
kafka_answers() { kcat -L -m 2 -b "$FMS_KAFKA"; }
produce() { printf '%s\n' "$@" | kcat -P -b "$FMS_KAFKA" -t test; }
holds() { [[ $(kcat -C -b "$FMS_KAFKA" -t test -o beginning -e -q | sort | paste -sd' ') == "$*" ]]; }

# --- parts that the sandbox runs ---

part_mqtt()
{
    check "mqtt: a subscription that is to be kept" subscriber -E
    check "mqtt: publish for the absent subscriber" publish one
    check "mqtt: restart" ctl mqtt restart
    check "mqtt: the message outlived the restart" receives one
    check "mqtt: stop" ctl mqtt stop
    check "mqtt: publishing fails while it is stopped" fails publish two
    check "mqtt: no process while it is stopped" fails ctl mqtt pid
    check "mqtt: start" ctl mqtt start
    check "mqtt: kill" ctl mqtt kill
    check "mqtt: publishing fails after kill" fails publish two
    check "mqtt: start after kill" ctl mqtt start
    check "mqtt: it has a process" is_number ctl mqtt pid
    check "mqtt: freeze" ctl mqtt freeze
    check "mqtt: no answer while frozen" fails timeout 1 mosquitto_pub -p "${FMS_MQTT##*:}" -t test -m frozen
    check "mqtt: thaw" ctl mqtt thaw
    check "mqtt: publish after all that" publish three
}

part_kafka()
{
    check "kafka: produce" produce a b
    check "kafka: consume" holds a b
    check "kafka: restart" ctl kafka restart
    check "kafka: the records outlived the restart" holds a b
    check "kafka: stop" ctl kafka stop
    check "kafka: no answer while it is stopped" fails kafka_answers
    check "kafka: start" ctl kafka start
    check "kafka: produce after the start" produce c
    check "kafka: nothing lost, nothing twice" holds a b c
}

part_kafka_real()
{
    check "kafka: kill" ctl kafka kill
    check "kafka: no answer after kill" fails kafka_answers
    check "kafka: start after kill" ctl kafka start
    check "kafka: the records outlived the kill" holds a b c
    check "kafka: freeze" ctl kafka freeze
    check "kafka: no answer while frozen" fails kafka_answers
    check "kafka: start says that it is frozen" says "thaw it first" ctl kafka start
    check "kafka: thaw" ctl kafka thaw
    check "kafka: the records outlived the freeze" holds a b c
    check "kafka: it has a process" is_number ctl kafka pid
    check "kafka: freeze, to be taken down so" ctl kafka freeze
}

part_kafka_mock()
{
    for operation in kill freeze thaw pid; do
        check "kafka: the mock refuses $operation" fails ctl kafka "$operation"
        check "kafka: and says why" says "--kafka=real" ctl kafka "$operation"
    done
}

part_secure()
{
    local port=${FMS_MQTT_SECURE##*:}
    check "secure: publish with TLS" mosquitto_pub -h 127.0.0.1 -p "$port" --cafile "$FMS_MQTT_CA" -q 1 -t test -m secure
    check "secure: no answer without TLS" fails timeout 2 mosquitto_pub -h 127.0.0.1 -p "$port" -q 1 -t test -m plain
    check "secure: publish without TLS at the other" publish plain
    check "secure: restart" ctl mqtt restart
    check "secure: publish with TLS again" mosquitto_pub -h 127.0.0.1 -p "$port" --cafile "$FMS_MQTT_CA" -q 1 -t test -m again
}

# The links of the MQTT broker and, with the real Kafka, of that.
part_links()
{
    check "link: publish through it" publish through
    check "link: cut" ctl mqtt cut
    check "link: publishing fails through a cut link" fails publish cut
    check "link: the broker behind it answers" mosquitto_pub -p "${FMS_MQTT_DIRECT##*:}" -t test -m direct
    check "link: heal" ctl mqtt heal
    check "link: publish through it again" publish again
    check "link: stall" ctl mqtt stall
    check "link: no answer through a stalled link" fails timeout 1 mosquitto_pub -p "${FMS_MQTT##*:}" -t test -m stalled
    check "link: slow" ctl mqtt slow
    check "link: what is slow arrives" publish slow
    check "link: heal again" ctl mqtt heal
    [[ $kafka == real ]] || return 0
    check "link: produce through it" produce a
    check "link: cut Kafka's" ctl kafka cut
    check "link: no answer from Kafka through a cut link" fails kafka_answers
    check "link: heal Kafka's" ctl kafka heal
    check "link: consume through it" holds a
}

# Says who is there, notes each signal, still needs the brokers after the first, and ends when it is allowed to.
part_wait()
{
    trap 'echo signal >>signals' INT TERM
    { ctl mqtt pid; [[ $kafka == mock ]] || ctl kafka pid; } >pids
    echo $PPID >parent
    echo $$ >self
    touch ready
    until [[ -e finish || ! -e ready ]]; do # the folder is removed when the test has failed
        sleep 0.05 || true
        if [[ -e signals && ! -e served ]]; then
            publish last && kafka_answers >/dev/null && touch served
        fi
    done
    exit 9
}

case $part in
command_line) tr '\0' ' ' <"/proc/$(ctl kafka pid)/cmdline"; exit ;;
inside) part_mqtt && part_kafka && "part_kafka_$kafka"; exit ;;
links) part_links; exit ;;
secure) part_secure; exit ;;
wait) part_wait ;;
esac

# --- from outside ---

scratch=$(mktemp -d)
waiting=
trap '[[ -z $waiting ]] || kill -KILL "$waiting" 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir tmp
export TMPDIR=$scratch/tmp
unset FMS_TEST_MQTT FMS_TEST_KAFKA
run=("$sandbox" "--kafka=$kafka" "--mqtt=$mqtt" --)
quick=("$sandbox" --kafka=none --)

nothing_is_left() { [[ -z $(ls -A tmp) ]]; }
all_gone() { local pid; while read -r pid; do process_is_gone "$pid" || return 1; done <pids; }

begin_waiting() # WHAT COMMAND...: starts the part 'wait' and returns when it is ready; sets $waiting
{
    local what=$1
    shift
    rm -f finish parent pids ready self served signals
    "$@" <&0 >log 2>&1 & # without <&0 a shell gives it /dev/null
    waiting=$!
    check "$what" wait_until test -e ready
}

wait_end() # sets $status; not for check, whose subshell has no children to wait for
{
    check "it ends" wait_until process_is_gone "$waiting"
    status=0
    wait "$waiting" || status=$?
    waiting=
}

check "a command's status" ends_with 7 "${quick[@]}" sh -c 'exit 7'
check "a command's signal" ends_with 137 "${quick[@]}" sh -c 'kill -9 $$'
check "a command that does not exist" ends_with 127 "${quick[@]}" ./missing
check "a sandbox that cannot start" ends_with 125 env TMPDIR=/nonexistent "${quick[@]}" true
check "a bad option" ends_with 2 "$sandbox" --kafka=wrong -- true
check "no ctl outside a sandbox" ends_with 1 env -u FMS_SANDBOX "$sandbox" ctl mqtt stop
check "brokers of the user's own" says tcp://mine:1 env FMS_TEST_MQTT=tcp://mine:1 "${quick[@]}" printenv FMS_MQTT
check "nothing is left so far" nothing_is_left

"${run[@]}" "$self" "$sandbox" "$kafka" "$mqtt" inside
check "nothing is left after a long run" nothing_is_left

if [[ $kafka == real ]]; then
    check "Java's options" says "-Xmx400m -XX:+UseG1GC -cp" \
        env FMS_JAVA_OPTIONS=" -Xmx400m  -XX:+UseG1GC" "${run[@]}" "$self" "$sandbox" "$kafka" "$mqtt" command_line
    check "too long a text of Java's options" says "longer than" env FMS_JAVA_OPTIONS="$(printf '%2000s' -server)" "${run[@]}" true
    check "too many of Java's options" says "too many" env FMS_JAVA_OPTIONS="$(printf -- '-server %.0s' {1..60})" "${run[@]}" true
fi

check "links go with a real Kafka" ends_with 2 "$sandbox" --links --kafka=mock -- true
check "a topic goes with the mock Kafka" ends_with 2 "$sandbox" --kafka-topic=there --kafka=real -- true
# shellcheck disable=SC2016 # the sandbox's command expands it
[[ $kafka == real ]] || check "the mock Kafka has that topic" says 'topic "there" with 1 partitions' \
    "$sandbox" --kafka-topic=there --mqtt=none -- sh -c 'kcat -b "$FMS_KAFKA" -L'
"$sandbox" "--kafka=${kafka/mock/none}" "--mqtt=$mqtt" --links -- "$self" "$sandbox" "$kafka" "$mqtt" links
check "no link without --links" says "--links" "${quick[@]}" "$sandbox" ctl mqtt cut
check "nothing is left of the links" nothing_is_left

check "no TLS without a broker" ends_with 2 "$sandbox" --kafka=none --mqtt=none --mqtt-secure -- true
check "nobody else's listener" fails env FMS_MQTT_SECURE=ssl://other:1 "${quick[@]}" printenv FMS_MQTT_SECURE
"$sandbox" --kafka=none "--mqtt=$mqtt" --mqtt-secure -- "$self" "$sandbox" "$kafka" "$mqtt" secure
check "nothing is left of the certificates" nothing_is_left

wait_for_part=("${run[@]}" "$self" "$sandbox" "$kafka" "$mqtt" wait)

begin_waiting "a sandbox, to be sent SIGTERM" "${wait_for_part[@]}"
kill -TERM "$waiting"
check "SIGTERM is passed on, and the brokers go on" wait_until test -e served
touch finish
wait_end
check "the command's status comes back" test "$status" = 9
check "the brokers are gone" all_gone
check "nothing is left after SIGTERM" nothing_is_left

# A shell lets what it starts in the background ignore SIGINT, hence env. The sandbox is held while Ctrl-C is typed, so
# that a signal that it passed on would be a second one. script's shell is bash, for dash dies of a SIGINT that came while
# it waited, whatever the command made of it.
mkfifo keys
begin_waiting "a sandbox at a terminal" \
    env --default-signal=INT SHELL=/bin/bash script -qec "${wait_for_part[*]}; exit \$?" /dev/null < <(cat keys)
exec 9>keys
kill -STOP "$(<parent)"
printf '\003' >&9
check "Ctrl-C reaches the command" wait_until test -s signals
kill -CONT "$(<parent)"
check "the brokers go on" wait_until test -e served
check "the sandbox serves requests" env FMS_SANDBOX="$(echo tmp/*/control)" "$sandbox" ctl mqtt thaw
check "Ctrl-C came once" test "$(wc -l <signals)" = 1
touch finish
wait_end
exec 9>&-
check "the command's status comes back" test "$status" = 9
check "the brokers are gone" all_gone
check "nothing is left after Ctrl-C" nothing_is_left

begin_waiting "a sandbox, to be killed" "${wait_for_part[@]}"
disown "$waiting" # or the shell reports its death
kill -KILL "$waiting"
check "no broker outlives a killed sandbox" wait_until all_gone
touch finish # the command is told by SIGTERM, which it notes here
check "the command ends" wait_until process_is_gone "$(<self)"

echo "passed: fms-sandbox --kafka=$kafka --mqtt=$mqtt"
