#!/usr/bin/python3
"""Whether what came out of the far end is what the frames of the drive said.

  driven.py DRIVE KAFKA STORED

DRIVE: the log of the bus; KAFKA: what arrived of it, key, tab and payload; STORED: how many samples the spool had confirmed when its process was
killed. The three signals of the mission are decoded here once more.
"""
import json
import re
import sys
from decimal import ROUND_HALF_UP, Decimal

LINE = re.compile(r"\((\d+)\.(\d{6})\) can0 ([0-9A-F]{8})#([0-9A-F]{16})")
VIN = "FMSSXM00000000001"


def word(data, at):
    return Decimal(int.from_bytes(data[at:at + 2], "little"))


SIGNALS = {
    "18FEF100": ("speed", lambda data: (word(data, 1) / 256).quantize(Decimal("0.01"), ROUND_HALF_UP)),
    "0CF00400": ("rpm", lambda data: (word(data, 3) / 8).quantize(Decimal(1), ROUND_HALF_UP)),
    "18FEFC31": ("fuel_level", lambda data: data[1] * Decimal("0.4")),
}


def seconds(path):
    """What was known at the end of each."""
    known, at_end = {}, {}
    for line in open(path):
        found = LINE.match(line)
        name, decode = SIGNALS.get(found[3], (None, None))
        at_end[int(found[1]) + 1] = known
        if name is not None:
            known = at_end[int(found[1]) + 1] = {**known, name: decode(bytes.fromhex(found[4]))}
    return at_end


def first_arrivals(path):
    lines = [line.rstrip("\n").split("\t") for line in open(path)]
    for key, payload in lines:
        if key != VIN or json.loads(payload)["vehicle_id"] != VIN:
            sys.exit(f"a record is not the truck's: {key}: {payload}")
    payloads = list(dict.fromkeys(payload for _, payload in lines))
    return [json.loads(payload, parse_float=Decimal) for payload in payloads], len(lines) - len(payloads)


def main():
    expected, (samples, repeated), stored = seconds(sys.argv[1]), first_arrivals(sys.argv[2]), int(sys.argv[3])
    times = [sample["timestamp"] for sample in samples]
    gaps = [i for i in range(1, len(times)) if times[i] != times[i - 1] + 1]
    print(f"{len(samples)} samples of {len(expected)} s arrived, {repeated} came again; {stored} were stored when the process was killed")
    if not times or times[0] > min(expected) + 1 or times[-1] != max(expected) or times != sorted(times): # the VIN takes 150 ms
        sys.exit(f"the drive is not whole or not in order: {times}")
    if len(gaps) > 1 or (gaps and gaps[0] < stored):
        sys.exit(f"samples are lost: behind the first {gaps} of {times}")
    for sample in samples:
        found = {name: sample.get(name) for name, _ in SIGNALS.values()}
        if found != expected[sample["timestamp"]]:
            sys.exit(f"the bus said {expected[sample['timestamp']]}, and what arrived is {sample}")


main()
