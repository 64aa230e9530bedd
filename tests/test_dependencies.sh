#!/usr/bin/env bash
# The five rules by which the tree stays readable: usage: test_dependencies.sh ROOT
set -euo pipefail
cd -P "$1"
bad=0
complain() { echo "$*" >&2; bad=1; }

# What a file includes, however it is written, each as <name> or "name", or as it stands where it is neither (a macro).
includes() {
  sed -E -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' -e 's|/\*[^*]*\*+([^/*][^*]*\*+)*/| |g; s|^[^"]*\*/||; s|//.*||' "$1" |
    sed -nE 's/^[[:space:]]*(#|%:|\?\?=)[[:space:]]*(include_next|include|import|embed)([[:space:]]*["<][^">]*[">]|[[:space:]].*).*/\3/p' |
    sed -E 's/^[[:space:]]+//'
}

# Whether a name in brackets is a file of the tree, or leads out of where libraries are.
is_ours() {
  local folder
  [[ $1 == /* || $1 == *..* ]] && return 0
  for folder in . core admin client sdk tests tools/* plugins/*; do
    [ -e "$folder/$1" ] && return 0
  done
  return 1
}

# strays FILE PATTERN...: what it includes beyond libraries and what leads to one of the patterns
strays() {
  local file=$1 name path pattern
  shift
  while read -r name; do
    path=$name
    case $name in
      '"'*) path=$(realpath -e -- "${file%/*}/${name:1:-1}" 2>/dev/null) && path=${path#"$PWD"/} || path= ;;
      '<'*) is_ours "${name:1:-1}" || continue ;;
    esac
    for pattern; do
      # shellcheck disable=SC2053
      [[ $path == $pattern || $name == $pattern ]] && continue 2
    done
    printf '%s\n' "$name"
  done < <(includes "$file")
}

# 1. A plugin includes fms_plugin.h, files of its own folder and of *_common folders, and libraries; nothing of the core.
while read -r file; do
  while read -r name; do
    complain "$file includes $name, which is neither fms_plugin.h, nor its own, nor a library's"
  done < <(strays "$file" '"fms_plugin.h"' '<fms_plugin.h>' "${file%/*}/*" 'plugins/*_common/*')
done < <(find plugins -type f ! -name '*.md' ! -name CMakeLists.txt)
while read -r hit; do
  [ -z "$hit" ] || complain "a plugin is built with what is not a plugin's: $hit"
done < <(grep -nE 'fms_core|fms_fake_host|fms_test|include_directories|\.\./\.\.|\$\{' plugins/*/CMakeLists.txt || true)

# 2. The core names no plugin, no broker's library and none of HTTP, be it in a comment. A plugin's name that is a word of the language is one
# only in quotes, and not where it is the word of ${file:PATH}.
names() { find plugins -mindepth 1 -maxdepth 1 -type d ! -name '*_common' -printf '%f\n' | grep "$@" _ | paste -sd'|'; }
while read -r hit; do
  [ -z "$hit" ] || complain "the core names a plugin, or a library of brokers or of HTTP: $hit"
done < <(grep -nE "$(names)|\"($(names -v))(\.so)?\"|rdkafka|MQTTAsync|MQTTClient|\bpaho\b|jansson|microhttpd|\bMHD_|\bcurl" \
  core/*.c core/*.h core/CMakeLists.txt | grep -v '{"file", PART_FILE,' || true)

while read -r file; do
  while read -r name; do
    complain "$file includes $name, which is not the core's"
  done < <(strays "$file" 'core/*')
done < <(find core -type f ! -name CMakeLists.txt)

# 3. fms_plugin.h includes standard headers only, and compiles alone.
while read -r name; do
  case $name in
    '<stdarg.h>' | '<stdbool.h>' | '<stddef.h>' | '<stdint.h>' | '<string.h>') ;;
    *) complain "core/fms_plugin.h includes $name, which is no header of standard C that it may" ;;
  esac
done < <(includes core/fms_plugin.h)
echo '#include "fms_plugin.h"' | ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -Icore -fsyntax-only -xc - || bad=1

# 4. The core's files have one order, which docs/design.md tells: each includes only those before it.
# shellcheck disable=SC2016
mapfile -t order < <(sed -n '/^| core\/ /,/^$/s/^| \(`[^|]*`\) |.*/\1/p' docs/design.md | tr -d '`,' | tr ' ' '\n')
declare -A place=()
for i in "${!order[@]}"; do
  place[${order[i]}]=$i
done
while read -r file; do
  name=${file#core/}
  name=${name%.[ch]}
  [ -n "${place[$name]-}" ] || { complain "$file has no place in the order that docs/design.md tells"; continue; }
  while read -r included; do
    other=${included:1:-3}
    [ "${place[$other]-${#order[@]}}" -le "${place[$name]}" ] ||
      complain "$file includes $included, which comes behind it in docs/design.md, or is not there"
  done < <(includes "$file" | grep '^"')
done < <(find core -type f ! -name CMakeLists.txt)
for name in "${order[@]}"; do
  [ -e "core/$name.h" ] || [ -e "core/$name.c" ] || complain "docs/design.md has core/$name in its order, which there is not"
done

# 5. The watch and the commands that ask it are shared objects beside the core. Each knows of it the header that is about itself, what
# the core shows and how it logs, and nothing of its inside; neither knows the other, and the core, by 2., neither of them.
for folder in admin client; do
  headers=({"$folder",fms_plugin,log,measure,tap,view}.h)
  quoted=("${headers[@]/#/\"}")
  while read -r file; do
    while read -r name; do
      complain "$file includes $name, which is neither its own, nor a library's, nor one of ${headers[*]}"
    done < <(strays "$file" "$folder/*" "${headers[@]/#/core/}" "${quoted[@]/%/\"}")
  done < <(find $folder -type f -name '*.[ch]')
done

[ "$bad" = 0 ] && echo "dependencies point one way"
exit "$bad"
