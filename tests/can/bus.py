"""A truck's bus that does not wait: a drive of fms_sim's among the frames of other controllers, each at its time, into a pipe.

What the reader has left no room for is lost, and counted, as a bus's frames are. Imported by full_bus.py and bench/truck.py.
"""
import errno
import fcntl
import os
import random
import re
import subprocess
import tempfile
import time

# What the others send: half of it messages whose signals they have not (FF), so that they are decoded and change nothing; half of it other ones.
OTHERS = 0x21
ASKED = [0xF004, 0xF003, 0xFEF1, 0xFEF2, 0xFEE9, 0xFEC1]
UNASKED = [0xF001, 0xF009, 0xFF01, 0xFF42]
LINE = re.compile(r"\((\d+)\.(\d{6})\) (.*)")
START = 1763320419 * 1000000
ROOM = 256 << 10  # bytes that the pipe keeps: a second and a half of a full bus, for a machine that has other work, too


def run(fmspipe, ini):
    """What a pipeline writes to standard output, and its log."""
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
        file.write(ini)
        file.flush()
        return subprocess.run([fmspipe, file.name], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


def line_at(when, frame):
    return when, f"({when // 1000000}.{when % 1000000:06d}) {frame}"


def drive(fmspipe, seconds):
    """[(microseconds, line)] of so long a drive, some 120 a second, from START on."""
    out = run(fmspipe, f"""[source]
plugin = fms_sim
format = can
rate = 0
count = {125 * seconds}
[sink out]
plugin = file
path = -
""").stdout
    found = [LINE.match(line) for line in out.splitlines()]
    times = [int(line[1]) * 1000000 + int(line[2]) for line in found]
    frames = [line_at(START + when - times[0], line[3]) for when, line in zip(times, found)]
    return [frame for frame in frames if frame[0] < START + seconds * 1000000]


def fill(frames, rate, seconds):
    """The same drive on a bus of so many frames a second."""
    bits, more, others = random.Random(1939), rate * seconds - len(frames), []
    for i in range(more):
        pgn = bits.choice(ASKED if i % 2 == 0 else UNASKED)
        data = "FF" * 8 if i % 2 == 0 else bits.randbytes(8).hex().upper()
        others.append(line_at(START + i * seconds * 1000000 // more, f"can0 {6 << 26 | pgn << 8 | OTHERS:08X}#{data}"))
    return sorted(frames + others, key=lambda frame: frame[0])


def reader_of(pipe, process):
    """The pipe's end, once it is read; None: the process that was to read it has ended."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        time.sleep(0.01)
    return None


def play(frames, pipe, process):
    """Each frame at its time, for a process that reads the pipe. How many were lost."""
    to, lost = reader_of(pipe, process), 0
    if to is None:
        return len(frames)
    fcntl.fcntl(to, fcntl.F_SETPIPE_SZ, ROOM)
    begun = time.monotonic()
    for when, line in frames:
        wait = begun + (when - START) / 1e6 - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        try:
            os.write(to, line.encode() + b"\n")
        except (BlockingIOError, BrokenPipeError):
            lost += 1
    os.close(to)
    return lost
