#!/usr/bin/python3
"""Those who look at a bridge while bench/run.py measures it.

  watchers.py PORT look SECONDS FILE   scrapes /metrics each SECONDS, and has the page's stream of events open; how long /status takes,
                                       milliseconds in the middle, stands in FILE
  watchers.py PORT crowd COUNT         so many clients at once: a third says nothing, a third a byte each second, a third garbage

Looking is what the bridge pays for, so it is checked: a scrape or a stream that fails ends the program with a message.
"""

import http.client
import os
import selectors
import socket
import statistics
import sys
import threading
import time

SLOW = b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Long: "


def look(port, seconds, file):
    """Ends only with a failure."""
    def ask(path, wanted):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        began = time.monotonic()
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200 or wanted not in answer.read():
            end(f"{path}: {answer.status} {answer.reason}")
        connection.close()
        return (time.monotonic() - began) * 1000

    def scrape():
        took = []
        while True:
            ask("/metrics", b"fmspipe_")
            took.append(ask("/status", b'"pipelines"'))
            with open(file, "w", encoding="utf-8") as out:
                out.write(str(statistics.median(took)))
            time.sleep(seconds)

    def read_events():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        while answer.read1(65536):
            pass
        end(f"/events: {answer.status} {answer.reason}, and its end")

    threading.Thread(target=scrape, daemon=True).start()
    read_events()


def end(why):
    print(f"watchers.py: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def crowd(port, count):
    """Whoever is hung up on comes again a second later."""
    selector = selectors.DefaultSelector()
    away = [(0.0, number) for number in range(count)]
    slow = {}

    def leave(client, number):
        selector.unregister(client)
        slow.pop(client, None)
        client.close()
        away.append((time.monotonic() + 1, number))

    def come(number):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        selector.register(client, selectors.EVENT_READ | (selectors.EVENT_WRITE if number % 3 else 0), number)

    def say(client, number):
        """Once it is connected; what is slow goes on by itself."""
        selector.modify(client, selectors.EVENT_READ, number)
        if number % 3 == 1:
            slow[client] = 0
        else:
            client.send(os.urandom(300))

    last = time.monotonic()
    while True:
        for key, events in selector.select(0.1):
            try:
                if events & selectors.EVENT_WRITE:
                    say(key.fileobj, key.data)
                elif not key.fileobj.recv(65536):
                    leave(key.fileobj, key.data)
            except OSError:
                leave(key.fileobj, key.data)
        now = time.monotonic()
        for number in [n for at, n in away if at <= now]:
            come(number)
        away[:] = [(at, n) for at, n in away if at > now]
        if now - last >= 1:
            last = now
            for client, sent in list(slow.items()):
                try:
                    client.send(SLOW[sent:sent + 1] or b"x")
                    slow[client] = sent + 1
                except OSError:
                    leave(client, selector.get_key(client).data)


if __name__ == "__main__":
    if sys.argv[2] == "look":
        look(int(sys.argv[1]), float(sys.argv[3]), sys.argv[4])
    crowd(int(sys.argv[1]), int(sys.argv[3]))
