#!/usr/bin/env bash
# FMS_PLUGINS leaves plugins out, and FMS_ADMIN the watch, and with them their libraries; what is not known is named.
#   test_some_plugins.sh ROOT
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { cat "$work/log" >&2; echo "FAILED: $*" >&2; exit 1; }
configure() { cmake -S "$root" -B "$work/build" -DFMS_TESTS=OFF -DFMS_SANDBOX=OFF -DFMS_ADMIN=OFF -DFMS_CLIENT=OFF "$@" >"$work/log" 2>&1; }

mkdir "$work/pkgconfig"
for library in inih jansson; do
  cp "$(pkg-config --variable=pcfiledir $library)/$library.pc" "$work/pkgconfig"
done
export PKG_CONFIG_LIBDIR=$work/pkgconfig PKG_CONFIG_PATH=

configure "-DFMS_PLUGINS=fms_sim;console_sink" || fail "needs more than two plugins do"
cmake --build "$work/build" --target help >"$work/log"
for plugin in fms_sim console_sink; do
  grep -q "\b$plugin\b" "$work/log" || fail "leaves $plugin out"
done
! grep -q '\bkafka_sink\b' "$work/log" || fail "builds what was not asked for"

parts=$work/build/share/fmspipe/parts
for part in kafka_sink fmspipe-admin fmspipe-client; do
  grep -q "^$part build fmspipe with " "$parts" || fail "does not tell who looks for $part what to do"
done
! grep -q '^fms_sim ' "$parts" || fail "has fms_sim, and tells that it has not"

! configure -DFMS_ADMIN=ON || fail "finds libmicrohttpd where it is not"
grep -q libmicrohttpd "$work/log" || fail "does not name libmicrohttpd"
! configure "-DFMS_PLUGINS=fms_sim;kafka_sink" || fail "finds librdkafka where it is not"
grep -q rdkafka "$work/log" || fail "does not name librdkafka"
! configure -DFMS_PLUGINS=kafka_snik || fail "takes a plugin that there is not"
grep -q 'there is no plugin kafka_snik; there are mqtt_source' "$work/log" || fail "does not name the unknown plugin"
! configure -DFMS_PLUGINS=fms_sim -DFMS_ADMIN=ON -DFMS_CLIENT=ON -DFMS_TESTS=ON -DFMS_SANDBOX=ON || fail "tests what is not built"
grep -q 'FMS_TESTS needs all plugins' "$work/log" || fail "does not say what tests need"
! configure -DFMS_PLUGINS=all -DFMS_TESTS=ON -DFMS_SANDBOX=ON || fail "tests a watch that is not built"
grep -q 'FMS_TESTS needs FMS_ADMIN' "$work/log" || fail "does not say that tests need the watch"
! configure -DFMS_PLUGINS=all -DFMS_ADMIN=ON -DFMS_TESTS=ON -DFMS_SANDBOX=ON || fail "tests commands that are not built"
grep -q 'FMS_TESTS needs FMS_CLIENT' "$work/log" || fail "does not say that tests need the commands"
