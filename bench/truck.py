#!/usr/bin/python3
"""A Pi's whole job: 2,000 frames a second in, a sample a second through the spool and over TLS to the broker. What it takes of memory and CPU.

  fms-sandbox --kafka=none --mqtt-secure -- bench/truck.py BIN-DIRECTORY [SECONDS]     (60)

truck.ini and truck_uplink.ini as they are, in one process, but for the interval, and for the authority of the broker's certificate. The bus is
a pipe, into which another process writes each frame at its time. Memory is that at the end, CPU time from the third second on.
"""
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/can"))
import bus  # noqa: E402

RATE = 2000
WARM = 3  # seconds


def memory(pid):
    """Of /proc/PID/status and smaps_rollup, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text() + Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) / 1024 for name, kib in re.findall(r"^(VmRSS|VmHWM|RssAnon|RssFile|Pss):\s+(\d+)", text, re.M)}


def cpu(pid):
    """Seconds, of all threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def start(work, bin_folder):
    """The truck, and who reads what it publishes."""
    uplink = (ROOT / "pipelines/truck_uplink.ini").read_text()
    (work / "truck_uplink.ini").write_text(re.sub(r"^server = .*", r"\g<0>\nca_file = " + os.environ["FMS_MQTT_CA"], uplink, flags=re.M))
    host, port = os.environ["FMS_MQTT"].split("//")[1].split(":")
    reader = subprocess.Popen(["mosquitto_sub", "-h", host, "-p", port, "-t", "fms/data"], stdout=open(work / "samples", "w"))
    truck = subprocess.Popen([bin_folder / "fmspipe", ROOT / "pipelines/truck.ini", work / "truck_uplink.ini"], stderr=open(work / "log", "w"),
                             env={**os.environ, "FMS_MQTT": os.environ["FMS_MQTT_SECURE"], "FMS_CAN": str(work / "bus"),
                                  "FMS_SPOOL": str(work / "spool"), "FMS_INTERVAL": "1s", "FMS_CLOCK": "trusted"})
    return truck, reader


def main():
    bin_folder, seconds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 60
    frames = bus.fill(bus.drive(bin_folder / "fmspipe", seconds + WARM), RATE, seconds + WARM)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work, lost = Path(name), []
        os.mkfifo(work / "bus")
        truck, reader = start(work, bin_folder)
        player = threading.Thread(target=lambda: lost.append(bus.play(frames, work / "bus", truck)))
        player.start()
        time.sleep(WARM)
        began, used = time.monotonic(), cpu(truck.pid)
        time.sleep(seconds - 1)
        took, used, kept = time.monotonic() - began, cpu(truck.pid) - used, memory(truck.pid)
        player.join()
        time.sleep(1)
        truck.terminate()
        status = truck.wait()
        reader.terminate()
        samples = len((work / "samples").read_text().splitlines())
        print(f"{len(frames) / (seconds + WARM):.0f} frames a second, {lost[0]} lost, {samples} samples of {seconds + WARM} s")
        print(f"CPU: {used / took * 100:.2f} % of a core, {used / took / RATE * 1e6:.2f} us a frame")
        print("MiB: " + ", ".join(f"{key} {value:.1f}" for key, value in kept.items()))
        if status != 0 or samples < seconds:
            sys.exit((work / "log").read_text())


main()
