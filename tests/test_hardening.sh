#!/usr/bin/env bash
# What is built is hardened as the flags say: usage: test_hardening.sh FMSPIPE PLUGIN-DIRECTORY
set -euo pipefail
export LC_ALL=C
bad=0
complain() { echo "$*" >&2; bad=1; }

# has FILE OPTION TEXT: readelf with the option says so of the file
has() { readelf -W "$2" "$1" | grep -E -- "$3" >/dev/null; } # not -q: readelf would not like a closed pipe

for file in "$1" "$2"/*.so; do
  has "$file" -h 'Type: +DYN' || complain "$file is not position independent"
  has "$file" -l 'GNU_RELRO' || complain "$file has no RELRO"
  has "$file" -d 'BIND_NOW|FLAGS.*NOW' || complain "$file is bound lazily, so its RELRO is half of one"
  ! has "$file" -d 'TEXTREL' || complain "$file has relocations in its text"
  has "$file" -l 'GNU_STACK .* RW ' || complain "$file has an executable stack"
done
has "$1" -d 'FLAGS_1.*PIE' || complain "$1 is no position independent executable"

# Whether there is a canary or a check depends on what the functions do; in these files some have one.
for file in "$1" "$2"/{mqtt_ingest,kafka_sink,spool}.so; do
  has "$file" --dyn-syms '__stack_chk_fail' || complain "$file has no stack protector"
done
for file in "$1" "$2"/{mqtt_ingest,kafka_sink,file}.so; do
  has "$file" --dyn-syms '__[a-z]+_chk' || complain "$file has no checked functions (_FORTIFY_SOURCE)"
done
[ "$bad" = 0 ] && echo "hardened"
exit "$bad"
