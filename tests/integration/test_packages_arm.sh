#!/usr/bin/env bash
# The Debian packages of what is committed for arm64 and armhf, which vehicles have, as far as that can be told without such a machine: unpacked,
# and run by qemu-user on the libraries that they were built with.
#   test_packages_arm.sh BIN-DIRECTORY
set -euo pipefail
bin=$(cd "$1" && pwd)
tree=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$tree/tests/integration/common.sh"
command -v qemu-arm >/dev/null || { echo "skipped: there is no qemu-user (scripts/dependencies arm)"; exit 77; }
command -v lintian >/dev/null || { echo "skipped: there is no lintian (scripts/dependencies test)"; exit 77; }

packages=$(FMS_BUILD=$bin/../arm "$tree/scripts/packages" arm64 armhf)
"$bin/fmspipe" plugins | cut -d ' ' -f 1 >"$work/plugins"
dpkg-deb --ctrl-tarfile "$packages"/fmspipe-can_*_arm64.deb | tar -xO ./conffiles >"$work/conffiles"
printf '[source]\nplugin = fms_sim\nrate = 0\ncount = 1000\n[sink spool]\nplugin = spool\npath = %s/spool\n' "$work" >"$work/in.ini"
printf '[source]\nplugin = spool\npath = %s/spool\n[sink file]\nplugin = file\npath = %s/records\n' "$work" "$work" >"$work/out.ini"

unset FMSPIPE_PLUGIN_PATH
arrived() { [ -e "$work/records" ] && [ "$(wc -l <"$work/records")" = 1000 ]; }

# of ARCH EMULATOR
of() {
  local root=$work/$1 sysroot file
  lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$packages"/*_"$1".changes || fail "lintian"
  for file in "$packages"/fmspipe{,-mqtt,-kafka,-can,-admin}_*_"$1".deb; do
    dpkg-deb -x "$file" "$root"
  done
  sysroot=$("$tree/scripts/sysroot" "$1")
  run=("$2" -L "$sysroot" "$root/usr/bin/fmspipe")

  "${run[@]}" plugins | cut -d ' ' -f 1 | diff "$work/plugins" - || fail "$1: plugins are missing"
  "${run[@]}" check "$root"/usr/share/fmspipe/pipelines/*.ini >"$work/check.log" 2>&1 || fail "$1: a pipeline is not valid"
  while read -r file; do [ -e "$root$file" ] || fail "$1: there is no $file"; done <"$work/conffiles"
  "${run[@]}" check "$root"/etc/fmspipe/*.ini >"$work/check.log" 2>&1 || fail "$1: a truck's pipelines are not valid"
  "${run[@]}" "$work/in.ini" 2>"$work/in.log" || fail "$1: nothing can be spooled"
  FMSPIPE_ADMIN=unix:$work/$1.sock "${run[@]}" "$work/out.ini" 2>"$work/out.log" &
  pids+=($!)
  until_true 120 "$1: the records are out" arrived
  "${run[@]}" health "unix:$work/$1.sock" >"$work/health.log" 2>&1 || fail "$1: it cannot be watched"
  kill "${pids[-1]}"
  wait "${pids[-1]}" || fail "$1: it does not end well"
  rm -r "$work/spool" "$work/records"
}
of arm64 qemu-aarch64
of armhf qemu-arm
echo "both run what they are to: $(basename "$packages"/fmspipe_*_armhf.deb)"
