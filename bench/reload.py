#!/usr/bin/python3
"""What a reload costs the records that pass meanwhile, and how long it takes.

  fms-sandbox --kafka=real -- bench/reload.py BIN-DIRECTORY        some 50 s

5,000 messages a second go through mqtt_ingest, a filter and mqtt_sink: from mosquitto and back to it, for a Kafka on the same two cores
hiccups by more than what is looked for. A message's delay is from where it was made (sent_ns) to mosquitto_sub. Four seconds in which the
filter is swapped in the middle of each take turns with four in which nothing is: so what happens to the machine meets both. For each
second counts its greatest delay, and that of the messages that were made within 0.1 s of its middle.
Then a kafka_sink is swapped, while Kafka answers and while it is frozen, and files are reloaded that are bad.
"""

import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = 5000
TURN = 4  # seconds
TURNS = 10
DRAIN = 1.0  # drain_timeout, seconds
BUSY = 10  # milliseconds of delay where nothing is swapped: then something else runs on the machine

BRIDGE = """[pipeline]
name = bridge
drain_timeout = %gs
[source]
plugin = mqtt_ingest
server = ${env:FMS_MQTT}
topic = fms/reload
client_id = bench-reload
[transform check]
plugin = filter
condition = speed >= %s
"""

BACK = """[sink mqtt]
plugin = mqtt_sink
server = ${env:FMS_MQTT}
client_id = bench-reload-back
topic = fms/reloaded
"""

KAFKA = """[sink kafka]
plugin = kafka_sink
brokers = ${env:FMS_KAFKA}
topic = bench-reload
key = ${topic}
partitions = 1
kafka.linger.ms = %d
"""

SENDER = """[pipeline]
name = sender
[source]
plugin = fms_sim
vehicles = 100
rate = %d
sequence = yes
topic = fms/reload
[sink mqtt]
plugin = mqtt_sink
server = ${env:FMS_MQTT}
client_id = bench-reload-sender
"""


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Bridge:
    def __init__(self, programs, folder):
        self.programs, self.file, self.path = programs, folder / "bridge.ini", str(folder / "socket")
        self.condition, self.sink, self.linger, self.log = "0", BACK, 0, folder / "log"
        self.write()
        (folder / "sender.ini").write_text(SENDER % RATE)
        with open(self.log, "wb") as log:
            self.processes = [subprocess.Popen([programs / "fmspipe", *arguments], stdout=log, stderr=log)
                              for arguments in ([f"--admin=unix:{self.path}", self.file], [folder / "sender.ini"])]

    def write(self):
        new = self.file.with_suffix(".new")
        new.write_text(BRIDGE % (DRAIN, self.condition) + self.sink)
        new.rename(self.file)

    def ask(self, method, path):
        connection = Unix(self.path)
        connection.request(method, path)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    def status(self):
        return json.loads(self.ask("GET", "/status"))["pipelines"][0]

    def reload(self, expected):
        """Seconds that it took."""
        self.write()
        began = time.monotonic()
        answer = self.ask("POST", "/reload")
        took = time.monotonic() - began
        if expected not in answer or '{"result":"done"}' not in answer:
            sys.exit(f"reload.py: it was not reloaded: {answer}")
        return took

    def swap_filter(self):
        self.condition = f"-{int(self.condition) * -1 + 1}"
        return self.reload("swapped")

    def swap_sink(self):
        self.linger = 1 - self.linger
        self.sink = KAFKA % self.linger
        return self.reload("reopened")

    def reload_bad(self):
        """Seconds until the command has ended."""
        began = time.monotonic()
        done = subprocess.run([self.programs / "fmspipe", "reload", f"unix:{self.path}"], capture_output=True)
        if done.returncode != 2:
            sys.exit(f"reload.py: a bad file ended with {done.returncode}: {done.stdout.decode()}")
        return time.monotonic() - began

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait()


def await_flow(bridge):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if bridge.status()["rates"]["delivered"] > RATE / 2:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    sys.exit(f"reload.py: nothing flows: {bridge.log.read_text()[-2000:]}")


def delays(lines):
    """(Unix time at which it was made, seconds until it had come back) of each message."""
    found = []
    for line in lines:
        at, _, payload = line.partition(b" ")
        sent = int(re.search(rb'"sent_ns":(\d+)', payload)[1]) / 1e9
        found.append((sent, float(at) - sent))
    return found


def measure_filter(bridge):
    """(Unix time at which it begins, whether the filter was swapped in it) of each second; and how long reloads took."""
    seconds, took = [], []
    for turn in range(TURNS):
        is_swapped = turn % 2 == 1
        for _ in range(TURN):
            began = time.time()
            seconds.append((began, is_swapped))
            time.sleep(0.5)
            if is_swapped:
                took.append(bridge.swap_filter())
            time.sleep(max(0, began + 1 - time.time()))
    return seconds, took


def greatest_of(seconds, start, end):
    """Of each second's messages that were made then, if there were any: a sender may hiccup, too."""
    delays_in = [[delay for at, delay in second if start <= at < end] for second in seconds]
    return [max(its) for its in delays_in if its]


def print_filter(found, seconds):
    """What a swap adds: in the middle, for a machine hiccups in seconds of both kinds. None: it hiccups too much."""
    print(f"\n| {RATE:,} messages a second | messages | p50 ms | greatest of a second, ms | greatest within 0.1 s of the swap, ms |\n"
          "|---|---|---|---|---|")
    near = {}
    for is_swapped, name in ((False, "nothing is swapped"), (True, "the filter is swapped each second")):
        begins = [began for began, was in seconds if was == is_swapped]
        its = [[(sent - began, delay * 1e3) for sent, delay in found if began <= sent < began + 1] for began in begins]
        greatest = greatest_of(its, 0, 1)
        near[is_swapped] = greatest_of(its, 0.4, 0.6)
        print(f"| {name} | {sum(map(len, its))} | {statistics.median(delay for second in its for _, delay in second):.1f} "
              f"| {middle(greatest)} | {middle(near[is_swapped])} |")
    if statistics.median(near[False]) > BUSY:
        return None
    return statistics.median(near[True]) - statistics.median(near[False])


def middle(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def row(name, values, most=100):
    late = sum(value >= most for value in values)
    print(f"| {name} | {middle(values)} ms, {len(values)} times | {most:g} ms "
          f"| {'kept' if late == 0 else f'MISSED {late} times'} |")


def main():
    programs = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        bridge = Bridge(programs, Path(folder))
        host, _, port = os.environ["FMS_MQTT"].rpartition("/")[2].rpartition(":")
        back = open(Path(folder) / "back", "w+b")
        try:
            await_flow(bridge)
            reader = subprocess.Popen(["mosquitto_sub", "-h", host, "-p", port, "-t", "fms/reloaded", "-F", "%U %p"], stdout=back)
            time.sleep(1)
            seconds, took = measure_filter(bridge)
            reader.terminate()
            reader.wait()
            bridge.swap_sink()
            await_flow(bridge)
            flowing = []
            for _ in range(8):
                time.sleep(0.2)
                flowing.append(bridge.swap_sink() * 1e3)
            bridge.condition = ""
            bridge.write()
            bad = [bridge.reload_bad() * 1e3 for _ in range(20)]
            bridge.condition = "0"
            frozen = []
            for _ in range(3):
                subprocess.run([programs / "fms-sandbox", "ctl", "kafka", "freeze"], check=True)
                time.sleep(0.2)
                frozen.append((bridge.swap_sink() - DRAIN) * 1e3)
                subprocess.run([programs / "fms-sandbox", "ctl", "kafka", "thaw"], check=True)
                time.sleep(2)  # what /status says is then from after it
                await_flow(bridge)
        finally:
            bridge.stop()
        back.seek(0)
        added = print_filter(delays(back), seconds)
    verdict = "the machine is too busy to tell" if added is None else "kept" if added < 5 else "MISSED"
    print("\n| | seen | at most | |\n|---|---|---|---|")
    print(f"| what a swap of the filter adds to the greatest delay | {'-' if added is None else f'{added:.1f} ms'} | 5 ms | {verdict} |")
    row("a swap of the filter, until it is answered", [value * 1e3 for value in took])
    row("a swap of the sink, its drain included, while Kafka answers", flowing, DRAIN * 1e3 + 100)
    row(f"the same while Kafka is frozen, beyond drain_timeout = {DRAIN:g} s", frozen)
    row("`fmspipe reload` of a bad file", bad)


main()
