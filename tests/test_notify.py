#!/usr/bin/env python3
"""Plays systemd: a socket that the runner tells how it does. usage: test_notify.py FMSPIPE"""
import os, re, signal, socket, subprocess, sys, tempfile, time

fmspipe = os.path.realpath(sys.argv[1])
PATIENCE = 30

PIPELINE = """
[pipeline]
name = {name}
drain_timeout = {drain}
[source]
plugin = fms_sim
interval = 10ms
[sink only]
plugin = stubborn
hangs = {work}/{name}.hangs
refuses = {work}/{name}.refuses
"""

SHORT = """
[pipeline]
name = {name}
[source]
plugin = fms_sim
rate = 0
count = 3
[sink only]
plugin = stubborn
"""


class Manager:
    """A process, and what it has told so far."""

    def __init__(self, work, names=("one",), drain="10s", watchdog=None, abstract=False, texts={}, folder="", **environment):
        self.work, self.told, self.times = work, [], []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path = f"@fmspipe-test-{os.getpid()}" if abstract else f"{work}/notify"
        if not abstract and os.path.exists(path):
            os.unlink(path)
        self.socket.bind(path.replace("@", "\0"))
        environment = {**os.environ, "NOTIFY_SOCKET": path, **environment}
        if watchdog is not None:
            environment["WATCHDOG_USEC"] = str(watchdog)
        if folder:
            os.mkdir(f"{work}/{folder}")
        for name in names:
            with open(f"{work}/{folder}{name}.ini", "w") as file:
                file.write(texts.get(name, PIPELINE).format(name=name, drain=drain, work=work))
        self.log = f"{work}/log"
        words = [f"{work}/{folder}"] if folder else [f"{work}/{name}.ini" for name in names]
        self.child = subprocess.Popen([fmspipe] + words, env=environment,
                                      stdin=subprocess.DEVNULL, stderr=open(self.log, "w"))

    def hear(self, timeout):
        """One datagram, as a dictionary; None: none came."""
        self.socket.settimeout(timeout)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(65536, 1024)
        except TimeoutError:
            return None
        pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        assert pid == self.child.pid, f"{pid} speaks for {self.child.pid}"
        assert data.endswith(b"\n"), data
        said = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.told.append(said)
        return said

    def until(self, what, condition):
        """The first datagram from now on of which that is true."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            said = self.hear(0.1)
            if said is not None and condition(said):
                return said
        self.fail(f"waited in vain for {what}")

    def until_logged(self, text):
        limit = time.monotonic() + PATIENCE
        while text not in open(self.log).read():
            if time.monotonic() > limit:
                self.fail(f"waited in vain for {text} in the log")
            time.sleep(0.02)

    def silent_of(self, key, seconds):
        """Whether that is not told for so long, while other things are."""
        limit, others = time.monotonic() + seconds, 0
        while time.monotonic() < limit:
            said = self.hear(0.05)
            if said is not None and key in said:
                return False
            others += said is not None
        return others > 0

    def hear_all(self):
        while self.hear(0.05) is not None:
            pass

    def file(self, name, is_there=True):
        path = f"{self.work}/{name}"
        open(path, "w").close() if is_there else os.unlink(path)

    def end(self, status=0):
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.fail("it does not end")
        if self.child.returncode != status:
            self.fail(f"it ended with {self.child.returncode}, not {status}")
        self.hear_all()
        self.socket.close()

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.end()

    def fail(self, why):
        self.child.kill()
        self.child.wait()
        sys.exit(f"FAILED: {why}\ntold: {self.told[-10:]}\nlog:\n{open(self.log).read()}")

    def expect(self, condition, why):
        if not condition:
            self.fail(why)


def status_of(said, name="one"):
    """What STATUS says of a pipeline."""
    return dict(part.split(": ", 1) for part in said.get("STATUS", "").split("; "))[name]


def ready_once_when_all_lanes_run(work):
    open(f"{work}/two.hangs", "w").close()
    manager = Manager(work, ("one", "two"), watchdog=300_000)
    manager.until_logged("two, sink only: opens")
    manager.expect(manager.hear(0.5) is None, "something is told before there is a lane")
    manager.file("two.hangs", False)
    said = manager.until("READY", lambda said: "READY" in said)
    manager.expect(all("in flight" in status_of(said, name) for name in ("one", "two")), said)
    for _ in range(3):
        manager.until("another state", lambda said: "STATUS" in said)
    manager.stop()
    ready = [said["READY"] for said in manager.told if "READY" in said]
    manager.expect(ready == ["1"], f"ready: {ready}")
    stopping = next(i for i, said in enumerate(manager.told) if "STOPPING" in said)
    manager.expect(all("READY" not in said for said in manager.told[stopping:]), "ready while it stops")


def a_reload_is_told_from_its_begin_to_its_end(work):
    manager = Manager(work)
    manager.until("READY", lambda said: "READY" in said)
    for _ in range(2):
        before = time.monotonic_ns() // 1000
        manager.child.send_signal(signal.SIGHUP)
        said = manager.until("RELOADING", lambda said: said.get("RELOADING") == "1")
        manager.expect(before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000, said)
        manager.until("READY", lambda said: said.get("READY") == "1")
    manager.stop()


def the_end_of_a_reload_is_told_once_it_can_be(work):
    manager = Manager(work, drain="2s", watchdog=300_000)
    manager.until("READY", lambda said: "READY" in said)
    manager.file("one.refuses")
    manager.until("records in flight", lambda said: re.search(r"[1-9]\d* in flight", status_of(said)))
    with open(f"{work}/one.ini", "w") as file:
        file.write(PIPELINE.replace("10ms", "20ms").format(name="one", drain="2s", work=work))
    manager.child.send_signal(signal.SIGHUP)
    manager.until("RELOADING", lambda said: said.get("RELOADING") == "1")
    os.rename(f"{work}/notify", f"{work}/away")
    limit = time.monotonic() + PATIENCE
    while " reloaded" not in open(manager.log).read() and time.monotonic() < limit:
        time.sleep(0.05)
    while manager.hear(0.1) is not None:
        pass
    manager.expect(not any("READY" in said for said in manager.told[-2:]), "the end was told to nobody")
    os.rename(f"{work}/away", f"{work}/notify")
    manager.until("READY", lambda said: said.get("READY") == "1")
    manager.file("one.refuses", False)
    manager.stop()


def pipelines_come_and_go(work):
    text = PIPELINE.replace("name = {name}\n", "")
    manager = Manager(work, texts={"one": text}, folder="conf.d/", watchdog=300_000)
    manager.until("READY", lambda said: "READY" in said)
    for old, new in (("one", "two"), ("two", "three")):
        os.rename(f"{work}/conf.d/{old}.ini", f"{work}/conf.d/{new}.ini")
        manager.child.send_signal(signal.SIGHUP)
        said = manager.until("the new one's state", lambda said: f"{new}: " in said.get("STATUS", ""))
        manager.expect(f"{old}: " not in said["STATUS"], said)
        manager.until("food", lambda said: said.get("WATCHDOG") == "1" and "in flight" in status_of(said, new))
    os.rename(f"{work}/conf.d/three.ini", f"{work}/conf.d/three.off")
    manager.child.send_signal(signal.SIGHUP)
    manager.until("a process that waits", lambda said: said.get("STATUS") == "" and said.get("WATCHDOG") == "1")
    manager.expect(not any("STOPPING" in said for said in manager.told), "a reload is told as a stop")
    manager.stop()


def status_says_what_flows(work):
    manager = Manager(work, watchdog=300_000)
    said = manager.until("rates", lambda said: re.search(r"[1-9][\d.]*/s in, [1-9][\d.]*/s confirmed", status_of(said)))
    manager.expect(re.fullmatch(r"[\d.]+/s in, [\d.]+/s confirmed, \d+ in flight(, oldest .*)?", status_of(said)), said)
    manager.file("one.refuses")
    manager.until("records in flight", lambda said: re.search(r"[1-9]\d*/s in, 0/s confirmed, [1-9]\d* in flight",
                                                              status_of(said)))
    manager.file("one.refuses", False)
    manager.until("what was held up", lambda said: re.search(r"[1-9]\d*/s confirmed", status_of(said)))
    manager.stop()


def the_watchdog_is_fed_by_lanes(work):
    manager = Manager(work, ("one", "two"), watchdog=300_000)
    for _ in range(5):
        manager.until("food", lambda said: said.get("WATCHDOG") == "1")
    manager.file("two.hangs")
    manager.until("a lane that does not answer",
                  lambda said: "its lane has not answered for" in status_of(said, "two"))
    manager.expect("in flight" in status_of(manager.told[-1], "one"), "the other lane does not run")
    manager.expect(manager.silent_of("WATCHDOG", 1), "the watchdog is fed though a lane hangs")
    manager.file("two.hangs", False)
    manager.until("food again", lambda said: said.get("WATCHDOG") == "1")
    manager.stop()


def lanes_that_have_ended_are_not_asked(work):
    manager = Manager(work, ("one", "two"), watchdog=300_000, texts={"two": SHORT})
    manager.until("the end of the second", lambda said: status_of(said, "two") == "ended")
    for _ in range(3):
        manager.until("food", lambda said: said.get("WATCHDOG") == "1")
    manager.stop()


def another_process_s_watchdog(work):
    manager = Manager(work, watchdog=300_000, WATCHDOG_PID="1")
    manager.until("the state", lambda said: "READY" in said)  # with which food would come
    manager.expect(not any("WATCHDOG" in said for said in manager.told), "another's watchdog is fed")
    manager.stop()


def stopping_asks_for_time(work):
    open(f"{work}/one.refuses", "w").close()
    manager = Manager(work, drain="7s", watchdog=300_000)
    manager.until("records in flight", lambda said: re.search(r"[1-9]\d* in flight", status_of(said)))
    manager.child.send_signal(signal.SIGTERM)
    first = manager.until("the stop", lambda said: said.get("STOPPING") == "1")
    manager.expect(7e6 < int(first["EXTEND_TIMEOUT_USEC"]) <= (7 + 15 + 1) * 1e6, first)
    later = manager.until("its state", lambda said: status_of(said).startswith("draining, "))
    manager.expect(int(later["EXTEND_TIMEOUT_USEC"]) < int(first["EXTEND_TIMEOUT_USEC"]), "the time grows")
    manager.expect("WATCHDOG" in later or "WATCHDOG" in manager.until("food", lambda said: "WATCHDOG" in said), later)
    manager.file("one.refuses", False)
    manager.end()


def a_short_run_is_ready_too(work):
    manager = Manager(work, abstract=True, texts={"one": SHORT})
    manager.end()
    manager.expect([said["READY"] for said in manager.told if "READY" in said] == ["1"], "not ready once")
    manager.expect([said["STOPPING"] for said in manager.told if "STOPPING" in said] == ["1"], "its end is not told once")


def nobody_listens(work):
    manager = Manager(work, NOTIFY_SOCKET="systemd", texts={"one": SHORT})
    manager.end()
    manager.expect("NOTIFY_SOCKET=systemd is no absolute path" in open(manager.log).read(), "no word of it")
    manager.expect(not manager.told, "told all the same")
    manager = Manager(work, NOTIFY_SOCKET=f"{work}/nowhere", texts={"one": SHORT})
    manager.end()
    manager.expect("cannot be told how it goes (NOTIFY_SOCKET): No such file" in open(manager.log).read(), "no word of it")


for test in (ready_once_when_all_lanes_run, a_reload_is_told_from_its_begin_to_its_end,
             the_end_of_a_reload_is_told_once_it_can_be, pipelines_come_and_go, status_says_what_flows, the_watchdog_is_fed_by_lanes,
             lanes_that_have_ended_are_not_asked, another_process_s_watchdog, stopping_asks_for_time, a_short_run_is_ready_too, nobody_listens):
    with tempfile.TemporaryDirectory() as work:
        test(work)
        print(f"{test.__name__}: passed", flush=True)
