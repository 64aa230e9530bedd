#!/usr/bin/env bash
# What a stranger does: installs, takes the plugin of docs/write-a-plugin.md, builds it in one line and with the CMake
# package, and runs it. usage: test_install.sh BUILD-DIRECTORY SOURCE-DIRECTORY
set -euo pipefail
build=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$work/usr" >"$work/log" 2>&1 || { cat "$work/log"; fail "cmake --install"; }
fmspipe=$work/usr/bin/fmspipe
"$fmspipe" plugins | grep -q '^mqtt_source ' || fail "the installed program does not find the installed plugins"
"$fmspipe" check "$work"/usr/share/fmspipe/pipelines/*.ini >/dev/null || fail "an installed pipeline file is not accepted"

[ -s "$work/usr/share/man/man1/fmspipe.1" ] && [ -s "$work/usr/share/man/man5/fmspipe-pipeline.5" ] || fail "no man pages"

mkdir "$work/mine"
cd "$work/mine"
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$source/docs/write-a-plugin.md" >speed_limit.c

# 1. In one line, with what pkg-config says.
pc=$(find "$work/usr" -name fmspipe.pc)
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
# shellcheck disable=SC2046
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -shared -fPIC $(pkg-config --define-prefix --cflags fmspipe) \
  -o speed_limit.so speed_limit.c || fail "the one-line build"
"$fmspipe" --plugin-dir=. describe speed_limit | grep -q 'highest speed, km/h' || fail "describe"

# 2. With the CMake package.
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.16)
project(mine LANGUAGES C)
find_package(fmspipe REQUIRED)
fmspipe_add_plugin(speed_limit SOURCES speed_limit.c)
END
if ! { cmake -S . -B build -DCMAKE_PREFIX_PATH="$work/usr" && cmake --build build; } >"$work/log" 2>&1; then
  cat "$work/log"
  fail "the CMake build"
fi

# It runs, and rejects what it should.
cat >speed.ini <<'END'
[pipeline]
on_reject = drop
[source]
plugin = fms_sim
vehicles = 50
rate = 0
count = 2000
[transform limit]
plugin = speed_limit
limit = 90
[sink out]
plugin = console_sink
format = json
END
"$fmspipe" --plugin-dir=build speed.ini >out 2>log || { cat log; fail "the run"; }
grep -q 'is above 90 km/h' log || fail "nothing was rejected"
[ -s out ] || fail "nothing came through"
awk -F'"speed":' '{ if ($2 + 0 > 90) exit 1 }' out || fail "something too fast came through"
echo "installed, built a plugin twice, ran it"
