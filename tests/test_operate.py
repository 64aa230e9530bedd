#!/usr/bin/env python3
"""What docs/operate.md explains must be there, lines of the log and metrics; and each warning of a running process is explained.
usage: test_operate.py ROOT"""
import glob, re, sys

root = sys.argv[1]
GROUP = r'"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*'


def texts(code):
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', group)).replace('\\"', '"') for group in re.findall(GROUP, code)]


code = "\n".join(open(name).read() for part in ("core", "admin", "plugins/*") for name in sorted(glob.glob(f"{root}/{part}/*.c")))
literals = "\n".join(texts(code))
section = open(f"{root}/docs/operate.md").read().split("\n## What the log says\n")[1].split("\n## ")[0]
rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
lines = [line for row in rows for line in re.findall(r"`([^`]+)`", row)]

if len(lines) < 12:
    sys.exit(f"only {len(lines)} lines are explained: is the table another one now?")
bad = 0
explained = []
for line in lines:
    # What stands for something else (NAME, N s, 15 s, ...) is not looked for.
    parts = [part.strip(" ;:()=") for part in re.split(r"\.\.\.|\b[A-Z]{2,}\b|\bN\b|\b\d+\b|\"", line)]
    explained.append([part for part in parts if len(part) >= 8])
    for part in explained[-1]:
        if part not in literals:
            print(f'docs/operate.md explains "{line}", and nothing logs "{part}"')
            bad = 1

# Warnings and errors of a stage, and warnings of the process; not what `check` says with a file and a line, nor of the command line.
calls = re.findall(r"(?:\b(?:fms_(?:warn|error)\(|log_line\(|rule_broken\()|->log\()(?:[^;\"]|" + GROUP + ")*;", code)
if len(calls) < 100:
    sys.exit(f"only {len(calls)} calls log something: are they written in another way now?")
for call in calls:
    says = re.search(r"FMS_LOG_(WARN|ERROR)|fms_(warn|error)\(", call)
    if not says or says[0] == "FMS_LOG_ERROR" and re.match(r"[^\"]*NULL, NULL", call):
        continue
    said = texts(call)
    if said and not any(parts and all(part in text for part in parts) for parts in explained for text in said):
        print(f"docs/operate.md does not explain: {said[0]}")
        bad = 1

page = open(f"{root}/docs/operate.md").read()
names = f"{root}/tests/metric_names.txt"
known = {line.split()[0] for line in open(names)}
for name in sorted(set(re.findall(r"\bfmspipe_[a-z_]+", page)) - known):
    print(f"docs/operate.md names {name}, and there is no such metric")
    bad = 1
sys.exit(bad)
