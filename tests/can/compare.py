#!/usr/bin/env python3
"""What can_source finds in traffic is what another decoder finds (cantools).

  compare.py BIN [LOG...]     BIN: the folder of fmspipe; LOG: candump's, else traffic is made: a drive of fms_sim's, and frames of chance

FMS_CAN_LOGS may name a folder of logs, which are compared, too. The positions and scales of the signals are written down here once more, as a
DBC file, by hand. Exit status 77: there is no cantools.
"""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent

try:
    import cantools
except ImportError:
    python = subprocess.run([HERE.parent.parent / "scripts/fetch-cantools", "--no-fetch"], stdout=subprocess.PIPE, text=True).stdout.strip()
    if python and python != sys.executable:
        os.execv(python, [python, *sys.argv])
    print("skipped: there is no cantools", file=sys.stderr)
    sys.exit(77)

ROUNDED = {"speed": 2, "rpm": 0, "tachograph_speed": 2}
LINE = re.compile(r"\((\d+)\.(\d{6})\) \S+ ([0-9A-F]{8})#([0-9A-F]*)( |$)")


def run(bin_folder, ini):
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
        file.write(ini)
        file.flush()
        return subprocess.run([bin_folder / "fmspipe", "--log-level=warn", file.name], check=True, stdout=subprocess.PIPE, text=True,
                              timeout=120).stdout


def decode(bin_folder, log):
    """Each interval's sample, as can_source makes it."""
    out = run(bin_folder, f"""[pipeline]
name = compare
[source]
plugin = can_source
path = {log}
decode = fms
vehicle_id = x
signals = all, driver_1_state, driver_2_state
interval = 1s
[sink out]
plugin = file
path = -
""")
    return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in out.splitlines()]


def as_candump(bin_folder, log, to):
    """A log of whatever form in the one that is read here."""
    run(bin_folder, f"""[pipeline]
name = form
[source]
plugin = can_source
path = {log}
on_bad_line = skip
[sink out]
plugin = file
path = {to}
""")


def drive(bin_folder, log):
    run(bin_folder, f"""[pipeline]
name = drive
[source]
plugin = fms_sim
format = can
rate = 0
count = 40000
seed = 3
[sink out]
plugin = file
path = {log}
""")


def chance(database, log):
    """A frame of each message each second, of all bits that there are, with what is not available, wrong and reserved among them."""
    bits = random.Random(1939)
    with open(log, "w") as file:
        for second in range(2000):
            for i, message in enumerate(database.messages):
                data = bytearray(bits.randbytes(8))
                for at in range(8):
                    if bits.random() < 0.3:
                        data[at] = bits.choice([0x00, 0xfa, 0xfb, 0xfd, 0xfe, 0xff])
                file.write(f"({1700000000 + second}.{i:03d}000) can0 {message.frame_id:08X}#{data.hex().upper()}\n")


def is_value(signal, raw):
    """SAE J1939-71: the highest byte tells what is none, or the two highest values of some bits."""
    if signal.length < 8:
        return signal.length == 1 or raw < (1 << signal.length) - 2
    return raw >> (signal.length - 8) <= 0xfa


def rounded(name, value):
    if name not in ROUNDED:
        return value
    return value.quantize(Decimal(1).scaleb(-ROUNDED[name]), rounding="ROUND_HALF_UP")


class Expected:
    """What a sample must say: the last value of each signal from the first address that had one, while it is fresh."""

    def __init__(self, database):
        self.messages = {message.frame_id >> 8 & 0x3ffff: message for message in database.messages}
        self.signals = {}  # name: [address, value or None, time of the last value, oldest]

    def take(self, time, frame_id, data):
        message = self.messages.get(frame_id >> 8 & 0x3ffff)
        if message is None:
            return
        raws = message.decode(data, decode_choices=False, scaling=False, allow_truncated=True)
        for signal in message.signals:
            raw, source = raws.get(signal.name), frame_id & 0xff
            value = None
            if raw is not None and is_value(signal, raw):
                value = Decimal(raw) * Decimal(repr(signal.scale)) + Decimal(repr(signal.offset))
            oldest = max(5 * message.cycle_time * 1000, 1000000)
            known = self.signals.get(signal.name)
            if known is None or (known[0] != source and time - known[2] > oldest):
                if value is not None:
                    self.signals[signal.name] = [source, value, time, oldest]
            elif known[0] == source:
                known[1] = value
                known[2] = time if value is not None else known[2]

    def sample(self, time):
        return {name: rounded(name, value) for name, (_, value, when, oldest) in self.signals.items()
                if value is not None and time - when <= oldest}


def expect(database, log):
    """The samples, by second; times are microseconds."""
    expected, samples, due, last = Expected(database), [], None, None
    for line in open(log):
        found = LINE.match(line)
        if found is None:
            continue
        time = int(found[1]) * 1000000 + int(found[2])
        if due is None or time < due - 1000000:
            due = time - time % 1000000 + 1000000
        elif time >= due:
            samples.append((due // 1000000, expected.sample(due)))
            due = time - time % 1000000 + 1000000
        expected.take(time, int(found[3], 16), bytes.fromhex(found[4]))
        last = time
    if last is not None:
        samples.append((due // 1000000, expected.sample(last)))
    return samples


def compare(bin_folder, database, log):
    names = {signal.name for message in database.messages for signal in message.signals}
    wanted = [(second, sample) for second, sample in expect(database, log) if sample]
    found = [(int(sample["timestamp"]), {name: value for name, value in sample.items() if name in names})
             for sample in decode(bin_folder, log)]
    found = [(second, sample) for second, sample in found if sample]
    values = 0
    for want, got in zip(wanted, found):
        if want != got:
            sys.exit(f"{log}: second {want[0]}: cantools says {want}, can_source {got}")
        values += len(got[1])
    if len(wanted) != len(found) or (values == 0 and wanted):
        sys.exit(f"{log}: {len(wanted)} samples by cantools, {len(found)} by can_source")
    print(f"{log}: {len(found)} samples, {values} values agree")
    return values


def main():
    bin_folder = Path(sys.argv[1])
    database = cantools.database.load_file(HERE / "fms.dbc")
    logs = [Path(log) for log in sys.argv[2:]]
    folder = os.environ.get("FMS_CAN_LOGS")
    if folder:
        logs += sorted(path for path in Path(folder).iterdir() if path.is_file())
    with tempfile.TemporaryDirectory() as work:
        if not logs:
            logs = [Path(work) / "drive.log", Path(work) / "chance.log"]
            drive(bin_folder, logs[0])
            chance(database, logs[1])
        for i, log in enumerate(logs):
            to = Path(work) / f"{i}-{log.name}"
            as_candump(bin_folder, log, to)
            compare(bin_folder, database, to)


main()
