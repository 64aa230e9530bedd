#!/usr/bin/python3
"""Reads what bench/run.py wrote and prints the tables in Markdown: medians, and the range in brackets.

  bench/table.py RAW.jsonl [FOLDER]     with FOLDER: also data and drawings (SVG, by gnuplot) of how the cost grows
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

FACTORS = ("qos", "payload", "vehicles", "partitions", "feed")


def read(path):
    runs = [json.loads(line) for line in open(path)]
    return [r for r in runs if r["what"] == "machine"], [r for r in runs if r["what"] != "machine"]


def figure(value):
    return "0" if value == 0 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(runs, key):
    """The median of a figure, and its range where there are several."""
    values = sorted(r[key] for r in runs if r.get(key) is not None)
    if not values:
        return "failed" if runs and all("failed" in r for r in runs) else "-"
    if values[0] == values[-1]:
        return figure(values[0])
    return f"{figure(median(values))} ({figure(values[0])}–{figure(values[-1])})"


def ratio(runs, floor, key="cpu_us"):
    """Each round's own, for rounds differ more than what runs within one; median and range."""
    floors = {r["round"]: r[key] for r in floor if r.get(key)}
    return spread([{key: r[key] / floors[r["round"]]} for r in runs if r.get(key) and r["round"] in floors], key)


def print_table(title, heads, rows):
    print(f"\n### {title}\n")
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def names_of(runs):
    return list(dict.fromkeys(r["contender"] for r in runs))


def pick(runs, **wanted):
    return [r for r in runs if all(r.get(key) == value for key, value in wanted.items())]


def base_of(runs):
    """The point at which the bench begins each round."""
    return {key: runs[0][key] for key in FACTORS}


def name_of(contender, runs):
    """With the QoS of one that has its own, whatever the point's."""
    own = {r["own_qos"] for r in runs if "own_qos" in r and r["contender"] == contender}
    return contender + "".join(f" (QoS {qos})" for qos in own)


# ----------------------------------------------------------------------------------------------------------------- tables


def show_throughput(runs):
    base = base_of(runs)
    at_base = pick(runs, **base)
    floor = pick(at_base, contender="floor")
    rows = [[name_of(n, mine), spread(mine, "rate"), spread(mine, "cpu_us"), ratio(mine, floor), spread(mine, "memory"),
             spread(mine, "peak"), spread(mine, "start")]
            for n in names_of(runs) for mine in [pick(at_base, contender=n)]]
    where = ", ".join(f"{key} {value}" for key, value in base.items())
    print_table(f"As fast as it goes ({where})",
                ["", "messages a second", "us CPU a message", "times the floor", "MiB", "peak MiB", "s to the first message"], rows)
    points = list(dict.fromkeys(tuple(r[key] for key in FACTORS) for r in runs))
    changes = [(p, ", ".join(f"{k} {v}" for k, v in zip(FACTORS, p) if v != base[k])) for p in points if p != tuple(base.values())]
    if not changes:
        return
    for key, title in (("cpu_us", "us CPU a message"), ("rate", "messages a second"), ("memory", "MiB")):
        rows = [[name_of(n, runs)] + [spread(pick(runs, contender=n, **dict(zip(FACTORS, p))), key) for p, _ in changes]
                for n in names_of(runs)]
        print_table(f"One factor changed: {title}", [""] + [name for _, name in changes], rows)


def show_latency(runs):
    for qos, rate in dict.fromkeys((r["qos"], r["rate"]) for r in runs):
        mine = pick(runs, qos=qos, rate=rate)
        rows = [[name_of(n, mine)] + [spread(pick(mine, contender=n), key) for key in ("p50", "p99", "p99.9", "cpu_us", "lost")]
                for n in names_of(mine)]
        print_table(f"From publish to a consumer of Kafka at {rate:,} messages a second, QoS {qos}",
                    ["", "p50 ms", "p99 ms", "p99.9 ms", "us CPU a message", "lost"], rows)


def show_kill(runs):
    rows = [[name_of(n, mine)] + [spread(mine, key) for key in ("expected", "lost", "duplicated", "out_of_order")]
            for n in names_of(runs) for mine in [pick(runs, contender=n)]]
    print_table("Killed once with SIGKILL in mid-run, at 2,000 messages a second", ["", "published", "lost", "repeated", "out of order"], rows)


def show_pair(title, runs, first="the floor", **more):
    """`more`: heads of further columns, by figure."""
    names = names_of(runs)
    floor = pick(runs, contender=names[0])
    rows = [[n, spread(mine, "rate"), spread(mine, "cpu_us"), ratio(mine, floor), spread(mine, "peak"), *(spread(mine, key) for key in more)]
            for n in names for mine in [pick(runs, contender=n)]]
    print_table(title, ["", "messages a second", "us CPU a message", f"times {first}", "peak MiB", *more.values()], rows)


def show_steps(title, runs, key):
    rows = [[name, str(step), spread(mine, "rate"), spread(mine, "cpu_us")]
            for name in names_of(runs) for step in dict.fromkeys(r[key] for r in runs)
            for mine in [pick(runs, contender=name, **{key: step})]]
    print_table(title, ["", key, "messages a second", "us CPU a message"], rows)


# --------------------------------------------------------------------------------------------------------------- drawings


def plot(folder, name, title, x_label, x_of, runs, y="cpu_us", y_label="us CPU a message"):
    """One line a contender over what x_of gives; both axes logarithmic."""
    data, lines = [], []
    for contender in names_of(runs):
        mine = pick(runs, contender=contender)
        points = [(x, [r[y] for r in mine if x_of(r) == x and r.get(y) is not None]) for x in sorted({x_of(r) for r in mine})]
        points = [(x, values) for x, values in points if values]
        if len(points) > 1:
            data.append("\n".join(f"{x} {median(values)} {min(values)} {max(values)}" for x, values in points))
            lines.append(f"'{name}.dat' index {len(lines)} using 1:2 with linespoints title \"{contender}\" noenhanced")
    if not lines:
        return
    (folder / f"{name}.dat").write_text("\n\n\n".join(data) + "\n")
    script = f"""set terminal svg size 760,480 background rgb 'white' font 'sans,13'
set output '{name}.svg'
set title "{title}"
set xlabel "{x_label}"
set ylabel "{y_label}"
set logscale xy
set key outside right
set grid
plot {', '.join(lines)}
"""
    subprocess.run(["gnuplot"], input=script, text=True, cwd=folder, check=True)


def vary(runs, factor):
    """The runs in which at most this factor is not the base's."""
    base = base_of(runs)
    return [r for r in runs if all(r[key] == base[key] for key in FACTORS if key != factor)]


def draw(folder, of):
    folder.mkdir(parents=True, exist_ok=True)
    if of("latency"):
        steady = pick(of("latency"), qos=1)
        plot(folder, "rate", "Cost over rate (mosquitto, QoS 1, least latency)", "messages a second", lambda r: r["rate"], steady)
        plot(folder, "latency", "p99 from publish to a consumer of Kafka (QoS 1)", "messages a second", lambda r: r["rate"], steady,
             "p99", "ms")
    if of("throughput"):
        plot(folder, "payload", "Cost over payload", "bytes", lambda r: r["payload"], vary(of("throughput"), "payload"))
        plot(folder, "vehicles", "Cost over vehicles", "vehicles", lambda r: r["vehicles"], vary(of("throughput"), "vehicles"))
    if of("transforms"):
        plot(folder, "transforms", "Cost over transforms in the chain (the core alone)", "transforms + 1",
             lambda r: r["transforms"] + 1, of("transforms"))
    if of("processes"):
        plot(folder, "processes", "Processes that share a subscription", "processes", lambda r: r["processes"], of("processes"),
             "rate", "messages a second")


def main():
    machines, runs = read(sys.argv[1])
    for machine in machines:
        tools = ", ".join(f"{name} {version}".strip() for name, version in machine["contenders"].items() if version)
        print(f"{machine['date']}, {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}"
              + (f"; {tools}" if tools else "") + f". Options: `{machine['command']}`.")

    def of(what):
        return [r for r in runs if r["what"] == what]

    shows = (("throughput", show_throughput),
             ("slices", lambda some: show_pair(f"The framework's cost, by turns of a part of a second, {len(some) // 2} starts", some)),
             ("watched", lambda some: show_pair(f"What watching costs, by turns of a part of a second, {len(some) // 3} starts", some,
                                                "the first", status_ms="ms for /status")),
             ("exactly_once", lambda some: show_pair(f"What exactly once costs, by turns of a part of a second, {len(some) // 3} starts", some,
                                                     "at least once")),
             ("committed", show_latency), ("latency", show_latency), ("kill", show_kill),
             ("consumer", lambda some: show_pair("From Kafka to standard output", some)),
             ("generator", lambda some: show_pair("A generator into nothing", some)),
             ("transforms", lambda some: show_steps("Transforms in the chain, the core alone", some, "transforms")),
             ("processes", lambda some: show_steps("Processes that share a subscription", some, "processes")),
             ("shards", lambda some: show_steps("Lanes of shards in one process", some, "lanes")))
    for what, show in shows:
        if of(what):
            show(of(what))
    failures = [r for r in runs if "failed" in r]
    for r in failures:
        print(f"\nFailed: {r['contender']}, {r['what']}, round {r['round']}: {r['failed']}")
    if len(sys.argv) > 2:
        draw(Path(sys.argv[2]), of)


if __name__ == "__main__":
    main()
