#!/usr/bin/env bash
# Kafka with TLS, SASL and rights: what is refused is said and not lost, what is granted arrives, and no log holds a
# password.
#
#   fms-sandbox --kafka=real --kafka-secure --mqtt=none -- tests/integration/test_kafka_security.sh BIN-DIRECTORY
set -euo pipefail
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/common.sh
. "$here/common.sh"
if [ -z "${FMS_KAFKA_SECURE:-}" ]; then
  echo "skipped: the Kafka is not the sandbox's"
  exit 77
fi

# Kafka's own tools, at the listener that is open to all.
admin() {
  local class=$1
  shift
  java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$FMS_KAFKA_JARS/*" "kafka.admin.$class" --bootstrap-server "$FMS_KAFKA" "$@" \
    >"$work/admin.log" 2>&1 || fail "$class"
}
rights() { admin AclCommand "$1" --allow-principal "User:$FMS_KAFKA_USER" "${@:2}" --force; }
write_rights=(--operation Write --operation Create --operation Describe --topic secure)

# wrong WHAT PATTERN [VARIABLE=VALUE...]: a probe and a pipeline say what is wrong, and the pipeline goes on trying.
wrong() {
  local what=$1 pattern=$2 variable
  shift 2
  for variable in "$@"; do local -x "${variable?}"; done
  if "$bin/fmspipe" probe --timeout=5 "$here/secure_writer.ini" >"$work/probe.log" 2>&1; then fail "probe: $what"; fi
  logged probe "$pattern" || fail "what probe said: $what"
  cat "$work/probe.log" >>"$work/all.log"
  : >"$work/writer.log"
  start writer --log-level=debug "$here/secure_writer.ini"
  until_true 30 "the complaint: $what" logged writer "warn .*$pattern"
  kill -0 "${pid_of[writer]}" || fail "the writer has ended: $what"
  kill -TERM "${pid_of[writer]}"
  wait "${pid_of[writer]}" && fail "records were delivered: $what"
  cat "$work/writer.log" >>"$work/all.log"
  echo "$what: said, and tried again"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=other \
  -keyout "$work/other.key" -out "$work/other.pem" 2>/dev/null
wrong "a wrong password" "SASL.*authentication" TEST_DRAIN=100ms FMS_KAFKA_PASSWORD=wrong-by-intention
wrong "a wrong authority" "certificate verify failed" TEST_DRAIN=100ms FMS_KAFKA_CA="$work/other.pem"
wrong "no TLS" "does it expect another kafka.security.protocol" TEST_DRAIN=100ms TEST_PROTOCOL=sasl_plaintext
rm -f "$work/writer.out" "$work/writer.log"

# --- rights of the writer: none, some, none again in mid-stream, some
start writer --log-level=debug "$here/secure_writer.ini"
until_true 60 "the writer's complaint" logged writer "warn .*will be offered again: topic secure: .*[Aa]uthoriz"
rights --add "${write_rights[@]}"
until_true 60 "the writer's recovery" logged writer "delivers again"
rights --remove "${write_rights[@]}"
until_true 60 "the writer's second complaint" logged writer "will be offered again: topic secure: .*[Aa]uthoriz" 2
rights --add "${write_rights[@]}"
until_true 60 "the writer's second recovery" logged writer "delivers again" 2
stop writer TERM
if grep -q " rejected, [1-9]\|goes to dead letters" "$work/writer.log"; then fail "records were rejected"; fi
restarts=$(sed -n 's/.*producer_restarts: //p' "$work/writer.log")
[ "$restarts" -le 40 ] || fail "a producer without rights was made anew $restarts times: it does not back off"
kcat -b "$FMS_KAFKA" -C -t secure -o beginning -e -q >"$work/secure"
cmp "$work/secure" "$work/writer.out" || fail "what is in the topic is not what was sent"
echo "rights come and go: $(wc -l <"$work/secure") sent, all there, in order, once; $restarts producers given up"

# --- rights of the reader, by both mechanisms
export TEST_MECHANISM=PLAIN
start reader --log-level=debug "$here/secure_reader.ini"
until_true 60 "the reader's complaint" logged reader "warn .*[Aa]uthoriz"
rights --add --operation Read --topic secure
rights --add --operation Read --group '*'
until_true 60 "all records" lines reader "$(wc -l <"$work/secure")"
stop reader TERM
cmp "$work/secure" "$work/reader.out" || fail "what was read is not what is in the topic"
echo "PLAIN: read"

admin ConfigCommand --alter --add-config "SCRAM-SHA-256=[password=$FMS_KAFKA_PASSWORD]" --entity-type users \
  --entity-name "$FMS_KAFKA_USER"
export TEST_MECHANISM=SCRAM-SHA-256
start scram --log-level=debug "$here/secure_reader.ini"
until_true 60 "all records by SCRAM" lines scram "$(wc -l <"$work/secure")"
stop scram TERM
cmp "$work/secure" "$work/scram.out" || fail "what was read by SCRAM is not what is in the topic"
echo "SCRAM-SHA-256: read"

# --- certificates that change while both run: unusable, another authority's, the right ones again
right=$FMS_KAFKA_CA
authority() { cp "$1" "$work/ca.new" && mv "$work/ca.new" "$work/ca.pem"; }
export FMS_KAFKA_CA=$work/ca.pem
authority "$work/other.pem"
start late --log-level=debug "$here/secure_reader.ini"
until_true 60 "the first authority, a wrong one" logged late "certificate verify failed"
authority "$right"
until_true 60 "the right one, before it ever was connected" logged late "1 partition assigned"
stop late TERM
start again --log-level=debug "$here/secure_reader.ini"
start renewed --log-level=debug "$here/secure_writer.ini"
until_true 60 "the first records" lines again 100
echo "no certificate" >"$work/broken.pem"
authority "$work/broken.pem"
for name in again renewed; do until_true 60 "$name keeps the old ones" logged $name "those that were read before stay"; done
known=$(wc -l <"$work/again.out")
until_true 60 "more records" lines again $((known + 100))
rights --remove "${write_rights[@]}"
until_true 60 "a new producer while they are unusable" logged renewed "starting a new producer"
rights --add "${write_rights[@]}"
until_true 60 "that it delivers with the old ones" logged renewed "delivers again"
known=$(wc -l <"$work/again.out")
until_true 60 "records of the new producer" lines again $((known + 100))
authority "$work/other.pem"
for name in again renewed; do
  until_true 60 "a new client" logged $name "a new client takes over"
  until_true 60 "$name does not trust" logged $name "certificate verify failed"
done
authority "$right"
for name in again renewed; do until_true 60 "a third client" logged $name "a new client takes over" 2; done
known=$(wc -l <"$work/again.out")
until_true 60 "records again" lines again $((known + 100))
stop renewed TERM
until_true 60 "all records" lines again "$(wc -l <"$work/renewed.out")"
stop again TERM
cmp "$work/again.out" "$work/renewed.out" || fail "what was read is not what was sent while certificates changed"
echo "certificates change: $(wc -l <"$work/again.out") sent, all there, in order, once"

# --- a password that is replaced while both run, in files as Kubernetes does it: the reader has it before the brokers, the writer after
secret() {
  mkdir -p "$work/$1"
  local fresh
  fresh=$(mktemp -d "$work/$1/XXXXXX")
  printf '%s\n' "$2" >"$fresh/password"
  ln -s "${fresh##*/}" "$work/$1/fresh" && mv -T "$work/$1/fresh" "$work/$1/data"
}
for name in reader writer; do
  secret $name "$FMS_KAFKA_PASSWORD"
  sed "s|\${env:FMS_KAFKA_PASSWORD}|\${file:$work/$name/data/password}|" "$here/secure_$name.ini" >"$work/secret_$name.ini"
done
start follower --log-level=debug "$work/secret_reader.ini"
start rotated --log-level=debug "$work/secret_writer.ini"
until_true 60 "the first records" lines follower 100
secret reader another-password
admin ConfigCommand --alter --add-config "SCRAM-SHA-256=[password=another-password]" --entity-type users \
  --entity-name "$FMS_KAFKA_USER"
until_true 60 "the reader has read it" logged follower "the next connection logs in so"
ctl kafka restart # which ends all connections
until_true 60 "the writer is refused" logged rotated "[Aa]uthentication"
secret writer another-password
until_true 60 "the writer has read it" logged rotated "the next connection logs in so"
known=$(wc -l <"$work/rotated.out")
until_true 60 "records with the other password" lines follower $((known + 100))
if logged follower "[Aa]uthentication fail"; then fail "the reader had the password before the brokers had, and was refused"; fi
stop rotated TERM
until_true 60 "all records" lines follower "$(wc -l <"$work/rotated.out")"
stop follower TERM
awk '!seen[$0]++' "$work/follower.out" >"$work/followed" # a broker that restarts may have some read again
cmp "$work/followed" "$work/rotated.out" || fail "what was read is not what was sent while a password changed"
if grep -q "starting a new producer\|a new client takes over" "$work/rotated.log" "$work/follower.log"; then
  fail "a new password costs no new client"
fi
echo "a password changes: $(wc -l <"$work/rotated.out") sent, all there, in order, $(wc -l <"$work/follower.out") read"

passwords="$FMS_KAFKA_PASSWORD\|wrong-by-intention\|another-password"
if grep -l "$passwords" "$work"/*.log; then fail "these logs hold a password"; fi
echo "passed"
