#!/usr/bin/env bash
# That test_dependencies.sh guards: a copy of the tree passes, and with each violation planted in it, it fails and names it.
#   test_dependencies_guard.sh ROOT
set -euo pipefail
root=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plugins" "$work/docs"
cp "$root/docs/design.md" "$work/docs"
cp -r "$root"/{core,sdk,admin,client} "$work"
cp -r "$root"/plugins/{null_sink,filter,route,json_common} "$work/plugins" # enough, and quicker
guard() { (cd "$work" && "$root/tests/test_dependencies.sh" .) >"$work/log" 2>&1; }
fail() { cat "$work/log" >&2; echo "FAILED: $*" >&2; exit 1; }
guard || fail "the tree as it is"

# planted FILE TEXT WORDS: TEXT at the end of FILE is to be found, and told in WORDS. In the name of a FILE of which there may be
# any number, N is a number of its own.
files=()
words=()
planted() {
  local file=${1/N./${#files[@]}.}
  # shellcheck disable=SC2059
  printf "$2\n" >>"$work/$file"
  files+=("$file")
  words+=("$3")
}
plugin=plugins/null_sink/N.c
planted $plugin '#include "lane.h"' 'includes "lane.h"'
planted $plugin '#include "../../core/lane.h"' 'includes "../../core/lane.h"'
planted $plugin '#include "../../core/fms_plugin.h"' 'includes "../../core/fms_plugin.h"'
planted $plugin "#include \"$root/core/lane.h\"" 'core/lane.h", which is neither'
ln -s ../../core/lane.h "$work/plugins/null_sink/own.h"
planted $plugin '#include "own.h"' 'includes "own.h"'
planted $plugin '#include <lane.h>' 'includes <lane.h>'
planted $plugin '#include <../core/lane.h>' 'includes <../core/lane.h>'
planted $plugin '#include <core/lane.h>' 'includes <core/lane.h>'
planted $plugin '\t# \tinclude\t"../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '#include"../../core/log.h" // why' 'includes "../../core/log.h"'
planted $plugin '#include/* why */"../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '/* why */ #include "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '/* why\nnot */ #include "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '#inc\\\nlude "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '%%:include "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '#include_next "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '#import "../../core/log.h"' 'includes "../../core/log.h"'
planted $plugin '#define OTHER "../../core/log.h"\n#include OTHER' 'includes OTHER'
planted $plugin '#include "../route/route.c"' 'includes "../route/route.c"'
planted $plugin '#include "../../sdk/fms_test.h"' 'includes "../../sdk/fms_test.h"'
planted plugins/filter/N.h '#include "../../core/json.h"' 'includes'
planted plugins/null_sink/CMakeLists.txt 'target_link_libraries(null_sink PRIVATE fms_core)' 'fms_core'
planted plugins/null_sink/CMakeLists.txt 'target_sources(null_sink PRIVATE ../../core/json.c)' '../../core/json.c'
# shellcheck disable=SC2016
planted plugins/null_sink/CMakeLists.txt 'target_include_directories(null_sink PRIVATE ${PROJECT_SOURCE_DIR}/core)' 'target_include_directories'
planted core/N.c 'static const char *const plugin = "null_sink";' 'the core names a plugin'
planted core/N.c '/* as fmspipe_null_sink_total does */' 'the core names a plugin'
planted core/N.c '/* as paho does */' 'library of brokers'
planted core/N.c '#include "../plugins/route/route.c"' 'which is not the core'
planted core/N.c '#include "../sdk/fms_test.h"' 'which is not the core'
planted core/N.c '#include <librdkafka/rdkafka.h>' 'library of brokers'
planted core/N.c '/* as MHD_run does */' 'or of HTTP'
planted core/N.c '#include <curl/curl.h>' 'or of HTTP'
planted core/N.c '#include "../admin/observe.h"' 'which is not the core'
for folder in admin client; do
  planted $folder/N.c '#include "pipeline.h"' 'includes "pipeline.h", which is neither its own'
  planted $folder/N.h '#include "../core/lane.h"' 'includes "../core/lane.h"'
  planted $folder/N.c '#include "../plugins/route/route.c"' 'includes "../plugins/route/route.c"'
done
planted client/N.c '#include "../admin/observe.h"' 'includes "../admin/observe.h"'
planted admin/N.c '#include "client.h"' 'includes "client.h"'
planted client/N.c '#include "../core/admin.h"' 'includes "../core/admin.h"'
planted core/record.h '#include "pipeline.h"' 'includes "pipeline.h", which comes behind it'
planted core/words.c '#include "clock.h"' 'includes "clock.h", which comes behind it'
planted core/record.h '#include "./lane.h"' 'includes "./lane.h", which comes behind it'
planted core/stage.h '#include "../core/lane.h"' 'includes "../core/lane.h", which comes behind it'
planted core/part.inc '#include "lane.h"' 'has no place in the order'
# shellcheck disable=SC2016
planted docs/design.md '\n| core/ | does |\n| `nothing` | nothing |\n' 'core/nothing in its order'
planted core/fms_plugin.h '#include <stdio.h>' 'includes <stdio.h>'
planted core/fms_plugin.h '#include "json.h"' 'includes "json.h"'
planted core/fms_plugin.h 'static inline int broken(void) { return missing; }' 'missing'
guard && fail "all of it passes"
for i in "${!files[@]}"; do
  grep -F -- "${files[i]}" "$work/log" | grep -qF -- "${words[i]}" || fail "${files[i]}: nobody says: ${words[i]}"
done
echo "each violation is found"
