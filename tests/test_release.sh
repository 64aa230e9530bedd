#!/usr/bin/env bash
# scripts/release, in a clone of what is committed: what it refuses, that its archive is the same each time and has all in it, and that what is
# unpacked builds without git: usage: test_release.sh ROOT
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { cat "$work/log" >&2; echo "FAILED: $*" >&2; exit 1; }
[ -e "$root/.git" ] || { echo "skipped: this tree is no git repository"; exit 77; }

git clone -q --no-local "file://$(realpath "$root")" "$work/tree"
cd "$work/tree"
commit() { git -c user.name=test -c user.email=test@localhost commit -q --allow-empty -a -m "$1"; }
version=$(sed -n 's/^project(fmspipe VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
refused() {
  ! scripts/release >"$work/log" 2>&1 || fail "is not refused: $1"
  grep -q "$1" "$work/log" || fail "does not say: $1"
}

sed -i "0,/^## /s/^## .*/## $version - unreleased/" CHANGELOG.md
commit unreleased
refused "CHANGELOG.md does not begin with version $version, of CMakeLists.txt, and its day"
sed -i "0,/^## /s/^## .*/## 99.$version - 2026-01-01/" CHANGELOG.md
commit another
refused "CHANGELOG.md does not begin with version $version"
sed -i "0,/^## /s/^## .*/## $version - 2026-01-01/" CHANGELOG.md
refused "something is not committed"
commit released
touch more
refused "something is not committed"
rm more

archive=$(FMS_BUILD=$work/one scripts/release)
cp -r . "$work/later"
find "$work/later" -path "$work/later/.git" -prune -o -exec touch {} +
again=$(cd "$work/later" && FMS_BUILD=$work/two scripts/release)
cmp "$archive" "$again" || fail "the archive is another one each time"
[ "$(basename "$archive")" = "fmspipe-$version.tar.xz" ] || fail "it is called $archive"
tar -tf "$archive" | grep -v '/$' | sort | diff - <(git ls-files | sed "s|^|fmspipe-$version/|" | sort) >"$work/log" || fail "not all is in it"

tar -xf "$archive" -C "$work"
cd "$work/fmspipe-$version"
export GIT_DIR=$work/none
{ cmake -S . -B build && cmake --build build --target fmspipe fms_sim null_sink && build/bin/fmspipe --version; } >"$work/log" 2>&1 ||
  fail "what is unpacked does not build"
[ "$(tail -n 1 "$work/log")" = "fmspipe $version" ] || fail "what is built is of another version"
echo "fmspipe-$version.tar.xz: $(stat -c %s "$archive") bytes"
