"""Changes a transform of a pipeline that runs and reloads it, again and again.
   reload_often.py FILE SOCKET PID TIMES: prints how many descriptors were open and how many KiB resident after a fifth, and at the end."""
import http.client
import os
import re
import socket
import sys
import time

file, path, pid, times = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)


def reload():
    connection = Unix("localhost", timeout=60)
    connection.request("POST", "/reload")
    answer = connection.getresponse().read().decode()
    connection.close()
    if answer.split("\n")[-2] != '{"result":"done"}' or "swapped" not in answer:
        sys.exit("it was not reloaded: " + answer)


def open_files():
    """The fewest for a moment: the process finds out later that a connection has gone."""
    least = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(50):
        time.sleep(0.01)
        least = min(least, len(os.listdir(f"/proc/{pid}/fd")))
    return least


def resident():
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


with open(file) as old:
    text = old.read()
for i in range(1, times + 1):
    with open(file + ".new", "w") as new:
        new.write(re.sub("speed >= .*", f"speed >= -{i}", text))
    os.rename(file + ".new", file)
    reload()
    if i in (times // 5, times):
        print(open_files(), resident(), flush=True)
