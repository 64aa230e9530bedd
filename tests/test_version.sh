#!/usr/bin/env bash
# The version stands in CMakeLists.txt; what else says it says the same: usage: test_version.sh FMSPIPE ROOT
set -euo pipefail
fmspipe=$1
cd "$2"
bad=0
complain() { echo "$*" >&2; bad=1; }

version=$(sed -n 's/^project(fmspipe VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || complain "CMakeLists.txt: the version is no MAJOR.MINOR.PATCH: $version"
told=$("$fmspipe" --version)
[ "$told" = "fmspipe $version" ] || complain "CMakeLists.txt has $version, and the program says: $told"

# says FILE PATTERN: what the pattern catches, once or more, is the version
says() {
  local found=no at
  while read -r at; do
    found=yes
    [ "$at" = "$version" ] || complain "$1 has $at, and CMakeLists.txt has $version"
  done < <(sed -n "s/$2/\1/p" "$1")
  [ $found = yes ] || complain "$1 says no version"
}
for overlay in deploy/kubernetes/overlays/*/kustomization.yaml; do
  says "$overlay" '^ *newTag: \(.*\)$'
done
mapfile -t tags < <(grep -o 'fmspipe:[0-9][0-9.]*[0-9]' deploy/kubernetes/README.md)
[ ${#tags[@]} -gt 0 ] || complain "deploy/kubernetes/README.md says no version"
for tag in "${tags[@]}"; do
  [ "$tag" = "fmspipe:$version" ] || complain "deploy/kubernetes/README.md has $tag, and CMakeLists.txt has $version"
done

# Changes are told by version, the newest first; one that is not released yet is called so in the place of its day.
mapfile -t headings < <(grep '^## ' CHANGELOG.md)
[[ ${headings[0]-} =~ ^"## $version - "(unreleased|[0-9]{4}-[0-9]{2}-[0-9]{2})$ ]] ||
  complain "CHANGELOG.md begins with \"${headings[0]-}\": it should with \"## $version - unreleased\", or the day of its release"
for heading in "${headings[@]:1}"; do
  [[ $heading =~ ^"## "[0-9.]+" - "[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] || complain "CHANGELOG.md: $heading: an older version has a day"
done
[ "$bad" = 0 ] && echo "version $version"
exit "$bad"
