#!/usr/bin/env bash
# Who a message is, over two hops of MQTT: told by its payload, sent as user properties, taken up again and sent on; and not of parts.
#
#   fms-sandbox --kafka=none --mqtt=mosquitto -- tests/integration/test_identity_mqtt.sh BIN-DIRECTORY
set -euo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
command -v mosquitto_pub >/dev/null || { echo "skipped: there is no mosquitto_pub"; exit 77; }
prefix=identity$$

# hop FROM TO LINE...: a pipeline between two topics, with these lines between its server and its sink
hop() {
  cat <<END >"$work/$1.ini"
[pipeline]
name = $1
[source]
plugin = mqtt_ingest
topic = $prefix/$1/+
client_id = $prefix-$1
server = $FMS_MQTT
$(printf '%s\n' "${@:3}")
[sink mqtt]
plugin = mqtt_sink
server = $FMS_MQTT
topic = $prefix/$2/\${topic[2]}
identity = yes
END
  start "$1" "$work/$1.ini"
  until_true 40 "the subscription of $1" logged "$1" "source: receives"
}

url=${FMS_MQTT#*://}
where=(-h "${url%:*}" -p "${url##*:}" -V 5 -q 1)
publish() { mosquitto_pub "${where[@]}" -t "$prefix/$1" -m "$2" "${@:3}"; }
came() { [ "$(grep -c '^came ' "$work/subscriber.log")" = "$1" ]; }

stdbuf -oL mosquitto_sub "${where[@]}" -d -t "$prefix/last/+" -F 'came %t [%P] %p' >"$work/subscriber.log" &
pids+=($!)
until_true 20 "the subscriber" grep -q "^Subscribed" "$work/subscriber.log"
# shellcheck disable=SC2016
hop first second 'origin = ${topic[2]}/${json:vehicle_id}' 'sequence = ${json:seq}'
hop second last
hop batch last '[transform split]' 'plugin = split'
publish first/a '{"vehicle_id": "truck 9%", "seq": 18446744073709551615}'
until_true 20 "a message" came 1
publish first/b '{"vehicle_id": "truck 9%", "seq": "7"}'
until_true 20 "another vehicle's" came 2
publish first/a '{"vehicle_id": "x"}'
until_true 20 "one without a number" came 3
publish batch/a '[{"seq": 1}, {"seq": 2}]' -D publish user-property fms.origin x -D publish user-property fms.sequence 1
until_true 20 "parts" came 5
grep '^came ' "$work/subscriber.log" >"$work/came"
cat >"$work/wanted" <<END
came $prefix/last/a [fms.origin:a/truck 9%25 fms.sequence:18446744073709551615] {"vehicle_id": "truck 9%", "seq": 18446744073709551615}
came $prefix/last/b [fms.origin:b/truck 9%25 fms.sequence:7] {"vehicle_id": "truck 9%", "seq": "7"}
came $prefix/last/a [] {"vehicle_id": "x"}
came $prefix/last/a [] {"seq": 1}
came $prefix/last/a [] {"seq": 2}
END
diff "$work/wanted" "$work/came" >&2 || fail "other messages came"
for name in first second batch; do stop $name TERM; done
echo passed
