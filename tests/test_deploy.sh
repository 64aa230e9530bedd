#!/usr/bin/env bash
# The shipped unit, as far as that can be told without systemd at work: usage: test_deploy.sh FMSPIPE ROOT
# And what it and the container are made for: two processes of one user, which may write in one place only, are a spool's halves.
set -euo pipefail

fmspipe=$(realpath "$1")
root=$(realpath "$2")
work=$(mktemp -d)
child=
trap 'if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$work"/*.log >&2; exit 1; }

# The unit, what stands beside it to have it watched, and what makes one of its instances a truck; with the program where it is.
mkdir "$work/fmspipe@.service.d" "$work/fmspipe@truck.service.d"
for file in fmspipe@.service fmspipe@.service.d/admin.conf truck.conf; do
  place=$file
  [ $file != truck.conf ] || place=fmspipe@truck.service.d/truck.conf
  sed "s|^\(Exec[A-Za-z]*=+\?\)/usr/bin/fmspipe|\1$fmspipe|" "$root/deploy/$file" >"$work/$place"
done
beside=$work/fmspipe@.service.d/admin.conf
if command -v systemd-analyze >/dev/null; then
  systemd-analyze verify --man=no "$work/fmspipe@test.service" "$work/fmspipe@truck.service" >"$work/verify.log" 2>&1 ||
    fail "systemd does not take the unit"
  [ ! -s "$work/verify.log" ] || fail "systemd has something to say of the unit"
  systemd-analyze security --offline=true --threshold=15 "$work/fmspipe@.service" >"$work/security.log" 2>&1 ||
    fail "the unit is exposed more than 1.5"

  # Watched as the unit has it: a system call that the unit forbids ends the process, without a word in its log.
  printf '[source]\nplugin = fms_sim\nrate = 0\ncount = 1\n[sink null]\nplugin = null_sink\n' >"$work/one.ini"
  FMSPIPE_ADMIN=unix:$work/admin.sock "$root/tests/as_unit.py" "$work/fmspipe@.service" "$fmspipe" "$work/one.ini" 2>"$work/one.log" ||
    fail "the unit does not let it run: $?"
fi

# What the runner is told to do must be what systemd expects of it, and where it may.
for line in Type=notify NotifyAccess=main; do
  grep -qxF "$line" "$work/fmspipe@.service" || fail "the unit has no $line"
done
grep -qxF "Environment=FMSPIPE_ADMIN=unix:/run/$(sed -n 's/^RuntimeDirectory=//p' "$work/fmspipe@.service")/%i.sock" "$beside" ||
  fail "admin.conf has it watched elsewhere than in the unit's directory"
grep -q '^WatchdogSec=' "$work/fmspipe@.service" || fail "the unit has no watchdog"
grep -qx 'RestrictAddressFamilies=AF_CAN' "$root/deploy/truck.conf" || fail "the truck may not open its bus"

# What was read at the start is read again by a reload, from there.
variables=$(sed -n 's/^EnvironmentFile=//p' "$work/fmspipe@.service")
[ "$(grep '^ExecReload=' "$beside" | paste -sd:)" = "ExecReload=:ExecReload=+$fmspipe reload --env-file=$variables unix:/run/fmspipe/%i.sock" ] ||
  fail "a reload does not read $variables again"

# keeps FILE DIRECTORY: the pipeline writes into the directory that the unit and the container give it
keeps() {
  grep -q "^path = .*:-$2/" "$root/pipelines/$1" || fail "$1 keeps its spool elsewhere than in $2"
}
directory=/var/lib/$(sed -n 's/^StateDirectory=//p' "$work/fmspipe@.service")
grep -q ":$directory\$\|:$directory " "$root/deploy/compose.yaml" || fail "compose.yaml mounts no volume on $directory"
grep -q " $directory\$" "$root/deploy/Dockerfile" || fail "the image has no $directory"
for file in bridge_buffered_in.ini bridge_buffered_out.ini vehicle.ini vehicle_uplink.ini truck.ini truck_uplink.ini; do
  keeps $file "$directory"
done

# What looks on is where the pipelines are: Prometheus asks services that there are at the port at which they listen, Grafana shows what is
# mounted, and health checks ask at the socket that each makes.
compose=$root/deploy/compose.yaml
admin=$(sed -n 's/^  FMSPIPE_ADMIN: "\(.*\)"$/\1/p' "$compose")
socket=${admin%%,*} port=${admin##*:}
grep -q "test: \[CMD, fmspipe, health, --ready, \"$socket\"\]" "$compose" || fail "health checks do not ask at $socket"
socket=${socket#unix:}
grep -q "^    - ${socket%/*}:uid=10001,gid=10001,mode=0700" "$compose" || fail "no pipeline can make a socket in ${socket%/*}"
targets=$(grep -o "[a-z_]*:$port" "$root/deploy/prometheus/prometheus.yml")
for service in mqtt_subscriber kafka_consumer mqtt_publisher; do
  grep -qx "$service:$port" <<<"$targets" || fail "Prometheus does not ask $service at port $port"
  grep -q "^  $service:\$" "$compose" || fail "there is no service $service"
done
while read -r from; do
  [ -e "$root/deploy/$from" ] || fail "compose.yaml mounts $from, which there is not"
done < <(sed -n 's/^      - \.\/\([^:]*\):.*/\1/p' "$compose")

# The image is built from all that the build and its packages read.
while read -r file; do
  [ -e "$root/$file" ] || continue # of what is built
  grep -qxF -e "!$file" -e "!${file%%/*}" "$root/.dockerignore" || fail ".dockerignore keeps $file from the image's build"
done < <(sed -n 's/^ *add_subdirectory(\([a-z]*\))$/\1/p' "$root/CMakeLists.txt" | grep -vx -e tests -e bench
  echo debian; echo scripts; sed 's/ .*//' "$root"/debian/*.{install,docs})

# Two processes as another user, in a directory that is only his.
as=()
if [ "$(id -u)" = 0 ]; then
  command -v setpriv >/dev/null || exit 77
  as=(setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --)
fi
chmod 755 "$work"
"${as[@]}" test -x "$fmspipe" || { echo "user 10001 cannot run $fmspipe"; exit 77; }
install -d -m 700 "$work/state"
[ ${#as[@]} = 0 ] || chown 10001:10001 "$work/state"
cat >"$work/in.ini" <<END
[source]
plugin = fms_sim
rate = 0
count = 1000
[sink spool]
plugin = spool
path = $work/state/spool
END
cat >"$work/out.ini" <<END
[source]
plugin = spool
path = $work/state/spool
[sink console]
plugin = console_sink
format = json
count = 1000
END
umask 077
timeout 60 "${as[@]}" "$fmspipe" "$work/out.ini" >"$work/out" 2>"$work/out.log" &
child=$!
timeout 60 "${as[@]}" "$fmspipe" "$work/in.ini" >/dev/null 2>"$work/in.log" || fail "the first half exited with $?"
wait "$child" || fail "the second half exited with $?"
child=
[ "$(wc -l <"$work/out")" -eq 1000 ] || fail "not 1000 records came out of the spool"
[ "$(stat -c %u "$work/state/spool")" = "$(stat -c %u "$work/state")" ] || fail "the spool is somebody else's"

# Two containers number their processes alike, which a spool does not bear; it says so.
if [ "$(id -u)" = 0 ] && unshare --pid --fork true 2>/dev/null; then
  sed -i 's/^count = .*//; s/^rate = .*//' "$work/in.ini"
  unshare --pid --fork --kill-child "$fmspipe" "$work/in.ini" >/dev/null 2>"$work/in.log" &
  child=$!
  deadline=$((SECONDS + 30))
  until grep -q "starts:" "$work/in.log"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "the first half does not start"
    sleep 0.02
  done
  ! timeout 60 unshare --pid --fork --kill-child "$fmspipe" "$work/out.ini" >"$work/out" 2>"$work/out.log" ||
    fail "two halves in two containers"
  grep -q "from another container" "$work/out.log" || fail "the reason is not told"
fi
echo "deployable"
