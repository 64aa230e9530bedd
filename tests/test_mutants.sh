#!/usr/bin/env bash
# The patches that scripts/chaos --mutants applies must still fit, and name cases that there are.
#   test_mutants.sh ROOT
set -euo pipefail
cd "$1"
for patch in tests/chaos/mutants*/*.patch; do
  patch -s -p0 --dry-run <"$patch" || { echo "$patch does not fit any more: make it anew"; exit 1; }
  read -ra cases < <(sed -n 's/^Cases: //p' "$patch")
  [ ${#cases[@]} -gt 0 ] || { echo "$patch names no case"; exit 1; }
  [[ $patch = */mutants_once/* ]] && kinds='case\|once' || kinds=case
  for case in "${cases[@]}"; do
    grep -q "^\($kinds\)_$case()" tests/chaos/case.sh || { echo "$patch: there is no case $case"; exit 1; }
  done
done
echo "the mutants fit"
