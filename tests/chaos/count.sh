# How what has come out is counted; sourced after common.sh.
# shellcheck shell=bash
: "${bin:?the folder of the programs}" "${root:?the source tree}" "${work:?a folder}"
isolation=read_committed
counts=0

# verify COUNTS IDLE: `report` says what pipelines/verify.ini finds from the topic's beginning, in which COUNTS is to be
verify() {
  counts=$((counts + 1))
  sed "s/= read_committed/= $isolation/" "$root/pipelines/verify.ini" >"$work/verify.ini"
  FMS_GROUP=fms-verify-$counts FMS_EXPECT=$1 FMS_FORMAT=json FMS_IDLE=$2 "$bin/fmspipe" "$work/verify.ini" >"$work/report" 2>"$work/verify.log" || true
  [ -s "$work/report" ] || fail "no report"
}
report() { jq -r "$1" "$work/report"; }

# messages: how many there are for a client that is not ours
messages() { kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -e -q -X "isolation.level=$isolation" | wc -l; }
