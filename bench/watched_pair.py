#!/usr/bin/python3
"""What measuring inside costs a message, in one process: it is switched off and on every half second while the bridge runs.

  fms-sandbox --kafka=real -- bench/watched_pair.py BIN-DIRECTORY [PAIRS]

Two starts of one program differ by more than what is to be found, for how a process lies in memory and on the cores. So the bridge of
bench/ours/mqtt_ingest.ini is watched all the time (scraped each second, /status asked for, a page's stream open), and its own flag
`is_measured`, found by gdb, is written through /proc: all else stays as it is. CPU is that of all its threads, by /proc/PID/task/*/schedstat;
messages are counted where the lane counts them. The second line is what the threads take that look and answer, which the first leaves
out: milliseconds of CPU a second.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import run

FIND = """
import gdb
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    while frame is not None:
        try:
            frame.select()
            value = gdb.parse_and_eval("pipeline")
            if str(value.type) == "struct pipeline *":
                print("FOUND", int(value["is_measured"].address), int(value["counts"]["emitted"].address))
        except gdb.error:
            pass
        frame = frame.older()
"""
SLICE = 0.5  # seconds


class Options:
    def __init__(self, bin_directory):
        self.bin = Path(bin_directory).resolve()
        self.out = Path(tempfile.mkdtemp(prefix="bench-"))
        self.options = self


def find(pid):
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(FIND)
        script.flush()
        said = subprocess.run(["gdb", "-p", str(pid), "-batch", "-x", script.name], capture_output=True, text=True).stdout
    found = re.search(r"FOUND (\d+) (\d+)", said)
    if found is None:
        sys.exit(f"watched_pair.py: gdb finds no lane in the process:\n{said[-1000:]}")
    return int(found[1]), int(found[2])


def threads(pid):
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()}


def measure(bench, name, text, pairs):
    file = bench.out / f"{name}.ini"
    file.write_text(text)
    contender = {"name": name, "command": f"{bench.bin}/fmspipe --log-level=error {file}", "watchers": [("look", "1")]}
    with run.Run(bench, contender, run.BASE, 5) as it:
        it.start_firehose()
        bridge = it.start_contender()
        it.await_messages()
        it.start_watchers()
        time.sleep(2)
        pid = next(int(path.name) for path, _ in bridge.members() if (path / "comm").read_text().strip() == "fmspipe")
        flag, emitted = find(pid)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)

        def count():
            return int.from_bytes(os.pread(memory, 8, emitted), "little")

        cost = {0: [], 1: []}
        began, first, before = time.monotonic(), count(), threads(pid)
        for pair in range(pairs):
            for is_on in (0, 1) if pair % 2 else (1, 0):
                os.pwrite(memory, bytes([is_on]), flag)
                time.sleep(0.05)
                cpu, messages = sum(threads(pid).values()), count()
                time.sleep(SLICE)
                cost[is_on].append((sum(threads(pid).values()) - cpu) / max(1, count() - messages))
        seconds, messages, after = time.monotonic() - began, count() - first, threads(pid)
        it.watched()
        ratios = sorted(on / off for off, on in zip(cost[0], cost[1]))
        quarters = statistics.quantiles(ratios, n=4)
        names = {tid: (Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()) for tid in after}
        rest = sorted(((after[tid] - before.get(tid, 0)) / 1e6 / seconds for tid in after if names[tid] == "fmspipe"), reverse=True)
        print(f"{name}: {messages / seconds:,.0f} messages a second, {statistics.median(cost[0]):.0f} ns CPU a message, measured "
              f"{statistics.median(cost[1]):.0f}: times {statistics.median(ratios):.4f} ({quarters[0]:.3f} to {quarters[2]:.3f}, {pairs} pairs)")
        print(f"{name}: those who look and answer take {sum(rest[1:]):.2f} ms a second; threads: "
              + ", ".join(f"{value:.2f}" for value in rest), flush=True)


def main():
    bench = Options(sys.argv[1])
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 120
    text = (run.HERE / "ours/mqtt_ingest.ini").read_text()
    for _ in range(2):
        measure(bench, "plain", text.replace("vehicle = ${topic[2]}\n", ""), pairs)
        measure(bench, "vehicle", text, pairs)


main()
