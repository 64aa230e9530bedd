#!/usr/bin/env bash
# What a stranger does: installs, follows docs/write-a-plugin.md word by word, begins a plugin of each type, and builds one in C++.
#   test_install.sh BUILD-DIRECTORY SOURCE-DIRECTORY
set -euo pipefail
build=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { cat "$work/log" 2>/dev/null || true; echo "FAILED: $*" >&2; exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || fail "$*"; }

quietly cmake --install "$build" --prefix "$work/usr"
PATH=$work/usr/bin:$PATH
pc=$(find "$work/usr" -name fmspipe.pc)
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 CMAKE_PREFIX_PATH=$work/usr
fmspipe plugins | grep -q '^mqtt_source ' || fail "the installed program does not find the installed plugins"
quietly fmspipe check "$work"/usr/share/fmspipe/pipelines/*.ini
quietly fmspipe test "$work"/usr/share/fmspipe/pipelines/*.ini
for page in man1/fmspipe.1 man5/fmspipe-pipeline.5; do
  [ -s "$work/usr/share/man/$page" ] || fail "no $page"
done

# built NAME: builds and tests the plugin of this folder
built() {
  quietly cmake -S . -B build
  quietly cmake --build build
  quietly ctest --test-dir build --output-on-failure
  grep -q '100% tests passed, 0 tests failed out of 1' "$work/log" || fail "$1: no test"
}

# 1. A plugin of each type, as it is made.
cd "$work"
for type in source transform sink sink-thread; do
  name=my_${type//-/_}
  most=60
  [ "$type" = sink-thread ] && most=140
  quietly fmspipe new-plugin "$name" --type="$type"
  grep -l example "$name"/*.c && fail "$name is still called example"
  [ "$(wc -l <"$name/$name.c")" -lt $most ] || fail "$name.c has $most lines or more"
  cd "$name"
  built "$name"
  quietly fmspipe --plugin-dir=build check "$name.ini"
  cd ..
done
quietly fmspipe --log-level=error --plugin-dir=my_sink_thread/build my_sink_thread/my_sink_thread.ini
[ "$(grep -c '^{"vehicle_id"' my_sink_thread.out)" = 5 ] || fail "my_sink_thread wrote not all"
quietly fmspipe --log-level=error --plugin-dir=my_sink/build my_sink/my_sink.ini
grep -q '^my_sink: {"vehicle_id"' "$work/log" || fail "my_sink wrote nothing"
quietly fmspipe --plugin-dir=my_transform/build test my_transform/my_transform.ini

# What can't be made says why.
refused() {
  local status=0
  fmspipe new-plugin "${@:3}" >"$work/log" 2>&1 || status=$?
  [ $status = "$1" ] || fail "new-plugin ${*:3} ended with $status, not $1"
  grep -q -- "$2" "$work/log" || fail "new-plugin ${*:3} does not say: $2"
}
refused 1 'cannot make the folder my_sink: File exists' my_sink --type=sink
refused 2 'is no name for a plugin' My-Sink --type=sink
for name in int typeof class xor_eq; do refused 2 "\"$name\" is no name .* a word of C or C++" $name --type=sink; done
for name in test all install clean; do refused 2 "\"$name\" is no name .* a target of CMake's own" $name --type=sink; done
refused 2 'is no name .* in the headers of C and POSIX' timespec --type=sink-thread
refused 2 'is no name .* begin with fms_' fms_plugin --type=source
refused 2 'needs --type' another
refused 2 '--type takes source, transform, sink or sink-thread, not: sing' another --type=sing

# 2. The page, each of whose listings names its file.
fmspipe new-plugin speed_limit --type=transform >/dev/null
cd speed_limit
awk '/^```[a-z]+ [a-z_.]+$/ { file = $2; printf "" >file; next } /^```$/ { file = "" } file != "" { print >file }' \
  "$source/docs/write-a-plugin.md"
grep -q 'highest speed' speed_limit.c || fail "the page has no speed_limit.c"
built speed_limit
fmspipe --plugin-dir=build describe speed_limit | grep -q 'highest speed, km/h' || fail "describe"
quietly fmspipe --plugin-dir=build test speed_limit.ini
quietly fmspipe --plugin-dir=build speed_limit.ini
# shellcheck disable=SC2046
quietly "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror -shared -fPIC $(pkg-config --cflags fmspipe) -o speed_limit.so \
  speed_limit.c
quietly fmspipe --plugin-dir=. test speed_limit.ini
sed 's/limit = 90/limit = 0/; s/^count = 20/count = 200\nrate = 0/' speed_limit.ini >standing.ini
fmspipe --log-level=error --plugin-dir=build standing.ini >out
awk -F'"speed":' '{ if ($2 + 0 > 0) exit 1 }' out || fail "something moving came through"

# 3. The header in C++.
mkdir ../plus
cd ../plus
# shellcheck disable=SC2046
quietly "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror -shared -fPIC $(pkg-config --cflags fmspipe) -o plus.so \
  "$source/tests/plugins/plus.cc"
cat >plus.ini <<'END'
[source]
plugin = fms_sim
[transform plus]
plugin = plus
text = "topic: "
[sink null]
plugin = null_sink
[test it_says_the_topic]
input.1 = {}
expect.1 = topic: fms/data
END
quietly fmspipe --plugin-dir=. test plus.ini
echo "installed, built plugins of each type, those of the page and one in C++, and ran them"
