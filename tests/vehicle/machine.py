"""A vehicle's machine: qemu, Debian's kernel, an image of make_image.sh, disks that lose power. It ends by losing power."""
import os
import socket
import subprocess
import threading
import time

STREAMS = ("always", "interval", "off", "truck")


class Port:
    """A virtual serial port. What the machine wrote there has left it: a list of (time, line)."""

    def __init__(self, path):
        self.path, self.lines = path, []
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(60)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with self.listener:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # nobody comes
        rest = b""
        with connection:
            while True:
                try:
                    data = connection.recv(65536)
                except ConnectionError:
                    return
                if not data:
                    return
                now = time.monotonic()
                *lines, rest = (rest + data).split(b"\n")
                self.lines += [(now, line.decode(errors="replace").strip()) for line in lines]


class Machine:
    """`accel`: kvm or tcg. `words`: for its first process, NAME=VALUE. `rtc`: what its clock says at the start, as qemu's -rtc base=."""

    def __init__(self, work, kernel, image, accel, disks, words, rtc="utc"):
        self.console = os.path.join(work, "console")
        self.ports = {name: Port(os.path.join(work, name + ".port")) for name in ("told", *STREAMS)}
        self.disks = disks
        command = ["qemu-system-x86_64", "-accel", accel, "-m", "192", "-nodefaults", "-display", "none", "-no-reboot", "-rtc", "base=" + rtc,
                   "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", image, "-append", " ".join(["console=ttyS0 quiet panic=-1", *words]),
                   "-serial", "file:" + self.console, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
                   "-device", "virtio-serial-pci"]
        for disk in disks:
            command += ["-drive", f"if=virtio,format=raw,file.driver=nbd,file.server.type=unix,file.server.path={disk.serve()}"]
        for name, port in self.ports.items():
            command += ["-chardev", f"socket,id={name},path={port.path}", "-device", f"virtserialport,chardev={name},name={name}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def told(self, word):
        """What it told after this word."""
        return [line[len(word):].strip() for _, line in list(self.ports["told"].lines) if line.split(" ")[0] == word]

    def wait_for(self, condition, what, patience):
        until = time.monotonic() + patience
        while not condition():
            if time.monotonic() > until or self.process.poll() is not None:
                raise TimeoutError(f"{what}: it does not come; {self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        with open(self.console, errors="replace") as console:
            return console.read()[-4000:]

    def lose_power(self, chance):
        """Returns, for each disk, how many sectors its cache had, and how many of them are lost; and when that was."""
        self.process.kill()
        self.process.wait()
        when = time.monotonic()
        for port in self.ports.values():
            port.thread.join(10)
        return [disk.cut(chance) for disk in self.disks], when
