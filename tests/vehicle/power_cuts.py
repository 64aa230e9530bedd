#!/usr/bin/env python3
"""Cuts the power of a vehicle's machine at random moments, again and again, and counts what was acknowledged and is gone.

fms-sandbox -- power_cuts.py BUILD-FOLDER KERNEL-FOLDER [OPTION...]

In the machine, of which each boot is another vehicle, numbered messages go into three spools (sync = always, interval, off) and a truck's bus goes
through truck.ini into a fourth; from there all goes over MQTT and a bridge to Kafka, and is read here. A number counts as acknowledged when it
has come out of the machine, which the spool's confirmation lets it. Exit status 1: a promise is broken."""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import no_clock
from disk import Disk
from machine import STREAMS, Machine

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
DISKS = ("always", "interval", "off")
DISK_SIZE = 64 << 20
INTERVAL = 1.0  # seconds: the spool's sync_interval ...
FLUSH = 2.0     # ... and what an emulated machine may take to write that to the disk
FIELDS = re.compile(rb'"vehicle_id":"([^"]*)","timestamp":(\d+)(?:.*"seq":(\d+))?')


class Arrivals:
    """What has come out of Kafka, vehicle by vehicle."""

    def __init__(self, path):
        self.file, self.rest = open(path, "rb"), b""
        self.seen = collections.defaultdict(set)
        self.highest = collections.Counter()
        self.repeated, self.disordered = collections.Counter(), collections.Counter()
        self.fresh = time.monotonic()

    def read(self):
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for line in lines:
            self.fresh = time.monotonic()
            vehicle, stamp, number = FIELDS.search(line).groups()
            vehicle = vehicle.decode()
            self._note(vehicle, vehicle.split("-")[0], int(number or stamp), line if number is None else int(number))

    def _note(self, vehicle, stream, order, what):
        if what in self.seen[vehicle]:
            self.repeated[stream] += 1
            return
        self.seen[vehicle].add(what)
        self.disordered[stream] += order < self.highest[vehicle]
        self.highest[vehicle] = max(order, self.highest[vehicle])


class Rig:
    def __init__(self, options):
        self.options = options
        self.chance = random.Random(options.seed)
        self.work = tempfile.mkdtemp(prefix="power-cuts.")
        self.image = os.path.join(self.work, "image")
        subprocess.run([os.path.join(HERE, "make_image.sh"), options.kernel, options.build, self.image], check=True)
        self.disks = [Disk(os.path.join(self.work, name), DISK_SIZE, options.lying) for name in DISKS]
        for disk in self.disks:
            subprocess.run(["/sbin/mkfs.ext4", "-q", disk.path], check=True)
        self.host = [self._start("bridge", options.bridge),
                     self._start("live", os.path.join(ROOT, "tests", "chaos", "live.ini"))]
        self.arrivals = Arrivals(os.path.join(self.work, "live.out"))
        self.machines = []
        self.boots = 0
        self.boot_time = 10
        self.acknowledged = {}  # vehicle: when each of its numbers, from 1, was
        self.cut_at = {}        # vehicle: when the power was cut
        self.refused = collections.Counter()
        self.faults = []
        self.sectors_cached = 0
        if options.accel is None:
            options.accel = "kvm" if self.has_kvm() else "tcg"

    def _start(self, name, *arguments):
        with open(os.path.join(self.work, name + ".out"), "wb") as out, open(os.path.join(self.work, name + ".log"), "wb") as log:
            return subprocess.Popen([os.path.join(self.options.build, "bin", "fmspipe"), *arguments], stdout=out, stderr=log)

    def close(self, keep):
        for process in (*self.host, *self.machines):
            process.kill()
            process.wait()
        if keep:
            shutil.copytree(self.work, keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.port", "*.sock", "image"))
        shutil.rmtree(self.work)

    def boot(self, job, has_link=True):
        self.boots += 1
        port = os.environ["FMS_MQTT"].rsplit(":", 1)[1] if has_link else 1
        words = [f"FMS_JOB={job}", f"FMS_BOOT={self.boots}", f"FMS_MQTT=tcp://10.0.2.2:{port}", f"FMS_ALWAYS={self.options.always}"]
        machine = Machine(self.work, self.options.kernel, self.image, self.options.accel, self.disks, words, self.options.rtc)
        self.machines = [machine.process]
        return machine

    def up(self, machine, patience=180):
        begun = time.monotonic()
        machine.wait_for(lambda: machine.told("up"), "the machine's start", patience)
        self.boot_time = time.monotonic() - begun

    def has_kvm(self):
        """Whether a machine starts by it: that /dev/kvm is there says little where this is a virtual machine, too."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return False
        self.options.accel = "kvm"
        machine = self.boot("idle")
        try:
            self.up(machine, 10)
        except TimeoutError:
            return False
        finally:
            machine.lose_power(self.chance)
        return True

    def cut(self):
        """A boot, with a link or without, and its end: while it starts, some time later, or in the middle of what it writes."""
        has_link = len(self.acknowledged) > 0 and (self.options.once or self.chance.random() < 0.4)
        machine = self.boot("drive", has_link)
        how = self.chance.choice(("running", "writing", "writing", "starting")) if self.acknowledged else "writing"
        if how == "starting":
            time.sleep(self.boot_time * self.chance.uniform(0.3, 1))
        else:
            self.up(machine)
            machine.wait_for(lambda: all(machine.ports[name].lines for name in DISKS), "numbers", 60)
            time.sleep(self.chance.uniform(0, 6))
            if how == "writing":
                disk = self.disks[self.chance.choice((0, 0, 1)) if len(self.acknowledged) > 0 else 0]
                disk.fail_after(self.chance.randrange(30))
                disk.failed.wait(20)
        lost, when = machine.lose_power(self.chance)
        self.note(machine, when)
        self.sectors_cached += sum(count for count, _ in lost)
        self.arrivals.read()
        print(f"cut {len(self.cut_at) // len(DISKS)}, {how}, {'a' if has_link else 'no'} link: sectors unwritten and lost {lost}, acknowledged",
              *(len(machine.ports[name].lines) for name in DISKS), flush=True)

    def note(self, machine, when):
        for name in DISKS:
            lines = [(at, int(line)) for at, line in machine.ports[name].lines]
            if [number for _, number in lines] != list(range(1, len(lines) + 1)):
                self.faults.append(f"boot {self.boots}: {name} acknowledges out of order")
            self.acknowledged[f"{name}-{self.boots}"] = [at for at, _ in lines]
            self.cut_at[f"{name}-{self.boots}"] = when
        for words in machine.told("fsck"):
            if words.split()[1] != "0":
                self.faults.append(f"boot {self.boots}: fsck {words}")
        for words in machine.told("cache"):
            if not words.endswith("write back"):
                self.faults.append(f"the machine takes its disk for one without a cache: {words}")
        for words in machine.told("ended"):
            stream = words.split()[0]
            self.refused[stream] += 1
            self.faults.append(f"boot {self.boots}: {words}")

    def missing(self, vehicle):
        return [number for number in range(1, len(self.acknowledged[vehicle]) + 1) if number not in self.arrivals.seen[vehicle]]

    def unload(self):
        """All that is left comes out, or does not come any more."""
        machine = self.boot("unload")
        self.up(machine)
        self.arrivals.fresh = time.monotonic()
        while time.monotonic() < self.arrivals.fresh + 15 and any(self.missing(vehicle) for vehicle in self.acknowledged):
            self.arrivals.read()
            time.sleep(0.2)
        _, when = machine.lose_power(self.chance)
        self.note(machine, when)

    def read_committed(self):
        """What a client that is not ours reads from the beginning, when all that may come again has."""
        self.host[0].terminate()
        if self.host[0].wait(120) != 0:
            self.faults.append("the bridge has not ended well")
        path = os.path.join(self.work, "committed.out")
        with open(path, "wb") as out:
            subprocess.run(["kcat", "-b", os.environ["FMS_KAFKA"], "-C", "-t", "fms-data-stream", "-o", "beginning", "-e", "-q",
                            "-X", "isolation.level=read_committed"], stdout=out, check=True)
        self.arrivals = Arrivals(path)
        self.arrivals.read()
        self.faults += [f"{name}: {self.arrivals.repeated[name]} came twice" for name in STREAMS if self.arrivals.repeated[name]]

    def report(self):
        print("| sync     | acknowledged | lost | oldest of these, before the cut | repeated | out of order | spools refused |")
        print("|----------|--------------|------|---------------------------------|----------|--------------|----------------|")
        for name in DISKS:
            vehicles = [vehicle for vehicle in self.acknowledged if vehicle.split("-")[0] == name]
            lost = [self.cut_at[vehicle] - self.acknowledged[vehicle][number - 1] for vehicle in vehicles for number in self.missing(vehicle)]
            total = sum(len(self.acknowledged[vehicle]) for vehicle in vehicles)
            print(f"| {name:8} | {total:12} | {len(lost):4} | {max(lost, default=0):29.2f} s | {self.arrivals.repeated[name]:8} "
                  f"| {self.arrivals.disordered[name]:12} | {self.refused[name]:14} |")
            if name == "always" and lost:
                self.faults.append(f"lost {len(lost)} of {total} that were acknowledged under sync = always")
            if name == "interval" and max(lost, default=0) > INTERVAL + FLUSH:
                self.faults.append(f"lost what was acknowledged {max(lost):.2f} s before the cut under sync = interval")
            if total == 0:
                self.faults.append(f"{name}: nothing was acknowledged")
        samples = [len(seen) for vehicle, seen in self.arrivals.seen.items() if vehicle.startswith("truck-")]
        print(f"samples of the truck: {sum(samples)} of {len(samples)} boots, repeated {self.arrivals.repeated['truck']}")
        self.faults += [f"{name}: {self.arrivals.disordered[name]} are out of order" for name in STREAMS if self.arrivals.disordered[name]]
        if not samples:
            self.faults.append("the truck has sent no sample")
        if self.sectors_cached == 0:
            self.faults.append("no cut has met a disk with something in its cache")


    def measure(self):
        """What each `sync` writes."""
        machine = self.boot("measure")
        machine.wait_for(lambda: machine.told("end"), "the end of the measurement", 900)
        machine.lose_power(self.chance)
        print("| messages | sent on | sync     | number | KiB a message | flushes a message |")
        print("|----------|---------|----------|--------|---------------|-------------------|")
        for words in machine.told("measured")[len(DISKS):]:
            stream, interval, burst, link, messages, *numbers = words.split()
            before, flushes_before, after, flushes_after = map(float, numbers)
            print(f"| {burst} in {interval} | {link} | {stream} | {messages} | {(after - before) / int(messages):.1f} "
                  f"| {(flushes_after - flushes_before) / int(messages):.2f} |")

    def test_can(self):
        """can_source and can_sink on the machine's own CAN sockets."""
        machine = self.boot("can")
        machine.wait_for(lambda: machine.told("can"), "the end of the test", 400)
        status = machine.told("can")[0]
        machine.lose_power(self.chance)
        print(machine.last_words())
        if status != "0":
            self.faults.append(f"test_can_kernel ended with {status}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("kernel")
    parser.add_argument("--job", choices=("cuts", "can", "measure", "clock"), default="cuts")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1000000))
    parser.add_argument("--accel", choices=("kvm", "tcg"), help="without it kvm, where a machine starts by it")
    parser.add_argument("--rtc", default="utc", help="what the machine's clock says at each start, such as 1970-01-01")
    parser.add_argument("--always", default="always", help="the sync of what is called always")
    parser.add_argument("--bridge", default=os.path.join(ROOT, "pipelines", "bridge.ini"), help="the pipeline file of the bridge")
    parser.add_argument("--once", action="store_true", help="the bridge delivers once: what comes twice is a fault")
    parser.add_argument("--lying", action="store_true", help="disks that answer a flush and do not do it")
    parser.add_argument("--keep", help="a folder for the logs and disks")
    options = parser.parse_args()
    rig = Rig(options)
    print(f"seed {options.seed}, {options.cuts} cuts, {options.accel}", flush=True)
    try:
        if options.job == "can":
            rig.test_can()
        elif options.job == "measure":
            rig.measure()
        elif options.job == "clock":
            no_clock.test(rig)
        else:
            for _ in range(options.cuts):
                rig.cut()
            rig.unload()
            if options.once:
                rig.read_committed()
            rig.report()
    finally:
        rig.close(options.keep)
    for fault in rig.faults:
        print("FAILED:", fault)
    return 1 if rig.faults else 0


if __name__ == "__main__":
    sys.exit(main())
