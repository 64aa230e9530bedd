#!/usr/bin/env bash
# The Debian packages of what is committed, in a fresh Debian 12: installed as in a vehicle, at work, upgraded, all of them, purged.
#
#   fms-sandbox --kafka=none --mqtt=mosquitto -- tests/integration/test_packages.sh BIN-DIRECTORY
set -euo pipefail
bin=$(cd "$1" && pwd)
tree=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/integration/common.sh
. "$tree/tests/integration/common.sh"
unshare --mount chroot / true 2>/dev/null || { echo "skipped: only root makes another root"; exit 77; }
command -v mmdebstrap >/dev/null || { echo "skipped: there is no mmdebstrap (scripts/dependencies test)"; exit 77; }
command -v mosquitto_sub >/dev/null || { echo "skipped: there is no mosquitto_sub"; exit 77; }
arch=$(dpkg --print-architecture)
quietly() { ("$@") >"$work/command.log" 2>&1 || fail "$*"; }

# What is mounted stays in a namespace that ends with its command, so that nothing has to be unmounted.
root=$work/root
# shellcheck disable=SC2016 # apt-get and dpkg-query expand these
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1)
unshare --mount mmdebstrap --mode=root --variant=apt --skip=cleanup/apt --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' \
  --aptopt='APT::Install-Recommends "false"' bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$work/mmdebstrap.log" 2>&1 &
pids+=($!)
new=$(FMS_BUILD=$bin/.. "$tree/scripts/packages")
wait "${pids[-1]}" || fail "no fresh Debian"

# within COMMAND...: in the fresh Debian, as root, with its own environment; this process becomes the command.
within() {
  # shellcheck disable=SC2016 # the inner shell expands it
  exec unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    DEBIAN_FRONTEND=noninteractive "$@"' "$root" "$@"
}
# refuses TEXT COMMAND...: fails in there, and says the text
refuses() {
  ! (within "${@:2}") >"$work/command.log" 2>&1 || fail "is not refused: ${*:2}"
  grep -qF -- "$1" "$work/command.log" || fail "${*:2} does not say: $1"
}
install() { quietly within apt-get install -y "$@" </dev/null; }
files() { (cd "$root" && find . -path ./proc -prune -o \( -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/log \
  -o -path ./tmp \) -prune -o -print | sort); }

# 1. They are as Debian wants them, and of the tree's version.
quietly lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$new"/*_"$arch".changes
version=$(dpkg-deb -f "$new"/fmspipe_*_"$arch".deb Version)
[[ $version =~ ^$("$bin/fmspipe" --version | cut -d ' ' -f 2)[~-] ]] || fail "the packages' version is $version"

# 2. An older version, for an upgrade: the same, but for its number and a word in a file that an operator may edit.
mkdir "$root"/tmp/{old,new}
for deb in "$new"/fmspipe{,-mqtt,-can}_*_"$arch".deb; do
  dpkg-deb -R "$deb" "$work/unpacked"
  sed -i "s/$version/0.0.1-1/" "$work/unpacked/DEBIAN/control"
  find "$work/unpacked" -path '*/etc/*.ini' -exec sed -i '1s/^/; An older version.\n/' {} +
  dpkg-deb --root-owner-group -b "$work/unpacked" "$root/tmp/old" >/dev/null
  rm -r "$work/unpacked"
done
cp "$new"/*_"$arch".deb "$root/tmp/new"

# 3. As in a vehicle: nothing of Kafka's, nothing of HTTP's, and nothing that starts by itself.
files >"$work/before"
install /tmp/old/fmspipe{,-mqtt,-can}_0.0.1-1_"$arch".deb
# shellcheck disable=SC2016
(within dpkg-query -W -f '${Package}\n') >"$work/installed"
! grep -E 'kafka|curl|microhttpd' "$work/installed" || fail "a vehicle has these"
[ -z "$(find "$root/etc/systemd" -name '*fmspipe*')" ] || fail "a unit is enabled"
[ -e "$root/lib/systemd/system/fmspipe@.service" ] || fail "there is no unit"
[ "$(stat -c %a "$root/etc/fmspipe/truck.env")" = 600 ] || fail "whoever wants to reads the passwords"
quietly within sh -c 'fmspipe check /etc/fmspipe/*.ini && fmspipe test /etc/fmspipe/*.ini'
quietly within sh -c 'cd /usr/share/fmspipe/pipelines && fmspipe check vehicle.ini vehicle_uplink.ini can_bus.ini'
printf '[source]\nplugin = fms_sim\nrate = 0\ncount = 1000\n[sink file]\nplugin = file\npath = /tmp/records\n' >"$root/tmp/file.ini"
refuses 'the plugin "kafka_sink" is not here: install the package fmspipe-kafka' fmspipe check /usr/share/fmspipe/pipelines/bridge.ini
refuses 'install the package fmspipe-admin' fmspipe status unix:/run/none.sock
refuses 'install the package fmspipe-admin' fmspipe --admin=unix:/run/none.sock /tmp/file.ini
refuses 'install the package fmspipe-dev' fmspipe new-plugin mine --type=sink

quietly within fmspipe /tmp/file.ini
[ "$(wc -l <"$root/tmp/records")" = 1000 ] || fail "not 1000 records are in the file"

# 4. An upgrade while samples are spooled. The edited file stays, the other becomes the new one, what runs runs on, and what it has stored
# the new version sends.
mkdir "$root/var/lib/fmspipe"
sed -i 's/^keepalive = 10s/keepalive = 7s/' "$root/etc/fmspipe/truck_uplink.ini"
cp "$root/etc/fmspipe/truck_uplink.ini" "$work/edited.ini"
url=${FMS_MQTT#*://}
mosquitto_sub -W 300 -h "${url%:*}" -p "${url##*:}" -t fms/data -q 1 -i packages -c >"$work/received" 2>"$work/subscriber.log" &
pids+=($!)
sed 's/^plugin = fms_sim.*/&\nsequence = yes/' "$root/usr/share/fmspipe/pipelines/vehicle.ini" >"$root/tmp/vehicle.ini"
within FMS_INTERVAL=10ms fmspipe /tmp/vehicle.ini 2>"$work/vehicle.log" &
pid_of[vehicle]=$!
pids+=($!)
until_true 60 "samples are spooled" [ -s "$root/var/lib/fmspipe/vehicle" ]
install -o Dpkg::Options::=--force-confold /tmp/new/fmspipe{,-mqtt,-can}_"${version}_$arch".deb
# shellcheck disable=SC2016
[ "$( (within dpkg-query -W -f '${Version}\n' fmspipe{,-mqtt,-can}) | sort -u)" = "$version" ] || fail "not all are upgraded"
cmp "$root/etc/fmspipe/truck_uplink.ini" "$work/edited.ini" || fail "an edited file is lost"
cmp "$root/etc/fmspipe/truck.ini" "$root/usr/share/fmspipe/pipelines/truck.ini" || fail "a file that nobody has edited is not the new one"
stop vehicle TERM
spooled=$(sed -n 's/.* vehicle: ended: .* received, \([0-9]*\) delivered, 0 rejected.*/\1/p' "$work/vehicle.log")
[ "$spooled" -gt 0 ] || fail "nothing was spooled"
within FMS_MQTT="$FMS_MQTT" fmspipe /usr/share/fmspipe/pipelines/vehicle_uplink.ini 2>"$work/uplink.log" &
pid_of[uplink]=$!
pids+=($!)
arrived() { [ "$(wc -l <"$work/received")" -ge "$spooled" ]; }
until_true 60 "$spooled samples arrive" arrived
stop uplink TERM
jq .seq "$work/received" | cmp - <(seq "$spooled") || fail "not these $spooled samples have arrived, in order"

# 5. All of them: each plugin is there, each file is valid, who runs can be watched, and a plugin of one's own is built, by CMake and without.
install /tmp/new/fmspipe{-kafka,-admin,-dev}_"${version}_$arch".deb
(within fmspipe plugins) | cut -d ' ' -f 1 >"$work/plugins"
"$bin/fmspipe" plugins | cut -d ' ' -f 1 | diff - "$work/plugins" || fail "plugins are missing"
quietly within sh -c 'fmspipe check /usr/share/fmspipe/pipelines/*.ini && fmspipe test /usr/share/fmspipe/pipelines/*.ini'
sed -i '/^count/d; s/^rate.*/interval = 1s/' "$root/tmp/file.ini"
within fmspipe --admin=unix:/run/file.sock /tmp/file.ini 2>"$work/watched.log" &
pid_of[watched]=$!
pids+=($!)
until_true 60 "it can be watched" [ -S "$root/run/file.sock" ]
quietly within fmspipe health unix:/run/file.sock
quietly within fmspipe reload unix:/run/file.sock
stop watched TERM
quietly within fmspipe new-plugin mine /tmp/mine --type=sink
PKG_CONFIG_PATH=$root/usr/lib/$(dpkg-architecture -q DEB_HOST_MULTIARCH)/pkgconfig
export CMAKE_PREFIX_PATH=$root/usr PKG_CONFIG_PATH
quietly cmake -S "$root/tmp/mine" -B "$root/tmp/mine/build"
quietly cmake --build "$root/tmp/mine/build"
quietly ctest --test-dir "$root/tmp/mine/build" --output-on-failure
quietly within fmspipe --plugin-dir=/tmp/mine/build check /tmp/mine/mine.ini
rm -r "$root/tmp/mine/build"
# shellcheck disable=SC2046
quietly cc -std=c11 -shared -fPIC $(pkg-config --cflags fmspipe) -o "$root/tmp/mine/mine.so" "$root/tmp/mine/mine.c"
quietly within fmspipe --plugin-dir=/tmp/mine check /tmp/mine/mine.ini

# 6. A purge leaves what has been stored, and says so, and nothing else.
quietly within apt-get purge -y --autoremove 'fmspipe*'
grep -q 'fmspipe: /var/lib/fmspipe is kept' "$work/command.log" || fail "a purge does not say what it keeps"
files >"$work/after"
left=$(diff "$work/before" "$work/after" | sed -n 's/^[<>] //p' | grep -v '^\./var/lib/fmspipe' || true)
[ -z "$left" ] || fail "a purge leaves or takes: $left"
[ -s "$root/var/lib/fmspipe/vehicle" ] || fail "what was stored is gone"
echo "installed, upgraded, purged: $version"
