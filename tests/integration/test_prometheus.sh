#!/usr/bin/env bash
# A real Prometheus with the shipped rules beside a bridge whose Kafka hangs: the right alert fires, no other, and it goes again.
#
#   fms-sandbox --kafka=real -- tests/integration/test_prometheus.sh BIN-DIRECTORY
set -euo pipefail
command -v prometheus >/dev/null || { echo "skipped: no prometheus"; exit 77; }
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"

# ask EXPRESSION: what Prometheus answers, a line each: the labels that tell the series apart, and the value
ask() {
  curl -fsS "$prometheus/api/v1/query" --data-urlencode "query=$1" |
    jq -r '.data.result[] | "\(.metric.alertname // "-") \(.metric.pipeline // "-") \(.metric.stage // "-"): \(.value[1])"'
}
says() { [ "$(ask "$1" 2>/dev/null)" = "$2" ]; }
holds() { [ -n "$(ask "$1" 2>/dev/null)" ]; }
firing='ALERTS{alertstate="firing"}'
nothing_fires() { says "$firing" ""; }
evaluated() { curl -fsS "$prometheus/api/v1/rules" | jq -e '[.data.groups[].rules[].health] | unique == ["ok"]' >"$work/rules"; }
# answers PATH STATUS PATTERN
answers() {
  [ "$(curl -s -o "$work/answer" -w '%{http_code}' "$admin$1")" = "$2" ] && grep -q "$3" "$work/answer"
}

# The bridge as it is shipped, but for its patience; vehicles that go on sending.
sed 's/^\[pipeline\]$/&\nstall_after = 3s/' "$root/pipelines/bridge.ini" >"$work/bridge.ini"
start bridge --admin=127.0.0.1:0 "$work/bridge.ini"
until_true 40 "the bridge's subscription" logged bridge "source: receives"
admin=$(sed -n 's|.*watch it at \(http://[^ ]*[0-9]\)/.*|\1|p' "$work/bridge.log")
[ -n "$admin" ] || fail "the bridge does not say where it is watched"
TEST_RATE=200 TEST_COUNT=1000000 start publisher "$root/tests/integration/publisher.ini"

# Prometheus as it is shipped, but every second, and of this bridge alone.
cp "$root/deploy/prometheus/alerts.yml" "$work"
sed -e 's/_interval: 5s/_interval: 1s/' -e "s|targets: \[\"mqtt_subscriber.*|targets: [\"${admin#http://}\"]|" \
  -e '/job_name: redpanda/,/^$/d' -e '/job_name: prometheus/,$d' "$root/deploy/prometheus/prometheus.yml" >"$work/prometheus.yml"
promtool check config "$work/prometheus.yml" >"$work/promtool.log" 2>&1 || fail "promtool does not take the configuration"
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
prometheus=http://127.0.0.1:$port
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="127.0.0.1:$port" \
  >>"$work/prometheus.log" 2>&1 &
pids+=($!)
until_true 30 "Prometheus" curl -fs -o "$work/ready" "$prometheus/-/ready"

until_true 30 "a scrape that Prometheus takes" says 'up{job="fmspipe"}' "- - -: 1"
until_true 30 "records that are confirmed" holds 'rate(fmspipe_records_delivered_total{pipeline="bridge"}[5s]) > 0'
curl -fsS "$admin/metrics" | promtool check metrics >>"$work/promtool.log" 2>&1 || fail "promtool has something to say of /metrics"
until_true 10 "readiness" answers "/readyz?verbose" 200 "sink kafka ok"
until_true 10 "rules that were evaluated" evaluated
nothing_fires || fail "before anything is wrong there fires: $(ask "$firing")"

ctl kafka freeze
until_true 20 "the alert" says "$firing" "FmspipeStuck bridge sink kafka: 1"
until_true 10 "a bridge that says why it is not ready" answers "/readyz?verbose" 503 "sink kafka.*confirmed nothing since"
answers /livez 200 ok || fail "the bridge is not alive, and should be: its lane answers"
curl -fsS "$admin/status" | jq -e '.pipelines[0] | .verdict == "stuck" and .held_by == "sink kafka" and (.sentence | startswith("STUCK for"))' \
  >"$work/status" || fail "/status does not say what is wrong: $(curl -fsS "$admin/status" | jq -r '.pipelines[0].sentence')"

ctl kafka thaw
until_true 30 "the end of the alert" nothing_fires
until_true 30 "readiness again" answers "/readyz" 200 ok
until_true 30 "records that are confirmed again" holds 'rate(fmspipe_records_delivered_total{pipeline="bridge"}[5s]) > 0'
stop publisher TERM
stop bridge TERM
echo "the right alert fired"
