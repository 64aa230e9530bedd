#!/usr/bin/env bash
# The option table and FMS_HOST hold a field to its type, in C and in C++: the right one compiles without a warning, any other does
# not, and the compiler says what is wrong in a sentence. No line of a comment is too long. usage: test_header.sh ROOT
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { cat "$work/log" >&2; echo "FAILED: $*" >&2; exit 1; }

# compile LANGUAGE TYPE ENTRY: a plugin whose field f is of that type, with that line of options
compile() {
  cat >"$work/plugin.$1" <<END
#include "fms_plugin.h"
struct it { char before; $2 f; const struct fms_host *host; };
static const struct fms_option options[] = {$3, FMS_OPT_END};
static int put(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance; (void)records;
    return (int)count;
}
FMS_PLUGIN(.name = "it", .version = "1", .summary = "is it", .options = options, .instance_size = sizeof(struct it),
           .sink_write = put, .host = FMS_HOST(struct it, ${4:-host}));
END
  if [ "$1" = c ]; then
    ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I"$root/core" -fsyntax-only "$work/plugin.c"
  else
    ${CXX:-c++} -std=c++17 -Wall -Wextra -Werror -I"$root/core" -fsyntax-only "$work/plugin.cc"
  fi >"$work/log" 2>&1
}

# field TYPE ENTRY WRONG-TYPE...
field() {
  local right=$1 entry=$2 language wrong
  shift 2
  for language in c cc; do
    compile $language "$right" "$entry" || fail "$language: $entry does not take $right"
    for wrong; do
      compile $language "$wrong" "$entry" && fail "$language: $entry takes $wrong"
      grep -q 'must have the type' "$work/log" || fail "$language: nobody says what $entry has against $wrong"
    done
  done
}
field 'const char *' 'FMS_OPT_STRING(struct it, f, "a", "help")' 'char *' int64_t
field 'const char *' 'FMS_OPT_SECRET(struct it, f, NULL, "help")' bool
field int64_t 'FMS_OPT_INTEGER(struct it, f, "1", 0, 9, "help")' int uint64_t double
field bool 'FMS_OPT_BOOLEAN(struct it, f, "no", "help")' int
field int64_t 'FMS_OPT_DURATION(struct it, f, "1s", 0, 9, "help")' uint32_t
field int64_t 'FMS_OPT_SIZE(struct it, f, "1KiB", 0, 9999, "help")' size_t
field int 'FMS_OPT_CHOICE(struct it, f, "a", "a|b", "help")' int64_t
field 'struct fms_list' 'FMS_OPT_LIST(struct it, f, NULL, "help")' 'struct fms_pairs'
field 'const struct fms_template *' 'FMS_OPT_TEMPLATE(struct it, f, "a", "help")' 'const char *'
field 'struct fms_pairs' 'FMS_OPT_PAIRS(struct it, f, "f.", "help")' 'struct fms_list'
field 'struct fms_pairs' 'FMS_OPT_TEMPLATE_PAIRS(struct it, f, "f.", "help")' 'const char *'
field 'const char *' 'FMS_OPT_UNIQUE(struct it, f, NULL, "word", "help")' int
field 'struct fms_list' 'FMS_OPT_UNIQUE_LIST(struct it, f, NULL, "word", "help")' 'const char *'
for language in c cc; do
  compile $language bool 'FMS_OPT_BOOLEAN(struct it, f, "no", "help")' f && fail "$language: FMS_HOST takes a bool"
  grep -q 'must have the type' "$work/log" || fail "$language: nobody says what FMS_HOST has against a bool"
done
echo "a field of another type is named"

# Its comments are what authors of plugins read, and clang-format does not wrap them.
awk 'length > 120 && !/^#/ { print FILENAME ":" FNR ": " $0 }' "$root/core/fms_plugin.h" >"$work/log"
[ ! -s "$work/log" ] || fail "these lines of fms_plugin.h are longer than 120 characters"
