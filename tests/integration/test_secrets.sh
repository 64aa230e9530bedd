#!/usr/bin/env bash
# Secrets of an MQTT broker are replaced while pipelines run: password, certificate, key, its password and the authority. Nothing is
# restarted but the broker, nothing is lost, and nothing says a password.
#
#   tests/integration/test_secrets.sh BIN-DIRECTORY
#
# fms_sim -> mqtt_sink -> mosquitto, with TLS, certificates and passwords -> mqtt_ingest -> console_sink
set -euo pipefail
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$here/common.sh"
PATH=$PATH:/usr/sbin
command -v mosquitto_passwd >/dev/null || { echo "skipped: there is no mosquitto"; exit 77; }
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# --- a folder of secrets for each side, replaced as Kubernetes does it: `data` is a symbolic link to the latest
for side in broker client; do
  for ca in ca1 ca2; do
    [ -f "$work/$ca.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$ca" \
      -keyout "$work/$ca.key" -out "$work/$ca.pem"
  done
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$side" -keyout "$work/$side.key" -out "$work/$side.csr"
done 2>/dev/null
echo subjectAltName=DNS:localhost >"$work/names"

# secrets SIDE AUTHORITY PASSWORD [DAYS]: from now on
secrets() {
  local fresh
  mkdir -p "$work/$1"
  fresh=$(mktemp -d "$work/$1/XXXXXX")
  cp "$work/$2.pem" "$fresh/ca.pem"
  openssl x509 -req -in "$work/$1.csr" -CA "$work/$2.pem" -CAkey "$work/$2.key" -CAcreateserial -days "${4:-2}" \
    -extfile "$work/names" -out "$fresh/cert.pem" 2>/dev/null
  if [ "$1" = broker ]; then
    cp "$work/broker.key" "$fresh/key.pem"
    mosquitto_passwd -b -c "$fresh/users" fleet "$3"
  else
    openssl ec -aes128 -passout "pass:key-$3" -in "$work/client.key" -out "$fresh/key.pem" 2>/dev/null
    echo "key-$3" >"$fresh/key_password"
    echo "$3" >"$fresh/password"
  fi
  ln -s "${fresh##*/}" "$work/$1/fresh" && mv -T "$work/$1/fresh" "$work/$1/data"
}

cat >"$work/mosquitto.conf" <<END
listener $port 127.0.0.1
$([ "$(id -u)" != 0 ] || echo user root)
persistence true
persistence_location $work/
max_queued_messages 0
allow_anonymous false
password_file $work/broker/data/users
cafile $work/broker/data/ca.pem
certfile $work/broker/data/cert.pem
keyfile $work/broker/data/key.pem
require_certificate true
END
broker_pid=
broker_start() {
  mosquitto -c "$work/mosquitto.conf" >>"$work/mosquitto.log" 2>&1 &
  broker_pid=$!
  pids+=($!)
}
broker_restart() {
  kill -TERM "$broker_pid"
  wait "$broker_pid" || true
  broker_start
}

# link CLIENT-ID: how to get there
link() {
  cat <<END
server = ssl://localhost:$port
client_id = $1
username = fleet
password = \${file:$work/client/data/password}
ca_file = $work/client/data/ca.pem
cert_file = $work/client/data/cert.pem
key_file = $work/client/data/key.pem
key_password = \${file:$work/client/data/key_password}
reconnect_max = 500ms
END
}
cat >"$work/writer.ini" <<END
[source]
plugin = fms_sim
vehicles = 20
rate = 500
sequence = yes
[sink mqtt]
plugin = mqtt_sink
topic = fms/\${key}/data
$(link writer)
[sink copy]
plugin = console_sink
format = json
END
cat >"$work/reader.ini" <<END
[source]
plugin = mqtt_ingest
topic = fms/+/data
clean_start = no
$(link reader)
[sink copy]
plugin = console_sink
format = json
END

# --- what is missing is told before anything runs
if "$bin/fmspipe" check "$work/writer.ini" >"$work/check.log" 2>&1; then fail "check: there is no password"; fi
logged check "password: column 1: the file $work/client/data/password is not there" || fail "what check says"
secrets client ca1 first-secret
"$bin/fmspipe" check "$work/writer.ini" >"$work/check.log" 2>&1 || fail "check"

secrets broker ca1 first-secret
broker_start
start reader --admin="unix:$work/admin" "$work/reader.ini"
until_true 30 "the subscription" logged reader "source: receives"
start writer "$work/writer.ini"
flows() {
  local known
  known=$(wc -l <"$work/writer.out")
  until_true 30 "records $1" lines reader $((known + 100))
}
flows "with the first secrets"

# --- the broker has them first
secrets broker ca1 second-secret
broker_restart
for name in reader writer; do until_true 30 "$name is refused" logged $name "warn .*uthorized\|warn .*user name or password"; done
secrets client ca1 second-secret
flows "with the second"

# --- the pipelines have them first, and for some time they are of an authority that the broker does not know
secrets client ca2 third-secret
secrets broker ca2 third-secret
broker_restart
flows "of another authority"

# --- a certificate has run out
secrets client ca2 third-secret 0
has_run_out() { ! openssl x509 -checkend 0 -noout -in "$work/client/data/cert.pem" >/dev/null; }
until_true 5 "the end of the second for which it is valid" has_run_out
broker_restart
until_true 30 "that the broker says so" logged reader "the broker says: certificate expired"
secrets client ca2 third-secret
flows "after the certificate had run out"

# --- empty files change nothing
: >"$work/client/data/password"
: >"$work/client/data/cert.pem"
broker_restart
flows "in spite of empty files"
logged reader "password cannot be read again, so it stays as it was" || fail "an empty file is not told"

"$bin/fmspipe" status "unix:$work/admin" --json >"$work/status.log" || fail "status"
stop writer TERM
sent=$(wc -l <"$work/writer.out")
all_came() {
  awk '!seen[$0]++' "$work/reader.out" >"$work/first" # what was not acknowledged comes again
  [ "$(wc -l <"$work/first")" -ge "$sent" ]
}
until_true 60 "all records" all_came
stop reader TERM
cmp "$work/first" "$work/writer.out" || fail "what was read is not what was sent"
if grep -l "\(first\|second\|third\)-secret" "$work"/*.log; then fail "these logs hold a password"; fi
echo "passed: $sent sent, all there, in order, $(wc -l <"$work/reader.out") read"
