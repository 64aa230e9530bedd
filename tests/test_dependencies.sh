#!/usr/bin/env bash
# The three rules by which the tree stays readable: usage: test_dependencies.sh ROOT
set -euo pipefail
cd "$1"
bad=0
complain() { echo "$*" >&2; bad=1; }

# Names in double quotes that a file may include: those beside it, and fms_plugin.h.
quoted() { sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$1"; }
angled() { sed -n 's/^ *# *include *<\([^>]*\)>.*/\1/p' "$1"; }

# 1. A plugin includes fms_plugin.h, files of its own folder, and those of its *_common folder; nothing of the core.
for file in plugins/*/*.[ch]; do
  folder=$(dirname "$file")
  family=$(basename "$folder")
  family=plugins/${family%%_*}_common
  while read -r name; do
    [ -z "$name" ] || [ "$name" = fms_plugin.h ] || [ -f "$folder/$name" ] || [ -f "$family/$name" ] ||
      complain "$file includes \"$name\", which is neither fms_plugin.h nor its own"
  done < <(quoted "$file")
done

# 2. The core names no plugin and no broker's library. A name that is a word of the language is one only by itself.
names() { find plugins -mindepth 1 -maxdepth 1 -type d ! -name '*_common' -printf '%f\n' | grep "$@" _ | paste -sd'|'; }
while read -r hit; do
  [ -z "$hit" ] || complain "the core names a plugin or a broker's library: $hit"
done < <(grep -nE "\"[^\"]*\b($(names))\b|\"($(names -v))(\.so)?\"|rdkafka|MQTTAsync|MQTTClient|jansson" \
  core/*.c core/*.h core/CMakeLists.txt || true)

# 3. fms_plugin.h includes standard headers only, and compiles alone.
while read -r name; do
  case $name in
    stdarg.h | stdbool.h | stddef.h | stdint.h | string.h) ;;
    *) complain "core/fms_plugin.h includes <$name>" ;;
  esac
done < <(angled core/fms_plugin.h)
[ -z "$(quoted core/fms_plugin.h)" ] || complain "core/fms_plugin.h includes a header in quotes"
echo '#include "fms_plugin.h"' | ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -Icore -fsyntax-only -xc - || bad=1

[ "$bad" = 0 ] && echo "dependencies point one way"
exit "$bad"
