#!/usr/bin/env bash
# A vehicle that starts in 1970: what it stores then reaches a real MQTT broker with its true time, or says that it has none; and nothing stops
# when its clock jumps by 50 years.
#
#   fms-sandbox --kafka=none --mqtt=mosquitto --links -- tests/integration/test_no_clock.sh BIN-DIRECTORY SHIM
#
# SHIM is clock_shim.so: it is the machine's clock, and which start of the machine this is. sent_ns in the payloads is nobody's to mend, so it
# says what the clock was.
set -euo pipefail
bin=$(cd "$1" && pwd)
shim=$(realpath "$2")
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$root/tests/integration/common.sh"
command -v mosquitto_sub >/dev/null || { echo "skipped: there is no mosquitto_sub"; exit 77; }

export CLOCK_SHIM=$work/clock
year=$((365 * 86400))
in_1970=$((100 - $(date +%s)))
# clock AHEAD SYNCHRONISED BOOT: all at once, for programs read it at any time
clock() { echo "$*" >"$work/clock.new" && mv "$work/clock.new" "$work/clock"; }
# vehicle NAME FILE...: runs it by that clock
vehicle() {
  local name=$1
  shift
  LD_PRELOAD=$shim start "$name" "${@/#/$work/}"
}
cat >"$work/in.ini" <<END
[source]
plugin = fms_sim
interval = 20ms
sequence = yes
[sink spool]
plugin = spool
path = $work/spool
clock = checked
END
cat >"$work/out.ini" <<END
[source]
plugin = spool
path = $work/spool
clock_field = timestamp
[sink mqtt]
plugin = mqtt_sink
server = $FMS_MQTT
client_id = vehicle
reconnect_min = 50ms
reconnect_max = 100ms
END

url=${FMS_MQTT_DIRECT#*://}
mosquitto_sub -h "${url%:*}" -p "${url##*:}" -t fms/data -q 1 -i reader -c >"$work/samples" &
pids+=($!)
samples() { [ "$(wc -l <"$work/samples")" -ge "$1" ]; }
# more COUNT: so many more come
more() {
  local wanted=$(($(wc -l <"$work/samples") + $1))
  until_true 30 "sample $wanted" samples "$wanted"
}
# unset_ones COUNT: the spool holds so many without a time
unset_ones() {
  local held
  "$bin/fmspipe" probe "$work/in.ini" >"$work/probe" 2>&1 || return 1
  held=$(sed -n 's/.* \([0-9]*\) records were stored while.*/\1/p' "$work/probe")
  [ "${held:-0}" -ge "$1" ]
}

# The first start: set after a while.
clock "$in_1970" 0 1
vehicle one in.ini out.ini
until_true 30 "records without a time" unset_ones 50
[ ! -s "$work/samples" ] || fail "something came before the clock was set: $(head -n 1 "$work/samples")"
clock 0 1 1
more 100
logged one 'the clock is known now: it was [0-9]* days behind; at most [0-9]* records are mended' || fail "nobody says that the clock was set"

# And it jumps, to and fro, while the link is cut: nothing waits for it.
for ahead in $((50 * year)) $((-50 * year)) 0; do
  clock "$ahead" 1 1
  ctl mqtt cut
  ctl mqtt heal
  more 20
done
stop one KILL

# The second: never set. The third has a clock.
clock "$in_1970" 0 2
vehicle two in.ini
until_true 30 "records without a time" unset_ones 30
stop two KILL
clock 0 1 3
came=$(wc -l <"$work/samples")
vehicle three in.ini out.ini
until_true 30 "what the second start stored, and more" samples $((came + 60))
logged three 'records are handed on whose time is not known' || fail "nobody says that records have no time"
stop three TERM

python3 - "$work/samples" "$in_1970" "$(date +%s)" <<'END'
import json
import sys

samples = [json.loads(line) for line in open(sys.argv[1])]
in_1970, now = int(sys.argv[2]), int(sys.argv[3])
runs, seen = [], set()
for sample in samples:
    if sample["seq"] == 1 and sample["sent_ns"] not in seen:
        runs.append([])
    if sample["sent_ns"] not in seen:  # a kill may have some come twice
        runs[-1].append(sample)
    seen.add(sample["sent_ns"])


def age(time):
    return now - time


def is_old(sample):
    return sample["sent_ns"] < 10**9 * 86400


assert len(runs) == 3, [len(run) for run in runs]
for run in runs:
    assert [sample["seq"] for sample in run] == list(range(1, len(run) + 1)), "some are missing, or out of order"
mended = [sample for sample in runs[0] if is_old(sample)]
assert len(mended) >= 50
for sample in mended:
    true = sample["sent_ns"] / 1e9 - in_1970
    assert -0.01 < true - sample["timestamp"] < 1.01, sample
    assert "clock" not in sample and 0 <= age(true) < 300, sample
assert len(runs[1]) >= 30 and all(is_old(sample) for sample in runs[1])
for sample in runs[1]:
    assert sample["clock"] == "unset" and list(sample)[-1] == "clock" and sample["timestamp"] == sample["sent_ns"] // 10**9, sample
for sample in [sample for sample in runs[0] if not is_old(sample)] + runs[2]:
    assert "clock" not in sample and sample["timestamp"] == sample["sent_ns"] // 10**9, sample
END
