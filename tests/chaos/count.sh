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

# count_all: messages, distinct ones, and those that came behind a later one of their vehicle, by a client that is not ours
count_all() {
  kcat -b "$FMS_KAFKA" -C -t fms-data-stream -o beginning -e -q -X "isolation.level=$isolation" | awk '
    match($0, /"vehicle_id":"[^"]*"/) {
      vehicle = substr($0, RSTART + 14, RLENGTH - 15)
      match($0, /"seq":[0-9]+/)
      number = substr($0, RSTART + 6, RLENGTH - 6) + 0
      messages++
      if (!((vehicle, number) in seen)) {
        distinct++
        disordered += number < last[vehicle]
      }
      seen[vehicle, number] = 1
      if (number > last[vehicle]) last[vehicle] = number
    }
    END { print messages + 0, distinct + 0, disordered + 0 }'
}
