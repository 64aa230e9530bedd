#!/usr/bin/env python3
"""What docs/operate.md explains must be there: lines of the log, and metrics. usage: test_operate.py ROOT"""
import glob, re, sys

root = sys.argv[1]
code = "\n".join(open(name).read() for name in glob.glob(f"{root}/core/*.c") + glob.glob(f"{root}/plugins/*/*.c"))
literals = "\n".join("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', group)).replace('\\"', '"')
                     for group in re.findall(r'"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*', code))
section = open(f"{root}/docs/operate.md").read().split("\n## What the log says\n")[1].split("\n## ")[0]
rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
lines = [line for row in rows for line in re.findall(r"`([^`]+)`", row)]

if len(lines) < 12:
    sys.exit(f"only {len(lines)} lines are explained: is the table another one now?")
bad = 0
for line in lines:
    # What stands for something else (NAME, N s, 15 s, ...) is not looked for.
    parts = [part.strip() for part in re.split(r"\.\.\.|\b[A-Z]{2,}\b|\bN\b|\b\d+\b|\"", line)]
    for part in parts:
        part = part.strip(" ;:()=")
        if len(part) >= 8 and part not in literals:
            print(f'docs/operate.md explains "{line}", and nothing logs "{part}"')
            bad = 1

page = open(f"{root}/docs/operate.md").read()
names = f"{root}/tests/metric_names.txt"
known = {line.split()[0] for line in open(names)}
for name in sorted(set(re.findall(r"\bfmspipe_[a-z_]+", page)) - known):
    print(f"docs/operate.md names {name}, and there is no such metric")
    bad = 1
sys.exit(bad)
