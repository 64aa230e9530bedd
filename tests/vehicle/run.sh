#!/usr/bin/env bash
# What scripts/power-cuts runs when all is built: run.sh BUILD-FOLDER cuts|self-test|can|measure|clock [OPTION...]. 77: there is no machine here.
set -euo pipefail
build=$1 mode=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
for program in qemu-system-x86_64 busybox mkfs.ext4 e2fsck; do
  PATH=$PATH:/sbin command -v $program >/dev/null || { echo "skipped: there is no $program (scripts/dependencies machine)"; exit 77; }
done
kernel=$("$here/../../scripts/fetch-kernel") || { echo "skipped: there is no kernel for the machine"; exit 77; }

sandbox=("$build/bin/fms-sandbox" --)
[ -z "${FMS_SANDBOX:-}" ] || sandbox=() # it runs in one
machine() { "${sandbox[@]}" "$here/power_cuts.py" "$build" "$kernel" "$@"; }

# noticed WHAT PATTERN ARGUMENT...: it fails, for that
noticed() {
  local what=$1 pattern=$2 status=0
  shift 2
  machine --cuts 1 "$@" >"$log" || status=$?
  cat "$log"
  if [ $status != 1 ] || ! grep -q "^FAILED: $pattern" "$log"; then
    echo "$what: not noticed, exit status $status"
    exit 1
  fi
  echo "$what: noticed"
}

case $mode in
  cuts) machine "$@" ;;
  self-test)
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    noticed "sync = off, called always" "lost " --always off "$@"
    noticed "a disk that lies about flushes" "lost \|boot " --lying "$@"
    ;;
  can | measure | clock) machine --job "$mode" "$@" ;;
esac
