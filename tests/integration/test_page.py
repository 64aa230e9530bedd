"""The page of a real bridge in Chromium: it flows, its Kafka hangs, it flows again, and whatever its vehicles send, the page stands.

fms-sandbox --kafka=real -- python3 test_page.py BIN-DIRECTORY [PICTURES]   PICTURES: a folder, for pictures of it all"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "page"))
from browser import Browser  # noqa: E402

BIN = os.path.abspath(sys.argv[1])
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None
SENTENCE = "return document.querySelector('.sentence').innerText"
MARKED = "return [...document.querySelectorAll('.box')].filter(b => !b.querySelector('.mark').hidden).map(b => b.querySelector('h4').firstChild.data)"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Process:
    """fmspipe; its log is shown where the test fails."""

    def __init__(self, work, name, *arguments, **environment):
        self.log = os.path.join(work, name + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([os.path.join(BIN, "fmspipe"), *arguments], stderr=log, stdout=subprocess.DEVNULL,
                                            cwd=work, env={**os.environ, **environment})

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert status == 0, f"{self.log}: ended with {status}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def control(*what):
    subprocess.run([os.path.join(BIN, "fms-sandbox"), "ctl", *what], check=True)


def publish(payload):
    host, port = re.fullmatch(r"tcp://(.*):(\d+)", os.environ["FMS_MQTT"]).groups()
    subprocess.run(["mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "fms/data", "-s"], input=payload, check=True)


def picture(browser, name, width, height, scheme="light"):
    if PICTURES:
        browser.window(width, height, scheme)
        before = browser.run("return latest.time")
        browser.wait("return latest.time > arguments[0] + 1", before)
        browser.picture(os.path.join(PICTURES, name + ".png"))
        browser.window(1280, 900)


def check_quiet(browser):
    complaints = browser.complaints()
    assert not complaints, complaints
    assert not browser.has_dialog()


def flows(browser, address):
    browser.go(address)
    browser.wait("return document.title === 'Flowing \u00b7 bridge'", seconds=60)
    assert browser.run(SENTENCE).startswith("Flowing: "), browser.run(SENTENCE)
    assert browser.run(MARKED) == []
    browser.wait("return document.querySelectorAll('.link:not(.down)').length === 3")
    browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 50")
    browser.wait("return /^[0-9.]+$/.test(document.querySelector('.fleet tbody tr').cells[4].textContent)")
    browser.wait("return latest.pipelines[0].latency.total.p99 > 0 && !document.querySelector('.latency tbody').rows[3].innerText.includes('\u2013')")
    if PICTURES:  # of curves that are some minutes long, and of vehicles that have fallen silent
        for vehicle in range(301, 304):
            publish(json.dumps({"vehicle_id": f"raspi-{vehicle}", "speed": 0, "rpm": 750, "fuel_level": 12.5}).encode())
        time.sleep(200)
    picture(browser, "light", 1280, 1190)
    picture(browser, "dark", 1280, 1190, "dark")
    check_quiet(browser)


def sticks_and_recovers(browser):
    frozen = time.time()
    control("kafka", "freeze")
    try:
        browser.wait("return document.title === 'STUCK \u00b7 bridge'", seconds=60)
        print(f"the page says so {time.time() - frozen:.1f} s after Kafka has begun to hang, with stall_after = 3s")
        sentence = browser.run(SENTENCE)
        found = re.match(r"STUCK for .*: sink kafka .*since (\d\d:\d\d:\d\d)", sentence, re.DOTALL)
        assert found, sentence
        assert browser.run(MARKED) == ["sink kafka"], browser.run(MARKED)
        assert browser.run("return document.getElementById('said').textContent").startswith("bridge: STUCK")
        picture(browser, "narrow", 320, 1500)
        picture(browser, "stuck", 1280, 1190)
    finally:
        control("kafka", "thaw")
    browser.wait("return document.title === 'Flowing \u00b7 bridge'", seconds=120)
    assert browser.run(MARKED) == []
    check_quiet(browser)


def takes_no_harm(browser):
    publish(json.dumps({"vehicle_id": HOSTILE, "speed": HOSTILE, "rpm": "\x1b]0;gone\x07\u202e", "fuel_level": "M" * (1 << 20)}).encode())
    publish(b"\x1b[2J\x1b]0;gone\x07<script>alert(3)</script>")
    publish(b'{"speed":"' + b"M" * (1 << 20) + b'"}')
    browser.wait("""const find = document.querySelector('input');
        if (find.value !== '<script') { find.value = '<script'; find.dispatchEvent(new Event('input')); }
        return document.querySelector('.fleet tbody').innerText.includes('<script>alert(1)</script>')""")
    browser.wait("return latest.pipelines[0].counts.dead_letters >= 2")
    browser.wait("return document.body.innerText.includes('confirmed as dead letters')")
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    before = browser.run("return latest.time")
    browser.wait("return latest.time > arguments[0] + 2", before)
    assert browser.run("return [document.scripts.length, document.images.length]") == [1, 0]
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("return document.title") == "Flowing \u00b7 bridge"
    check_quiet(browser)


def bears_a_fleet(browser, start):
    """10,000 vehicles, 5,000 messages a second: the page goes on, second by second, and stays of a size."""
    start("fleet", FMS_VEHICLES="10000", FMS_INTERVAL="2s", FMS_PUBLISHER_ID="fms-fleet")
    browser.run("const find = document.querySelector('input'); find.value = ''; find.dispatchEvent(new Event('input'))")
    browser.wait("const fleet = latest.pipelines[0].vehicles; return fleet.active + fleet.new + fleet.silent === 10000", seconds=60)
    browser.wait("return latest.pipelines[0].rates.delivered > 2500", seconds=60)
    browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 100", seconds=60)
    before = browser.run("""window.longest = 0; window.before = performance.now();
        (function frame(now) { longest = Math.max(longest, now - window.before); window.before = now; requestAnimationFrame(frame); })(before);
        return latest.time""")
    browser.wait("return latest.time > arguments[0] + 8", before, seconds=60)
    print(f"10,000 vehicles, {browser.run('return latest.pipelines[0].rates.delivered'):.0f} messages a second: "
          f"the page stood still for {browser.run('return longest'):.0f} ms at the longest")
    assert browser.run("return document.querySelectorAll('.fleet tbody tr').length") == 100
    assert browser.run("return document.title") == "Flowing \u00b7 bridge"
    check_quiet(browser)


def ends(browser, bridge):
    bridge.end()
    browser.wait("return document.title === 'CONNECTION LOST \u00b7 bridge' && document.getElementById('lost').offsetParent !== null")
    assert not browser.has_dialog()


def main():
    processes = []
    with tempfile.TemporaryDirectory() as work:
        with open(os.path.join(ROOT, "pipelines", "bridge.ini"), encoding="utf-8") as file:
            text = file.read()
        os.mkdir(os.path.join(work, "pipelines"))
        with open(os.path.join(work, "pipelines", "bridge.ini"), "w", encoding="utf-8") as file:
            file.write(text.replace("[pipeline]\n", "[pipeline]\nstall_after = 3s\n"))
        address = f"127.0.0.1:{free_port()}"
        try:
            bridge = Process(work, "bridge", f"--admin={address}", "pipelines/bridge.ini")
            processes.append(bridge)

            def start(name, **environment):
                file = os.path.join(os.path.abspath(ROOT), "pipelines", "publisher.ini")
                processes.append(Process(work, name, file, **environment))

            start("publisher", FMS_VEHICLES="50", FMS_INTERVAL="100ms")
            with Browser() as browser:
                browser.window(1280, 900)
                until = time.monotonic() + 30
                while socket.socket().connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) != 0:
                    assert time.monotonic() < until and bridge.process.poll() is None, "nobody listens at the address"
                    time.sleep(0.05)
                flows(browser, f"http://{address}/")
                sticks_and_recovers(browser)
                takes_no_harm(browser)
                bears_a_fleet(browser, start)
                for publisher in processes[1:]:
                    publisher.end()
                ends(browser, bridge)
        except BaseException:
            for process in processes:
                with open(process.log, encoding="utf-8", errors="replace") as log:
                    print(f"--- {process.log}", *log.readlines()[-20:], sep="\n", file=sys.stderr)
            raise
        finally:
            for process in processes:
                process.kill()


main()
