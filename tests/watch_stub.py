#!/usr/bin/env python3
"""Stands for the watch of a process: answers as files say, which a test may change while it runs.

  watch_stub.py SOCKET FOLDER

A GET, or a POST, of /status answers with FOLDER/status, of /livez with FOLDER/livez, and so on; the first line of a file is the HTTP status. An event
stream sends FOLDER/status anew each 100 ms while FOLDER/events is there; /tap sends the lines of FOLDER/tap. FOLDER/hang: no answer at
all. FOLDER/foreign: answers are of a type that fmspipe does not have. FOLDER/password: what Authorization must be. Each request is noted in FOLDER/requests."""
import base64
import http.server
import os
import socketserver
import sys
import time

SOCKET, FOLDER = sys.argv[1:]


def path(name):
    return os.path.join(FOLDER, name)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def begin(self, status, kind):
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if os.path.exists(path("foreign")) else kind)

    def answer(self, status, body, kind="text/plain"):
        self.begin(status, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self):
        self.begin(200, "text/event-stream")
        self.end_headers()
        while os.path.exists(path("events")):
            with open(path("status"), "rb") as file:
                body = file.read().split(b"\n", 1)[1].replace(b"\n", b"")
            self.wfile.write(b"event: status\ndata: " + body + b"\n\n")
            time.sleep(0.1)

    def do_GET(self):
        with open(path("requests"), "a") as file:
            print(self.path, file=file)
        while os.path.exists(path("hang")):
            time.sleep(0.1)
        if os.path.exists(path("password")):
            with open(path("password"), "rb") as file:
                wanted = "Basic " + base64.b64encode(b"fmspipe:" + file.read().strip()).decode()
            if self.headers.get("Authorization") != wanted:
                return self.answer(401, b"")
        name = self.path.split("?")[0].strip("/")
        if name == "events":
            return self.events()
        if not os.path.exists(path(name)):
            return self.answer(404, b"")
        with open(path(name), "rb") as file:
            status, body = file.read().split(b"\n", 1)
        return self.answer(int(status), body, "application/x-ndjson" if name == "tap" else "text/plain")


    do_POST = do_GET


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


Server(SOCKET, Handler).serve_forever()
