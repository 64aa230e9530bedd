#!/usr/bin/python3
"""Measures bridges from MQTT to Kafka side by side and writes what it sees as JSON lines, one a run.

Called by scripts/bench, within fms-sandbox --kafka=real. Contenders take turns: round by round, point by point, so that what
happens to the machine meets all. CPU and memory are those of a contender's whole process group; messages are counted in Kafka,
by the ends of the topic's partitions.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
BASE = {"feed": "firehose", "qos": 1, "payload": 128, "vehicles": 100, "partitions": 12}
FACTORS = {"qos": [0], "payload": [1024, 16384], "vehicles": [1, 10000], "partitions": [1], "feed": ["mosquitto"]}
LATENCIES = [{"rate": 100}, {"rate": 1000}, {"rate": 1000, "qos": 0}, {"rate": 10000}]  # messages a second
RATES = sorted({point["rate"] for point in LATENCIES})
PARTS = ["throughput", "slices", "watched", "exactly_once", "latency", "kill", "consumer", "generator", "transforms",
         "processes", "shards"]
ONCE = "mqtt_ingest, exactly once"
SLICE = 0.4  # seconds
START_LIMIT = 90  # seconds until the first message: a Java may take its time


class Failure(Exception):
    """A contender that does not do its job."""


# ------------------------------------------------------------------------------------------------------------- processes


class Process:
    """A command and all that it starts: a process group of its own."""

    def __init__(self, command, env=None, log=subprocess.DEVNULL, **options):
        self.popen = subprocess.Popen(command, env=env, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                      **{"stdout": log, **options})

    def members(self):
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
            except OSError:
                continue  # it has ended meanwhile
            fields = text[text.rindex(")") + 2:].split()
            if int(fields[2]) == self.popen.pid:
                yield path.parent, fields

    def cpu(self):
        """Seconds of CPU, with those of children that have ended."""
        return sum(sum(map(int, fields[11:15])) for _, fields in self.members()) / TICK

    def memory(self, what):
        """Sum of VmRSS (now) or VmHWM (the peak), in MiB."""
        total = 0
        for folder, _ in self.members():
            try:
                lines = (folder / "status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(what + ":"))
        return total / 1024

    def signal(self, number):
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            pass

    def stop(self, patience=20):
        """SIGTERM to the first process: at the end of its input the rest of a shell pipe ends by itself, with all it holds."""
        self.popen.terminate()
        try:
            self.popen.wait(patience)
            until(patience, "the end", lambda: not any(self.members()))
        except (subprocess.TimeoutExpired, Failure):
            pass
        self.kill()

    def kill(self):
        self.signal(signal.SIGKILL)
        self.popen.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(seconds, what, condition, pause=0.01):
    """Waits for the condition and returns what it gave."""
    limit = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > limit:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(pause)
    return result


# ----------------------------------------------------------------------------------------------------------------- Kafka


class Topic:
    """A topic of its own for each run, which goes with it."""

    count = 0

    def __init__(self, brokers, partitions):
        Topic.count += 1
        self.name = f"bench-{os.getpid()}-{Topic.count}"
        self.partitions = partitions
        self.admin = AdminClient({"bootstrap.servers": brokers})
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": "bench"})
        topic = NewTopic(self.name, partitions, 1, config={"file.delete.delay.ms": "1000"})
        self.admin.create_topics([topic])[self.name].result(30)
        until(30, "the new topic", self.is_there)

    def is_there(self):
        found = self.consumer.list_topics(self.name, 10).topics[self.name].partitions
        try:
            return len(found) == self.partitions and self.messages() == 0
        except KafkaException:
            return False  # not led yet

    def messages(self):
        """Those that are committed; and the marks of transactions, one a commit in each partition."""
        return sum(self.consumer.get_watermark_offsets(TopicPartition(self.name, p), 10)[1] for p in range(self.partitions))

    def close(self):
        """And the journal that a contender may have made for it."""
        names = [name for name in (self.name, f"{self.name}-journal") if name in self.consumer.list_topics(timeout=10).topics]
        self.consumer.close()
        for answer in self.admin.delete_topics(names).values():
            answer.result(30)


# ------------------------------------------------------------------------------------------------------------------ runs


class Run:
    """A contender at a point: its topic, folder and environment, and the processes about it."""

    def __init__(self, bench, contender, point, linger):
        self.bench = bench
        self.contender = contender
        self.point = dict(point, qos=contender.get("qos", point["qos"]))
        self.topic = Topic(os.environ["FMS_KAFKA"], point["partitions"])
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.work = Path(self.folder.name)
        self.log = open(bench.out / "log", "a")
        self.processes = []
        self.client = f"bench-{contender['name']}".replace(" ", "").replace("+", "-").replace("|", "-")
        self.env = dict(os.environ, BENCH_TOPIC=self.topic.name, BENCH_FILTER="fms/+/data", BENCH_QOS=str(self.point["qos"]),
                        BENCH_CLIENT=self.client, BENCH_LINGER=str(linger), BENCH_WORK=str(self.work), BENCH_IDLE="5s",
                        BENCH_PROFILE="throughput" if linger > 0 else "realtime")

    def __enter__(self):
        self.log.write(f"== {self.contender['name']} {self.point}\n")
        self.log.flush()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        if self.point["feed"] == "mosquitto":  # forgets the session and what waits in it
            host, port = self.mqtt()
            subprocess.run(["mosquitto_sub", "-h", host, "-p", port, "-i", self.client, "-t", "none", "-E"], timeout=30)
        self.topic.close()
        self.log.close()
        self.folder.cleanup()

    def signal(self, number):
        for process in self.processes:
            process.signal(number)

    def mqtt(self):
        return self.env["FMS_MQTT"].removeprefix("tcp://").split(":")

    def start(self, command, **options):
        process = Process(command, self.env, **{"log": self.log, **options})
        self.processes.append(process)
        return process

    def start_contender(self):
        self.env["BENCH_MQTT_HOST"], self.env["BENCH_MQTT_PORT"] = self.mqtt()
        if "watchers" in self.contender:
            self.admin = free_port()
            self.env["FMSPIPE_ADMIN"] = f"127.0.0.1:{self.admin}"
        return self.start(["sh", "-c", "exec env " + self.contender["command"]])

    def start_watchers(self):
        """Those who look at it, as the contender says; one that ends has not looked."""
        self.watchers = [self.start(["/usr/bin/python3", HERE / "watchers.py", str(self.admin), *words, self.work / "status"])
                         for words in self.contender.get("watchers", [])]

    def watched(self):
        """What they saw."""
        if any(watcher.popen.poll() is not None for watcher in self.watchers):
            raise Failure("a watcher has ended: see the log")
        file = self.work / "status"
        return {"status_ms": float(file.read_text())} if file.exists() else {}

    def start_firehose(self):
        """One for each lane, each of which has a session of its own."""
        p = self.point
        numbered = ["--numbered"] if self.contender.get("numbered") else []
        for lane in range(p.get("lanes", 1)):
            hose = self.start([self.bench.bin / "firehose", *numbered, "3600", str(p["qos"]), str(p["payload"]),
                               str(p["vehicles"])], stdout=subprocess.PIPE)
            address = f"tcp://127.0.0.1:{hose.popen.stdout.readline().split()[1].decode()}"
            self.env.update({"FMS_MQTT": address, f"BENCH_SERVER_{lane}": address,
                             f"BENCH_FILTER_{lane}": self.env["BENCH_FILTER"]})

    def start_publisher(self, rate, count):
        p = self.point
        return self.start([self.bench.bin / "publisher", *self.mqtt(), str(p["qos"]), str(p["payload"]), str(p["vehicles"]),
                           str(rate), str(count), self.work / "counts"])

    def await_bridge(self):
        """Asks until the bridge has brought something."""
        host, port = self.mqtt()

        def is_through():
            subprocess.run(["mosquitto_pub", "-h", host, "-p", port, "-t", "fms/warm/data", "-m", "{}"], timeout=30)
            return self.topic.messages() > 0

        until(START_LIMIT, "the first message", is_through, 0.2)

    def await_quiet(self):
        """Until nothing has come for five seconds."""
        last = -1
        while last != (last := self.topic.messages()):
            time.sleep(5)

    def await_messages(self):
        until(START_LIMIT, "the first message", lambda: self.topic.messages() > 0)


def measure_throughput(run):
    """As fast as it goes: CPU, messages a second, memory, time from start to the first message in Kafka."""
    options = run.bench.options
    if run.point["feed"] == "firehose":
        run.start_firehose()
        began = time.monotonic()
        bridge = run.start_contender()
        run.await_messages()
        start = time.monotonic() - began
    else:
        bridge = run.start_contender()
        run.await_bridge()
        run.start_publisher(0, 4294967295)
        start = None
    time.sleep(options.warm_up)
    cpu, messages, began = bridge.cpu(), run.topic.messages(), time.monotonic()
    time.sleep(options.seconds)
    cpu, messages, seconds = bridge.cpu() - cpu, run.topic.messages() - messages, time.monotonic() - began
    if messages == 0:
        raise Failure("nothing came in the time measured")
    result = {"rate": messages / seconds, "cpu_us": cpu / messages * 1e6, "memory": bridge.memory("VmRSS"),
              "peak": bridge.memory("VmHWM"), "start": start}
    bridge.stop()
    return result


def measure_in_slices(runs):
    """As fast as they go, by turns of a part of a second, the others stopped meanwhile: what becomes of the machine's speed
    meets all of them. One result for each."""
    bridges = []
    for run in runs:
        run.start_firehose()
        bridges.append(run.start_contender())
        run.await_messages()
        run.start_watchers()
        time.sleep(run.bench.options.warm_up)
        run.signal(signal.SIGSTOP)
    before = [(bridge.cpu(), run.topic.messages()) for run, bridge in zip(runs, bridges)]
    slices = max(5, round(runs[0].bench.options.seconds / SLICE))
    for i in range(slices):
        for run in runs[::1 if i % 2 == 0 else -1]:
            run.signal(signal.SIGCONT)
            time.sleep(SLICE)
            run.signal(signal.SIGSTOP)
    results = []
    for run, bridge, (cpu, messages) in zip(runs, bridges, before):
        messages = run.topic.messages() - messages
        if messages == 0:
            raise Failure("nothing came in the time measured")
        results.append({"rate": messages / slices / SLICE, "cpu_us": (bridge.cpu() - cpu) / messages * 1e6,
                        "peak": bridge.memory("VmHWM"), **run.watched()})
        run.signal(signal.SIGCONT)
        bridge.stop()
    return results


def read_meter(meter):
    report = json.loads(meter.popen.communicate(timeout=600)[0])
    return {"lost": report["lost"], "duplicated": report["duplicated"], "out_of_order": report["out_of_order"],
            "expected": report["expected"], **report["latency_ms"]}


def measure_latency(run):
    """At a steady rate over mosquitto: time from publish to a consumer of Kafka, and CPU."""
    rate, seconds = run.point["rate"], run.bench.options.latency_seconds
    bridge = run.start_contender()
    run.await_bridge()
    meter = run.start([run.bench.bin / "fmspipe", "--log-level=warn", HERE / "ours/meter.ini"], stdout=subprocess.PIPE)
    time.sleep(4)  # until it has joined its group, or its own start would count as latency
    cpu = bridge.cpu()
    publisher = run.start_publisher(rate, rate * seconds)
    publisher.popen.wait(seconds + 120)
    time.sleep(0.5)
    cpu = bridge.cpu() - cpu
    memory = bridge.memory("VmRSS")
    result = read_meter(meter)
    bridge.stop()
    return {"cpu_us": cpu / (rate * seconds) * 1e6, "memory": memory, **result}


def measure_kill(run):
    """Killed with SIGKILL in mid-run and started again: what was lost, repeated, reordered."""
    rate, seconds = 2000, 10
    bridge = run.start_contender()
    run.await_bridge()
    publisher = run.start_publisher(rate, rate * seconds)
    time.sleep(seconds / 2)
    bridge.kill()
    bridge = run.start_contender()
    publisher.popen.wait(seconds + 120)
    run.await_quiet()
    bridge.stop()
    meter = run.start([run.bench.bin / "fmspipe", "--log-level=warn", HERE / "ours/meter.ini"], stdout=subprocess.PIPE)
    result = read_meter(meter)
    return {key: result[key] for key in ("expected", "lost", "duplicated", "out_of_order")}


def measure_slices(bench):
    """What the framework costs beside the floor, more closely. Both are started anew again and again, for how a process lies in
    memory and on the cores makes some percent too."""
    pair = bench.ours()[:2]

    def go():
        with ExitStack() as stack:
            return measure_in_slices([stack.enter_context(Run(bench, contender, BASE, 5)) for contender in pair])

    for turn in range(3 * bench.options.rounds):
        bench.keep_all("slices", [contender["name"] for contender in pair], BASE, turn, go)


def measure_watched(bench):
    """What it costs to be looked at: scraped every second with a page open, and besieged by a thousand bad clients. Time stands
    still for a bridge in the turns of the others, so one look a second of its own is one in as many seconds as there are bridges."""
    ingest = next(contender for contender in bench.ours() if contender["name"] == "mqtt_ingest")
    rows = {"not watched": None, "watched": [("look", "3")], "besieged": [("crowd", "1000")]}
    contenders = [dict(ingest, name=name, **({} if watchers is None else {"watchers": watchers}))
                  for name, watchers in rows.items()]

    def go():
        with ExitStack() as stack:
            return measure_in_slices([stack.enter_context(Run(bench, contender, BASE, 5)) for contender in contenders])

    for turn in range(3 * bench.options.rounds):
        bench.keep_all("watched", list(rows), BASE, turn, go)


def measure_exactly_once(bench):
    """What it takes beyond at least once as fast as it goes, by turns; and until messages are committed, at steady rates. Numbers
    are fields of the payload, so that the messages are the same; and user properties, as vehicles send them."""
    least, once = (next(c for c in bench.ours() if c["name"] == name) for name in ("mqtt_ingest", ONCE))
    numbered = dict(once, name=f"{ONCE}, numbered", numbered=True,
                    command=once["command"].replace("exactly_once", "exactly_once_numbered"))
    contenders = [least, once, numbered]

    def go():
        with ExitStack() as stack:
            return measure_in_slices([stack.enter_context(Run(bench, contender, BASE, 5)) for contender in contenders])

    def go_steadily(point):
        with Run(bench, once, point, 0) as run:
            return measure_latency(run)

    for turn in range(bench.options.rounds):
        bench.keep_all("exactly_once", [contender["name"] for contender in contenders], BASE, turn, go)
        for rate in (100, 1000):
            point = dict(BASE, feed="mosquitto", rate=rate)
            bench.keep("committed", ONCE, point, turn, lambda: go_steadily(point))


# --------------------------------------------------------------------------------------- single programs, to their own end


def measure_end(bench, command, env, count):
    """CPU and peak memory of a command that handles so many messages and ends."""
    began = time.monotonic()
    peak = 0
    with open(bench.out / "log", "a") as log:
        process = Process(command, env, log, stdout=subprocess.DEVNULL)
        while os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, process.memory("VmHWM"))
            time.sleep(0.02)
        wall = time.monotonic() - began
        _, status, usage = os.wait4(process.popen.pid, 0)
    process.popen.returncode = os.waitstatus_to_exitcode(status)
    if process.popen.returncode != 0:
        raise Failure(f"{command}: exit status {process.popen.returncode}")
    return {"cpu_us": (usage.ru_utime + usage.ru_stime) / count * 1e6, "peak": peak, "rate": count / wall}


def measure_consumers(bench):
    """Kafka to standard output: the floor and ours read the same topic in turns."""
    count = bench.options.records
    topic = Topic(os.environ["FMS_KAFKA"], 1)
    env = dict(os.environ, BENCH_TOPIC=topic.name, BENCH_COUNT=str(count), BENCH_VEHICLES="100")
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as fill:
        fill.write(f"[source]\nplugin = fms_sim\nvehicles = 100\nrate = 0\ncount = {count}\n[sink kafka]\nplugin = kafka_sink\n"
                   f"brokers = {env['FMS_KAFKA']}\ntopic = {topic.name}\nprofile = throughput\n")
        fill.flush()
        subprocess.run([bench.bin / "fmspipe", "--log-level=warn", fill.name], check=True)
    for turn in range(bench.options.rounds):
        for name in ("floor_consumer", "kafka_source + console_sink"):
            env["BENCH_CLIENT"] = group = f"{topic.name}-{name.split()[0]}-{turn}"
            command = ([bench.bin / "floor_consumer", env["FMS_KAFKA"], topic.name, group, str(count)]
                       if name == "floor_consumer" else
                       [bench.bin / "fmspipe", "--log-level=warn", HERE / "ours/consumer.ini"])
            bench.keep("consumer", name, {}, turn, lambda: measure_end(bench, command, env, count))
    topic.close()


def measure_generators(bench):
    """A generator into nothing."""
    count = bench.options.records
    env = dict(os.environ, BENCH_VEHICLES="100", BENCH_COUNT=str(count))
    for turn in range(bench.options.rounds):
        for name, command in (("floor_generator", [bench.bin / "floor_generator", "100", str(count)]),
                              ("fms_sim + null_sink",
                               [bench.bin / "fmspipe", "--log-level=warn", HERE / "ours/generator.ini"])):
            bench.keep("generator", name, {}, turn, lambda: measure_end(bench, command, env, count))


def measure_transforms(bench):
    """The core alone, with more and more transforms in the chain."""
    count = bench.options.records
    for turn in range(bench.options.rounds):
        for transforms in (0, 1, 2, 4, 8, 16):
            for plugin in ("bench_pass", "fms_check"):
                with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
                    file.write(f"[source]\nplugin = bench_source\ncount = {count}\n[sink null]\nplugin = null_sink\n")
                    for i in range(transforms):
                        file.write(f"[transform t{i}]\nplugin = {plugin}\n")
                    file.flush()
                    env = dict(os.environ, FMSPIPE_PLUGIN_PATH=f"{bench.bin}/../bench:{bench.bin}/../plugins")
                    command = [bench.bin / "fmspipe", "--log-level=warn", file.name]
                    bench.keep("transforms", plugin, {"transforms": transforms}, turn,
                               lambda: measure_end(bench, command, env, count))


def measure_processes(bench):
    """Processes that share a subscription at mosquitto."""
    command = (f"for i in $(seq $BENCH_PROCESSES); do BENCH_CLIENT=$BENCH_CLIENT-$i {bench.bin}/fmspipe --log-level=warn "
               f"{HERE}/ours/mqtt_ingest.ini & done; wait")
    contender = {"name": "mqtt_ingest", "command": f"sh -c '{command}'"}
    for turn in range(bench.options.rounds):
        for processes in (1, 2, 4):
            def go():
                with Run(bench, contender, dict(BASE, feed="mosquitto"), 5) as run:
                    run.env.update(BENCH_FILTER="$share/bench/fms/+/data", BENCH_CLEAN="yes", BENCH_PROCESSES=str(processes))
                    return measure_throughput(run)
            bench.keep("processes", "mqtt_ingest", {"processes": processes}, turn, go)


def measure_shards(bench):
    """Lanes of shards in one process, each fed by a firehose of its own."""
    contender = {"name": "mqtt_ingest", "command": f"{bench.bin}/fmspipe --log-level=warn {HERE}/ours/shards.ini"}
    for turn in range(bench.options.rounds):
        for lanes in (1, 2, 4):
            def go():
                with Run(bench, contender, dict(BASE, lanes=lanes), 5) as run:
                    run.env["BENCH_LANES"] = str(lanes)
                    return measure_throughput(run)
            bench.keep("shards", "mqtt_ingest", {"lanes": lanes}, turn, go)


# ----------------------------------------------------------------------------------------------------------------- bench


class Bench:
    def __init__(self, options):
        self.options = options
        self.bin = options.bin.resolve()
        self.out = options.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.raw = open(self.out / "raw.jsonl", "w")
        self.contenders = [c for c in self.ours() + self.others() if not options.only or c["name"] in options.only]

    def ours(self):
        fmspipe, ini = f"{self.bin}/fmspipe --log-level=warn", f"{HERE}/ours"
        floor = f'{self.bin}/floor_bridge "$FMS_MQTT" "$BENCH_FILTER" "$BENCH_QOS" "$BENCH_CLIENT" "$FMS_KAFKA" "$BENCH_TOPIC" "$BENCH_LINGER"'
        return [{"name": "floor", "command": floor},
                {"name": "mqtt_source", "command": f"{fmspipe} {ini}/mqtt_source.ini"},
                {"name": "mqtt_source + spool", "command": f"{fmspipe} {ini}/spool_in.ini {ini}/spool_out.ini"},
                {"name": "mqtt_ingest", "command": f"{fmspipe} {ini}/mqtt_ingest.ini"},
                {"name": ONCE, "command": f"{fmspipe} {ini}/exactly_once.ini"},
                {"name": "mqtt_ingest + spool", "command": f"{fmspipe} {ini}/ingest_spool_in.ini {ini}/spool_out.ini"}]

    def others(self):
        """Those that scripts/bench-tools names: name, command, version."""
        found = []
        for line in self.options.tools.read_text().splitlines() if self.options.tools else []:
            name, command, version = line.split("\t")
            found.append({"name": name, "command": command, "version": version})
            if name == "original":
                found[-1]["qos"] = 0  # as it was
        return found

    def write(self, line):
        self.raw.write(json.dumps(line) + "\n")
        self.raw.flush()

    def head(self):
        cpu = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
        self.write({"what": "machine", "cpu": cpu, "cores": os.cpu_count(), "kernel": os.uname().release,
                    "date": time.strftime("%Y-%m-%d"), "command": " ".join(sys.argv[1:]),
                    "contenders": {c["name"]: c.get("version", "") for c in self.contenders}})

    def keep_all(self, what, names, point, turn, measure):
        """A run that has one result for each of them: written, and a line on the screen."""
        try:
            results = measure()
        except (Failure, subprocess.SubprocessError, OSError) as error:
            results = [{"failed": str(error)}] * len(names)
        for name, result in zip(names, results):
            self.write({"what": what, "contender": name, "round": turn, **point, **result})
            shown = " ".join(f"{k}={v:.6g}" if isinstance(v, (int, float)) else f"{k}={v}" for k, v in result.items())
            print(f"{turn + 1} {what:10} {name:28} {json.dumps(point)} {shown}", flush=True)

    def keep(self, what, name, point, turn, measure):
        self.keep_all(what, [name], point, turn, lambda: [measure()])

    def bridges(self, what, points, measure, linger):
        def go(contender, point):
            with Run(self, contender, point, linger) as run:
                own = {"own_qos": contender["qos"]} if "qos" in contender else {}
                return dict(measure(run), **own)

        for turn in range(self.options.rounds):
            for point in points:
                for contender in self.contenders:
                    self.keep(what, contender["name"], point, turn, lambda: go(contender, point))

    def warm_up(self):
        """Not written: Java compiles what it has run often, and the first to be measured would pay for that."""
        for part, point, measure in (("throughput", BASE, measure_throughput),
                                     ("latency", dict(BASE, feed="mosquitto", rate=1000), measure_latency)):
            if part in self.options.parts or "exactly_once" in self.options.parts:
                with Run(self, self.ours()[0], point, 0) as run:
                    measure(run)

    def run(self):
        parts = self.options.parts
        self.head()
        self.warm_up()
        if "throughput" in parts:
            points = [BASE] + [dict(BASE, **{factor: value}) for factor, values in FACTORS.items() for value in values]
            if self.options.base:
                points = [BASE]
            self.bridges("throughput", points, measure_throughput, 5)
        if "latency" in parts:
            points = [dict(BASE, feed="mosquitto", **point) for point in LATENCIES if point["rate"] in self.options.rates]
            self.bridges("latency", points, measure_latency, 0)
        if "kill" in parts:
            self.bridges("kill", [dict(BASE, feed="mosquitto")], measure_kill, 5)
        for part, measure in (("slices", measure_slices), ("watched", measure_watched), ("exactly_once", measure_exactly_once),
                              ("consumer", measure_consumers), ("generator", measure_generators),
                              ("transforms", measure_transforms), ("processes", measure_processes),
                              ("shards", measure_shards)):
            if part in parts:
                measure(self)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder of the programs")
    parser.add_argument("--out", type=Path, required=True, help="folder for raw.jsonl and log")
    parser.add_argument("--tools", type=Path, help="what scripts/bench-tools printed")
    parser.add_argument("--only", action="append", help="this contender (may be given several times)")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--base", action="store_true", help="throughput at the base point only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of throughput, measured")
    parser.add_argument("--warm-up", type=float, default=3, help="seconds before")
    parser.add_argument("--rates", nargs="+", type=int, default=RATES, choices=RATES, help="of latency; 1000 at both QoS")
    parser.add_argument("--latency-seconds", type=int, default=15)
    parser.add_argument("--records", type=int, default=2000000, help="for consumer and generator")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
