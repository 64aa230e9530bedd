"""What scripts/power-cuts --clock runs: a machine that starts in 1970, by the kernel's own clock."""
import os
import re
import time

from machine import Machine

FIELDS = re.compile(r'"vehicle_id":"truck-(\d+)","timestamp":(\d+)')


class Samples:
    """What has come of each boot's truck, in order: (timestamp, whether it says that its time is not known). What a busy reader of Kafka reads
    again is left out."""

    def __init__(self, path):
        self.path = path

    def of(self, boot):
        with open(self.path, encoding="utf-8") as file:
            found = [(FIELDS.search(line), line) for line in dict.fromkeys(file) if line.endswith("\n")]
        return [(int(match[2]), line.rstrip().endswith(',"clock":"unset"}')) for match, line in found if match and int(match[1]) == boot]


def boot(rig, is_set, unset):
    """One that stores so many samples while the clock is not set; and, where it is to be, sets it, and has it jump by 50 years and back."""
    rig.boots += 1
    begun = time.time()
    words = ["FMS_JOB=clock", f"FMS_BOOT={rig.boots}", f"FMS_MQTT=tcp://10.0.2.2:{os.environ['FMS_MQTT'].rsplit(':', 1)[1]}",
             f"FMS_TIME={int(begun)}", f"FMS_UNSET={unset}", f"FMS_SET={'yes' if is_set else 'no'}"]
    machine = Machine(rig.work, rig.options.kernel, rig.image, rig.options.accel, rig.disks, words, "1970-01-01")
    rig.machines = [machine.process]
    machine.wait_for(lambda: machine.told("unset"), "samples that are stored without a time", 240)
    return machine, begun


def test(rig):
    samples = Samples(os.path.join(rig.work, "live.out"))
    faults = rig.faults

    machine, _ = boot(rig, False, 8)
    first = rig.boots
    if samples.of(first):
        faults.append("a sample came before the clock was set")
    machine.lose_power(rig.chance)

    machine, begun = boot(rig, True, 30)  # more than are left of the first
    machine.wait_for(lambda: machine.told("set"), "the end of the jumps", 240)
    machine.wait_for(lambda: len(samples.of(rig.boots)) >= 30, "the samples of the boot whose clock was set", 60)
    machine.lose_power(rig.chance)

    for words in machine.told("ended"):
        faults.append(words)
    lost, told = samples.of(first), samples.of(rig.boots)
    print(f"{len(lost)} samples of a start without a clock, {len(told)} of one whose clock was set")
    if len(lost) < 8 or not all(is_unset and stamp < 86400 for stamp, is_unset in lost):
        faults.append(f"what was never known to be right does not say so: {lost}")
    if any(is_unset for _, is_unset in told):
        faults.append("what could be mended says that it has no time")
    stamps = [stamp for stamp, _ in told]
    if not all(begun - 5 <= stamp <= time.time() + 5 for stamp in stamps):
        faults.append(f"the time of a sample is not when it was made: {stamps}")
    if [b - a for a, b in zip(stamps, stamps[1:]) if not 0 <= b - a <= 3]:
        faults.append(f"times are not as far apart as the samples were: {stamps}")
