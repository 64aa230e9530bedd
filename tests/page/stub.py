"""A process that is none: serves the page, and numbers made up for it, so that what real brokers seldom do can be looked at.

python3 stub.py PAGE [SCENARIO [PORT]] serves one scenario until it is killed."""
import base64
import hashlib
import http.server
import json
import math
import random
import re
import sys
import threading
import time
import urllib.parse

HOSTILE = ("<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\x1b]0;gone\x07\u202eevil\u2066\x00\x9b31m\ud800"
           "</script><style>*{display:none}</style>javascript:alert(3)")


def policy(page):
    """As the server has it: only what stands in the page may run."""
    def of(tag):
        part = re.search(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL).group(1)
        return "'sha256-" + base64.b64encode(hashlib.sha256(part).digest()).decode() + "'"
    return (f"default-src 'none'; script-src {of(b'script')}; style-src {of(b'style')}; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")


def quantiles(p50, p99):
    return {"count": 90210, "p50": p50, "p90": (p50 + p99) / 2 if p50 else None, "p99": p99}


def stage(name, role, plugin, now, **more):
    return {"name": name, "role": role, "plugin": plugin, "ready": True, "why": "", "connected": None, "connected_since": None, "disconnected_since": None,
            "connects": 1, "disconnects": 0, "disconnect_reason": "", "records_in": 0, "records_out": 0, "bytes_in": 0, "bytes_out": 0,
            "rate_in": 0.0, "rate_out": 0.0, "rejected": 0, "retried": 0, "dropped": 0, "held": 0, "taken": 0, "full": False,
            "retrying": False, "oldest_seconds": None, "last": None, "busy_seconds": 1.0, "latency": {}, "dead": False, "metrics": {}, **more}


class Stub:
    """What the process is said to do; the tests change `scenario` while it is looked at."""

    def __init__(self, page, scenario="flowing", vehicles=10000, fields=("speed", "rpm", "fuel_level")):
        with open(page, "rb") as file:
            self.page = file.read()
        self.scenario, self.since, self.vehicles, self.fields = scenario, time.time(), vehicles, list(fields)
        self.started, self.is_silent, self.requests, self.ahead = time.time() - 93784, False, [], 0

    def become(self, scenario):
        self.scenario, self.since = scenario, self.now()

    def now(self):
        return time.time() + self.ahead  # of the machine that looks

    def rate(self, at):
        return 5010 + 140 * math.sin(at / 40) + 60 * math.sin(at / 7.3) + random.uniform(-25, 25)

    def pipeline(self, name, verdict, now):
        rate, is_stuck = self.rate(now), verdict == "stuck"
        for_s = now - self.since
        held = min(10000, int(rate * for_s)) if is_stuck else random.randint(11, 34)
        count = int((self.since - self.started) * 5000) + held if is_stuck else int((now - self.started) * 5000)
        oldest = for_s if is_stuck else random.uniform(0.002, 0.006)
        confirmed = 0.0 if is_stuck else rate - random.uniform(-8, 8)
        taken = rate if held < 10000 else 0.0
        why = f"has confirmed nothing for {oldest:.0f} s, and {held:,} records wait" if is_stuck else ""
        at = time.strftime("%H:%M:%S UTC", time.gmtime(self.since))
        sentence = {
            "flowing": f"Flowing: {taken:,.0f}/s in, {confirmed:,.0f}/s confirmed, oldest unconfirmed {oldest * 1e3:.0f} ms",
            "stuck": f"STUCK for {for_s:.0f} s: sink kafka has confirmed nothing since {at}; {held:,} records are held, "
                     f"the oldest for {oldest:.0f} s",
            "idle": f"Idle: nothing has come since {at}, and nothing is held",
            "starting": "Starting: source is not connected yet: connection to tcp://localhost:1883 refused",
        }[verdict]
        stages = [
            stage("source", "source", "mqtt_ingest", now, connected=verdict != "starting", connected_since=self.started + 2,
                  connects=int(verdict != "starting"), ready=verdict != "starting",
                  why="has not connected yet: connection to tcp://localhost:1883 refused" if verdict == "starting" else "",
                  disconnect_reason="connection to tcp://localhost:1883 refused" if verdict == "starting" else "",
                  records_out=count, bytes_out=count * 131, rate_out=taken, last=self.since + 2 if is_stuck else now),
            stage("transform check", "transform", "fms_check", now, records_in=count, records_out=count - 312, rate_in=taken,
                  rate_out=taken, bytes_in=count * 131, bytes_out=count * 131, rejected=312,
                  metrics={"repaired": 4, "rejected_payload": 12, "rejected_field": 290, "rejected_time": 0}),
            stage("sink kafka", "sink", "kafka_sink", now, connected=not is_stuck, connected_since=self.started + 3, disconnected_since=self.since,
                  disconnect_reason="1 of 1 brokers is down: kafka:9092: timed out" if is_stuck else "", ready=not is_stuck, why=why,
                  records_in=count, records_out=count - held, bytes_in=count * 131, bytes_out=(count - held) * 131, rate_in=taken,
                  rate_out=confirmed, held=held, taken=held, oldest_seconds=oldest, last=self.since if is_stuck else now,
                  metrics={"kafka_queue_messages": held, "kafka_rtt_seconds": 0.0011, "reports": count - held}),
            stage("dead_letter", "dead_letter", "kafka_sink", now, connected=not is_stuck, connected_since=self.started + 3, disconnected_since=self.since,
                  disconnect_reason="1 of 1 brokers is down: kafka:9092: timed out" if is_stuck else "",
                  ready=not is_stuck, records_in=312, records_out=312, bytes_in=40872, bytes_out=40872),
        ]
        return {"name": name, "file": f"pipelines/{name}.ini", "state": "running", "live": True, "ready": not is_stuck,
                "verdict": verdict, "since": self.since, "sentence": sentence, "held_by": "sink kafka" if is_stuck else None,
                "in_flight": {"records": held, "bytes": held * 512, "max_records": 10000, "max_bytes": 16 << 20},
                "oldest_seconds": oldest, "blocked": held == 10000, "blocked_seconds": 0.0, "busy_seconds": 0.24 * (now - self.started), "stall_after": 10.0,
                "counts": {"received": count, "delivered": count - held, "rejected": 312, "dead_letters": 312, "dropped": 0, "retried": 0},
                "rates": {"received": taken, "delivered": confirmed},
                "latency": {"transform": quantiles(0.00009, 0.00021), "queue": quantiles(0.00012, 0.0008),
                            "sink": quantiles(None, None) if is_stuck else quantiles(0.0031, 0.0094),
                            "total": quantiles(None, None) if is_stuck else quantiles(0.0034, 0.0102)},
                "age": quantiles(0.041, 0.38), "stages": stages,
                "vehicles": {"active": self.vehicles - 13, "silent": 12, "new": 1, "limit": 10000} if self.vehicles else None}

    def burst(self, now):
        found = self.pipeline("bridge", "flowing", now)
        found.update(rates={"received": 5000.0, "delivered": 90000.0}, oldest_seconds=12.0)
        found["in_flight"]["records"] = 9000
        return found

    def hostile(self, now):
        found = self.pipeline("bridge", "stuck", now)
        found.update(sentence=HOSTILE + "M" * (1 << 20), file=HOSTILE)
        big = HOSTILE + "M" * 10000
        for part in found["stages"]:
            part.update(why=big, disconnect_reason=big, connected=False, metrics={big: 1})
        return found

    def status(self):
        now = self.now()
        pipelines = {
            "named": lambda: [self.pipeline("bridge", "flowing", now), self.pipeline("n" * 200, "flowing", now)],
            "wavering": lambda: [self.pipeline("bridge", "idle" if int(now) % 2 else "flowing", now)],
            "both": lambda: [self.pipeline("bridge", "flowing", now), self.pipeline("consumer", "flowing", now)],
            "both stuck": lambda: [self.pipeline("bridge", "stuck", now), self.pipeline("consumer", "stuck", now)],
            "several": lambda: [self.pipeline("bridge", "flowing", now), self.pipeline("consumer", "stuck", now),
                                self.pipeline("archive", "idle", now)],
            "hostile": lambda: [self.hostile(now)],
            "burst": lambda: [self.burst(now)],
        }.get(self.scenario, lambda: [self.pipeline("bridge", self.scenario, now)])()
        warnings = [
            {"time": now - 5210, "level": "warn", "pipeline": "bridge", "stage": "source", "text":
             "the connection to tcp://localhost:1883 is lost (keepalive timed out); trying again in 1 s"},
            {"time": now - 412, "level": "warn", "pipeline": "bridge", "stage": "transform check", "text":
             "rejected a record of topic fms/data: rpm is 19000, more than the 12000 that can be"},
        ]
        if self.scenario == "stuck":
            warnings.append({"time": self.since, "level": "error", "pipeline": "bridge", "stage": "sink kafka", "text":
                             "kafka:9092: 1 request(s) timed out: disconnect (after 93781000ms in state UP)"})
        if self.scenario == "hostile":
            warnings.append({"time": now, "level": HOSTILE, "pipeline": "bridge", "stage": HOSTILE, "text": HOSTILE + "W" * (1 << 20)})
        return {"fmspipe": "0.1.0", "time": now, "started": self.started, "pid": 4711, "live": True, "ready": self.scenario != "stuck",
                "pipelines": pipelines, "log": {"error": 0, "warn": 2, "info": 14, "debug": 0}, "warnings": warnings}

    def history(self):
        now = self.now()
        times = [now - 900 + 5 * i for i in range(180)]
        rates = [self.rate(at) for at in times]
        stuck = [self.scenario == "stuck" and at > self.since for at in times]
        return {"step": 5, "time": times, "received": rates, "delivered": [0 if s else r for r, s in zip(rates, stuck)],
                "in_flight": [random.randint(11, 34) for _ in times], "oldest": [random.uniform(0.002, 0.006) for _ in times],
                "p99": [0.01] * 180}

    def fleet(self, query):
        now, wanted = self.now(), query.get("find", [""])[0]
        names = [f"raspi-{i:05d}" for i in range(self.vehicles) if wanted in f"raspi-{i:05d}"]
        if self.scenario == "hostile":
            names[:3] = [HOSTILE, "N" * (1 << 20), ""]
        rows = [{"vehicle": name, "seen": now - (300 - 7 * i if i < 12 else random.uniform(0, 2)), "records": 40210 - i,
                 "state": "silent" if i < 12 else "new" if i == 12 else "active",
                 "fields": {"speed": HOSTILE * 50 if self.scenario == "hostile" else f"{random.uniform(20, 120):.2f}",
                            "rpm": str(random.randint(800, 4100)), "fuel_level": f"{random.uniform(5, 99):.2f}"}}
                for i, name in enumerate(names[:int(query["limit"][0])])]
        return {"silent_after": 60, "total": len(names), "limit": 10000, "fields": self.fields, "vehicles": rows}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, kind, content, **headers):
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), "X-Content-Type-Options": "nosniff", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def events(self, stub):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while not stub.is_silent:
            self.wfile.write(b"event: status\ndata: " + json.dumps(stub.status()).encode() + b"\n\n")
            self.wfile.flush()
            time.sleep(1)
        self.close_connection = True

    def do_GET(self):
        stub, url = self.server.stub, urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        stub.requests.append(self.path)
        try:
            if stub.is_silent:
                self.close_connection = True
            elif url.path == "/":
                self.answer("text/html; charset=utf-8", stub.page, **{"Content-Security-Policy": policy(stub.page)})
            elif url.path == "/events":
                self.events(stub)
            elif url.path == "/status":
                self.answer("application/json", json.dumps(stub.status()).encode())
            elif url.path == "/vehicles" and stub.vehicles == 0:
                self.send_error(404)
            elif url.path in ("/history", "/vehicles"):
                self.answer("application/json", json.dumps(stub.history() if url.path == "/history" else stub.fleet(query)).encode())
            else:
                self.send_error(404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def serve(stub, port=0):
    """Serves it on a thread; the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads, server.stub = True, stub
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


if __name__ == "__main__":
    print(serve(Stub(sys.argv[1], *sys.argv[2:3]), int((sys.argv[3:4] or ["0"])[0])), flush=True)
    threading.Event().wait()
