"""A disk that loses power: a block device over NBD whose write cache is volatile, as that of a disk or of an SD card is.

What is written stays in memory until a flush; a flush that was answered is in the file. When the power is cut, each sector of 512 bytes
that was written since is there or is not, as chance will have it: in any order, and half a page, too. Where it was written several times, any of
these may be there. `lies` makes a disk that answers flushes and does not do them."""
import os
import random
import socket
import struct
import threading

SECTOR = 512
NBD_MAGIC, OPTION_MAGIC, REPLY_MAGIC = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, SIMPLE_REPLY = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT, FLUSH = range(4)
FIXED_NEWSTYLE, HAS_FLAGS, SEND_FLUSH = 1, 1, 4
OPTION_EXPORT, OPTION_GO = 1, 7
ACK, INFO, UNSUPPORTED = 1, 3, 0x80000001


class Disk:
    """One machine at a time may use it: serve() returns the path of the socket for the next one, cut() is what follows its end."""

    def __init__(self, path, size, lies=False):
        self.path, self.size, self.lies = path, size, lies
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.file, size)
        self.pending = {}  # sector: what was written there since the last flush, oldest first
        self.thread = None
        self.writes_left = None  # until the power fails; None: that is not how it fails
        self.failed = threading.Event()

    def serve(self):
        address = self.path + ".sock"
        if os.path.exists(address):
            os.unlink(address)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(1)
        listener.settimeout(60)
        self.thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        self.thread.start()
        return address

    def fail_after(self, writes):
        """From the next write but so many on nothing is answered, and `failed` is set."""
        self.writes_left = writes

    def cut(self, chance):
        """After the machine's end. Returns how many sectors were in the cache, and how many of these are lost."""
        self.thread.join()
        self.writes_left = None
        self.failed.clear()
        survival = chance.choice((0, 0.1, 0.5, 0.9, 1))
        kept = 0
        for sector, versions in self.pending.items():
            if chance.random() < survival:
                os.pwrite(self.file, chance.choice(versions), sector * SECTOR)
                kept += 1
        cached = len(self.pending)
        self.pending.clear()
        return cached, cached - kept

    # --- what follows is the server's thread

    def _serve(self, listener):
        try:
            with listener:
                self.connection, _ = listener.accept()
            with self.connection:
                self._negotiate()
                while self._answer():
                    pass
        except (OSError, EOFError):
            pass  # the machine is gone

    def _take(self, size):
        parts = []
        while size > 0:
            part = self.connection.recv(min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _negotiate(self):
        flags = HAS_FLAGS | SEND_FLUSH
        self.connection.sendall(struct.pack(">QQH", NBD_MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE))
        self._take(4)
        while True:
            _, option, size = struct.unpack(">QII", self._take(16))
            self._take(size)
            if option == OPTION_EXPORT:
                self.connection.sendall(struct.pack(">QH", self.size, flags) + bytes(124))
                return
            if option == OPTION_GO:
                self._reply_option(option, INFO, struct.pack(">HQH", 0, self.size, flags))
                self._reply_option(option, ACK, b"")
                return
            self._reply_option(option, UNSUPPORTED, b"")

    def _reply_option(self, option, reply, data):
        self.connection.sendall(struct.pack(">QIII", REPLY_MAGIC, option, reply, len(data)) + data)

    def _answer(self):
        while self.failed.is_set():
            self._take(1)  # until the machine is gone
        magic, _, kind, handle, offset, size = struct.unpack(">IHHQQI", self._take(28))
        assert magic == REQUEST and offset % SECTOR == 0 and size % SECTOR == 0
        data = b""
        if kind == READ:
            data = self._read(offset, size)
        elif kind == WRITE:
            self._write(offset, self._take(size))
            if self.writes_left is not None:
                self.writes_left -= 1
                if self.writes_left < 0:
                    self.failed.set()
                    return True
        elif kind == FLUSH:
            self._flush()
        elif kind == DISCONNECT:
            return False
        self.connection.sendall(struct.pack(">IIQ", SIMPLE_REPLY, 0, handle) + data)
        return True

    def _read(self, offset, size):
        data = bytearray(os.pread(self.file, size, offset))
        for i in range(0, size, SECTOR):
            versions = self.pending.get((offset + i) // SECTOR)
            if versions:
                data[i:i + SECTOR] = versions[-1]
        return data

    def _write(self, offset, data):
        for i in range(0, len(data), SECTOR):
            self.pending.setdefault((offset + i) // SECTOR, []).append(data[i:i + SECTOR])

    def _flush(self):
        if self.lies:
            return
        for sector, versions in self.pending.items():
            os.pwrite(self.file, versions[-1], sector * SECTOR)
        self.pending.clear()
