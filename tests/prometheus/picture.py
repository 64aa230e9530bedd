"""Draws Grafana's board without Grafana: the panels of deploy/grafana/dashboards/fmspipe.json in their places, with what a real
Prometheus answers to their queries. Three pipelines in one process run for it, and their Kafka hangs for a while.

fms-sandbox --kafka=real -- python3 picture.py BIN-DIRECTORY PICTURE

A query that is refused, and a panel that nothing fills though something should, is an error."""
import html
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "page")]
from browser import Browser  # noqa: E402

BIN, PICTURE = (os.path.abspath(path) for path in sys.argv[1:3])
CALM, TROUBLE, AFTER = 100, 25, 55  # seconds
COLUMN, ROW = 52, 30  # pixels of Grafana's grid
SHOWN = 48  # of its rows: the rest is asked for, and not drawn
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#c0d8ff"]
EMPTY = {"Spool"}  # panels of what does not run here
STYLE = """body{margin:0;background:#111217;color:#ccccdc;font:12px system-ui,'DejaVu Sans',sans-serif}
.p{position:absolute;background:#181b1f;border:1px solid #2a2d34;border-radius:3px;overflow:hidden}
.p h2{font-size:13px;font-weight:500;margin:6px 10px 2px}.r{position:absolute;font-size:15px;font-weight:500;margin:8px 4px}
.p p{position:absolute;bottom:4px;left:10px;right:10px;margin:0;font-size:11px;white-space:nowrap;overflow:hidden}
.p i{display:inline-block;width:12px;height:3px;border-radius:2px;margin:0 5px 3px 0}.p span{margin-right:12px}
.s{display:flex;height:calc(100% - 26px)}.s div{flex:1;display:flex;flex-direction:column;justify-content:center;align-items:center;color:#fff}
.s b{font-size:19px;font-weight:500;white-space:nowrap}text{fill:#9a9ca8;font-size:10px}"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(prometheus, path, **parameters):
    address = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def shown(value, unit):
    if not math.isfinite(value):
        return "-"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB" if value >= 2**20 else f"{value / 1024:.3g} KiB"
    return f"{value:.4g}" + ("/s" if unit == "cps" else "")


def name_of(target, labels):
    legend = target.get("legendFormat") or "{{__name__}}"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m.group(1), ""), legend).strip() or "value"


def series_of(panel, prometheus, start, end):
    found = []
    for target in panel["targets"]:
        query = target["expr"].replace("$instance", ".*").replace("$pipeline", ".*").replace("$__rate_interval", "10s")
        for one in ask(prometheus, "query_range", query=query, start=start, end=end, step=1):
            found.append((name_of(target, one["metric"]), [(float(t), float(v)) for t, v in one["values"]]))
    return found


def draw_stat(panel, series):
    defaults = panel["fieldConfig"]["defaults"]
    texts = {key: value["text"] for one in defaults.get("mappings", []) for key, value in one.get("options", {}).items()}
    boxes = []
    for name, points in series:
        value, colour = points[-1][1], "#37872d"
        for step in defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is None or value >= step["value"]:
                colour = {"red": "#c4162a", "green": "#37872d", "orange": "#b8610b", "yellow": "#997404"}.get(step["color"], "#3d71d9")
        text = texts.get(f"{value:g}", shown(value, defaults.get("unit", "none")))
        boxes.append(f'<div style="background:{colour}"><b>{html.escape(text)}</b>{html.escape(name)}</div>')
    return f'<div class="s">{"".join(boxes)}</div>'


def draw_series(panel, series, width, height, start, end):
    unit = panel["fieldConfig"]["defaults"].get("unit", "none")
    values = [v for _, points in series for _, v in points if math.isfinite(v)]
    most = max(values + [0]) or 1
    left, top, bottom = 62, 8, 46
    inner, tall = width - left - 14, height - top - bottom - 26
    parts = []
    for i in range(4):
        y = top + tall * i / 3
        parts.append(f'<line x1="{left}" x2="{width - 14}" y1="{y}" y2="{y}" stroke="#2a2d34"/>'
                     f'<text x="{left - 6}" y="{y + 3}" text-anchor="end">{shown(most * (3 - i) / 3, unit)}</text>')
    for i in range(4):
        x = left + inner * i / 3
        at = time.strftime("%H:%M:%S", time.gmtime(start + (end - start) * i / 3))
        parts.append(f'<text x="{x}" y="{top + tall + 16}" text-anchor="middle">{at}</text>')
    for i, (_, points) in enumerate(series):
        path, before = "", None
        for t, v in points:
            if math.isfinite(v):
                x, y = left + inner * (t - start) / (end - start), top + tall * (1 - v / most)
                path += f"{'M' if before is None or t - before > 5 else 'L'}{x:.1f} {y:.1f}"
                before = t
        parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="1.4"/>')
    legend = "".join(f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{html.escape(name)}</span>'
                     for i, (name, _) in enumerate(series))
    return f'<svg width="{width}" height="{height - 26}">{"".join(parts)}</svg><p>{legend}</p>'


def draw(board, prometheus, start, end):
    parts, empty, depth = [], [], 0
    for panel in board["panels"]:
        grid = panel["gridPos"]
        x, y, width, height = grid["x"] * COLUMN + 8, grid["y"] * ROW + 8, grid["w"] * COLUMN - 8, grid["h"] * ROW - 8
        depth = max(depth, y + height + 8)
        if panel["type"] == "row":
            parts.append(f'<div class="r" style="left:{x}px;top:{y - 6}px">{html.escape(panel["title"])}</div>')
            continue
        series = series_of(panel, prometheus, start, end)
        if not series and panel["title"] not in EMPTY:
            empty.append(panel["title"])
        inside = draw_stat(panel, series) if panel["type"] == "stat" else draw_series(panel, series, width, height, start, end)
        parts.append(f'<div class="p" style="left:{x}px;top:{y}px;width:{width}px;height:{height}px">'
                     f'<h2>{html.escape(panel["title"])}</h2>{inside}</div>')
    if empty:
        sys.exit(f"nothing fills these panels: {', '.join(empty)}")
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{"".join(parts)}', depth


def run(work):
    """The process and Prometheus, for as long as it takes; where Prometheus is, and from when until when there is something to see."""
    admin, port = f"127.0.0.1:{free_port()}", free_port()
    environment = {**os.environ, "FMS_VEHICLES": "200", "FMS_INTERVAL": "1s", "FMS_FORMAT": "json", "FMS_GROUP": "board"}
    pipelines = [f"{ROOT}/pipelines/{name}.ini" for name in ("publisher", "bridge", "consumer")]
    with open(f"{ROOT}/deploy/prometheus/prometheus.yml", encoding="utf-8") as file:
        text = re.sub(r'targets: \["mqtt_subscriber.*', f'targets: ["{admin}"]', file.read().replace("_interval: 5s", "_interval: 1s"))
    with open(f"{work}/prometheus.yml", "w", encoding="utf-8") as file:
        file.write(re.sub(r"(?s)  - job_name: redpanda.*", "", text).replace("alerts.yml", f"{ROOT}/deploy/prometheus/alerts.yml"))
    with open(f"{work}/log", "wb") as log:
        started = [subprocess.Popen([f"{BIN}/fmspipe", f"--admin={admin}", *pipelines], env=environment, stdout=log, stderr=log),
                   subprocess.Popen(["prometheus", f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/data",
                                     f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)]
        try:
            time.sleep(20)
            start = time.time()
            time.sleep(CALM)
            subprocess.run([f"{BIN}/fms-sandbox", "ctl", "kafka", "freeze"], check=True)
            time.sleep(TROUBLE)
            subprocess.run([f"{BIN}/fms-sandbox", "ctl", "kafka", "thaw"], check=True)
            time.sleep(AFTER)
            with open(f"{ROOT}/deploy/grafana/dashboards/fmspipe.json", encoding="utf-8") as file:
                return draw(json.load(file), f"http://127.0.0.1:{port}", start, time.time())
        finally:
            for process in started:
                process.terminate()
                process.wait(60)


with tempfile.TemporaryDirectory() as folder:
    page, height = run(folder)
    with open(f"{folder}/board.html", "w", encoding="utf-8") as out:
        out.write(page)
    with Browser() as browser:
        browser.window(24 * COLUMN + 8, min(height, SHOWN * ROW + 4), "dark")
        browser.go(f"file://{folder}/board.html")
        browser.picture(PICTURE)
