#!/usr/bin/python3
"""What a broker's window costs: fmspipe beside a bare loop (bare_bridge.c), from bench/firehose to librdkafka's mock of Kafka, by turns.

Called by scripts/windows. One line each run, and a table of medians at the end: CPU of the process and messages a second, counted
in Kafka. --draw FOLDER: two curves, too.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

from confluent_kafka import Consumer, TopicPartition
from run import Failure, Process, until

HERE = Path(__file__).resolve().parent
WINDOWS = [20, 32, 100, 1000, 10000]
PROFILES = ["realtime", "throughput"]
CONTENDERS = ["fmspipe", "bare"]
PARTITIONS = 4  # of the mock's topics


def command(contender, bin_dir, port, topic, profile):
    if contender == "bare":
        return [bin_dir / "bare_bridge", "127.0.0.1", port, "fms/+/data", os.environ["FMS_KAFKA"], topic, profile]
    return [bin_dir / "fmspipe", "--log-level=error", HERE / "ours/windows.ini"]


def stored(consumer, topic):
    return sum(consumer.get_watermark_offsets(TopicPartition(topic, p), 10)[1] for p in range(PARTITIONS))


def measure(options, consumer, contender, profile, window, topic):
    processes = []
    try:
        hose = Process([options.bin / "firehose", "--window", str(window), "3600", "1", str(options.payload), "100"], stdout=PIPE)
        processes.append(hose)
        port = hose.popen.stdout.readline().split()[1].decode()
        env = dict(os.environ, FMS_MQTT=f"tcp://127.0.0.1:{port}", BENCH_TOPIC=topic, BENCH_PROFILE=profile)
        consumer.list_topics(topic, 10)  # makes it
        bridge = Process(command(contender, options.bin, port, topic, profile), env, log=sys.stderr)
        processes.append(bridge)
        until(30, f"{contender}'s first message", lambda: stored(consumer, topic) > 0)
        time.sleep(options.warm_up)
        cpu, messages, began = bridge.cpu(), stored(consumer, topic), time.monotonic()
        time.sleep(options.seconds)
        cpu, messages, took = bridge.cpu() - cpu, stored(consumer, topic) - messages, time.monotonic() - began
        if messages == 0:
            raise Failure(f"{contender}: nothing came at window {window}")
        return cpu / messages * 1e6, messages / took
    finally:
        for process in reversed(processes):
            process.kill()


def draw(options, seen):
    """Medians over the window, a line for each contender and profile."""
    for name, at, title in (("windows_cpu", 0, "us CPU a message"), ("windows_rate", 1, "messages a second")):
        lines, data = [], ""
        for contender, profile in itertools.product(options.contenders, options.profiles):
            lines.append(f"'-' with linespoints title '{contender}, {profile}'")
            data += "".join(f"{window} {statistics.median(run[at] for run in seen[window, profile, contender])}\n"
                            for window in options.windows) + "e\n"
        script = f"""set terminal svg size 720,400 font 'sans,12' background 'white'
set output '{options.draw / name}.svg'
set logscale xy
set grid
set xlabel 'messages that the broker lets be under way'
set ylabel '{title}'
set key outside bottom center horizontal
plot {', '.join(lines)}
"""
        subprocess.run(["gnuplot"], input=script + data, text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS)
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--payload", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args()
    consumer = Consumer({"bootstrap.servers": os.environ["FMS_KAFKA"], "group.id": "bench"})
    seen = {}
    for turn, window, profile, contender in itertools.product(range(options.rounds), options.windows, options.profiles,
                                                              options.contenders):
        cpu, rate = measure(options, consumer, contender, profile, window, f"windows-{turn}-{window}-{profile}-{contender}")
        seen.setdefault((window, profile, contender), []).append((cpu, rate))
        print(f"{window:6} {profile:10} {contender:8} {cpu:8.2f} us {rate:9.0f}/s", flush=True)
    print("\n| window | profile | fmspipe: us CPU a message | messages a second | bare loop: us | a second | times its CPU | of its rate |")
    print("|---|---|---|---|---|---|---|---|")
    for window, profile in itertools.product(options.windows, options.profiles):
        cells = [f"{window:,}", profile]
        middles = []
        for contender in options.contenders:
            cpu, rate = (statistics.median(values) for values in zip(*seen[window, profile, contender]))
            middles.append((cpu, rate))
            cells += [f"{cpu:.2f}", f"{rate:,.0f}"]
        if len(middles) == 2:
            cells += [f"{middles[0][0] / middles[1][0]:.2f}", f"{middles[0][1] / middles[1][1]:.2f}"]
        print("| " + " | ".join(cells) + " |")
    if options.draw:
        draw(options, seen)


if __name__ == "__main__":
    main()
