#!/usr/bin/env python3
"""Runs a command with the system calls that a unit allows. Another one ends it, where systemd would refuse it, so that it is noticed.
usage: as_unit.py UNIT COMMAND..."""
import ctypes, os, subprocess, sys

ALLOW, KILL = 0x7FFF0000, 0x80000000


def expand(names):
    """System calls and groups of these, as systemd knows them."""
    calls = set()
    for name in names:
        if name.startswith("@"):
            told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
            calls |= expand(line.strip() for line in told.stdout.splitlines()[1:] if line.strip()[:1] not in ("", "#"))
        else:
            calls.add(name)
    return calls


lines = open(sys.argv[1]).read().splitlines()
allowed = expand(["@default"])
for line in lines:
    if line.startswith("SystemCallFilter=~"):
        allowed -= expand(line.partition("~")[2].split())
    elif line.startswith("SystemCallFilter="):
        allowed |= expand(line.partition("=")[2].split())
try:
    seccomp = ctypes.CDLL("libseccomp.so.2")
except OSError as error:
    sys.exit(f"as_unit: {error}")
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
filter = seccomp.seccomp_init(KILL)
for call in allowed:
    number = seccomp.seccomp_syscall_resolve_name(call.encode())
    if number >= 0:
        seccomp.seccomp_rule_add(filter, ALLOW, number, 0)
if seccomp.seccomp_load(filter) != 0:
    sys.exit("as_unit: no filter")
os.execvp(sys.argv[2], sys.argv[2:])
