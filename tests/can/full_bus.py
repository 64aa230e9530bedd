#!/usr/bin/python3
"""A bus at full load is decoded without a drop: 1,800 frames a second, as fit into 250 kbit/s, and 3,600 of 500 kbit/s, in their own time.

  full_bus.py BIN [COMMAND...]     BIN: the folder of fmspipe, which makes the bus; COMMAND: the fmspipe that is tested, if it is another
                                   one, as in qemu-aarch64-static -L ROOT arm64/bin/fmspipe
  FULL_BUS_SECONDS=60              how long each (5)

All frames come through a pipe, which holds some 5,000 of them and does not wait. They must all be counted, none lost, and the samples be those
of the drive alone, which the others' frames must not change.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import bus

READ = """[pipeline]
name = full-bus
[source]
plugin = can_source
path = %s
decode = fms
signals = all
[sink out]
plugin = file
path = -
"""


def samples_alone(fmspipe, frames):
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        log.writelines(line + "\n" for _, line in frames)
        log.flush()
        return bus.run(fmspipe, READ % log.name).stdout


def check(command, frames, alone):
    with tempfile.TemporaryDirectory() as work:
        pipe, ini = Path(work) / "bus", Path(work) / "read.ini"
        os.mkfifo(pipe)
        ini.write_text(READ % pipe)
        with open(Path(work) / "out", "w+") as out, open(Path(work) / "log", "w+") as log:
            reader = subprocess.Popen([*command, ini], stdout=out, stderr=log)
            try:
                lost = bus.play(frames, pipe, reader)
                status = reader.wait(60)
            finally:
                reader.kill()
            out.seek(0)
            log.seek(0)
            samples, words = out.read(), log.read()
    taken = re.search(r"source: frames: (\d+)", words)
    taken = int(taken[1]) if taken else 0
    print(f"{len(frames)} frames, {lost} lost, {taken} taken, {len(samples.splitlines())} samples of {len(alone.splitlines())}")
    if status != 0 or lost != 0 or taken != len(frames):
        sys.exit(f"not all was decoded; fmspipe ended with {status}:\n{words}")
    if samples != alone or not alone:
        sys.exit(f"the samples are\n{samples}and those of the drive alone\n{alone}")


def main():
    fmspipe = Path(sys.argv[1]) / "fmspipe"
    seconds = int(os.environ.get("FULL_BUS_SECONDS", "5"))
    drive = bus.drive(fmspipe, seconds)
    alone = samples_alone(fmspipe, drive)
    for rate in (1800, 3600):
        check(sys.argv[2:] or [fmspipe], bus.fill(drive, rate, seconds), alone)


main()
