#!/usr/bin/env bash
# A spool that moves from one machine to another: of the same word size it is read whole, with other pages, too, and of another it is
# refused and stays as it was.
#
#   tests/integration/test_moved_spool.sh BIN-DIRECTORY...      each of an architecture, scripts/cross's as DIR/emulated
#
# Pages of 16 KiB are an emulator's, which maps no more of a file than is there: hence the file is made longer.
set -euo pipefail
bin=$(cd "$1" && pwd)
# shellcheck source=tests/integration/common.sh
. "$(dirname "$0")/common.sh"
machines=()
for folder in "$@"; do machines+=("$(cd "$folder" && pwd)"); done
cd "$work"
cat >fill.ini <<'END'
[source]
plugin = fms_sim
vehicles = 3
rate = 0
count = 300
sequence = yes
[sink spool]
plugin = spool
path = spool
max_size = 16MiB
[sink copy]
plugin = console_sink
format = json
END
cat >empty.ini <<'END'
[pipeline]
on_reject = stop
[source]
plugin = spool
path = spool
max_size = 16MiB
[sink out]
plugin = console_sink
format = json
END

word_size() { od -An -tu1 -j4 -N1 "$1/../bin/fmspipe"; } # as ELF tells it

# fills MACHINE: 300 records in spool, and in filled.out
fills() {
  bin=$1
  rm -rf spool filled.*
  start filled fill.ini
  ended filled
  lines filled 300 || fail "$bin has stored $(wc -l <filled.out) records"
}

# empties MACHINE: what it reads is what was stored
empties() {
  bin=$1
  rm -f emptied.*
  start emptied empty.ini
  until_true 60 "$bin reads 300 records" lines emptied 300
  stop emptied TERM
  cmp filled.out emptied.out || fail "$bin reads something else"
}

refuses() {
  bin=$1
  sha256sum spool/data.mdb >before
  asked 1 empty.ini
  said err "cannot be opened as a spool: its data.mdb is none, or a system of another word size"
  sha256sum -c --quiet before || fail "$bin has changed what it refuses"
}

for maker in "${machines[@]}"; do
  for reader in "${machines[@]}"; do
    fills "$maker"
    if [ "$(word_size "$maker")" = "$(word_size "$reader")" ]; then empties "$reader"; else refuses "$reader"; fi
    echo "$maker -> $reader: as it should be"
  done
  if [ "${maker##*/}" = emulated ]; then
    fills "${maker}"
    truncate -s 32M spool/data.mdb
    QEMU_PAGESIZE=16384 empties "$maker"
    echo "$maker -> pages of 16 KiB: as it should be"
  fi
done
