#!/usr/bin/env bash
# Makes the root image of a vehicle's machine, of Debian's busybox and of what was built: make_image.sh KERNEL-FOLDER BUILD-FOLDER IMAGE
set -euo pipefail
kernel=$1 build=$(cd "$2" && pwd) image=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{bin,proc,sys,dev,data,tmp,modules,plugins,pipelines}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$kernel"/*.ko "$kernel/modules" "$root/modules"
install "$here/init" "$root/init"
cp "$here"/*.ini "$here"/../../pipelines/truck*.ini "$root/pipelines"
ln -s ../bin "$root/sbin"

# put FILE FOLDER: a program or plugin with the libraries that it needs, where it looks for them
put() {
  local library
  cp "$1" "$root/$2"
  while read -r library; do
    [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"; }
  done < <(ldd "$1" | grep -o '/[^ ]*')
}
put "$build/bin/fmspipe" bin
put "$(PATH=$PATH:/sbin command -v e2fsck)" bin
for plugin in fms_sim can_sink can_source fms_check spool mqtt_sink file; do put "$build/plugins/$plugin.so" plugins; done
put "$build/tests/vehicle/numbered.so" plugins
put "$build/bin/test_can_kernel" bin
put "$build/bin/set_clock" bin
put "$(PATH=$PATH:/sbin command -v tc)" bin

(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$image"
