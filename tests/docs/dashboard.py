"""Draws the Grafana dashboard from the data of a running Prometheus, without Grafana.

`python -m tests.docs.dashboard http://127.0.0.1:9090 deploy/grafana-dashboard.png` asks Prometheus for each panel what Grafana
would ask it, for the last minutes.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"

_SECONDS = 180
"""The time shown: a run of a minute or two is seen whole."""

_STEP_SECONDS = 2
_VARIABLES = {"$__rate_interval": "20s", "$__range": f"{_SECONDS}s", "$lattice": ".*", "$instance": ".*"}
_ROW_INCHES = 0.42
_SCALES = {
    "bytes": (1e-6, " MB"),
    "s": (1e3, " ms"),
    "percentunit": (100.0, " %"),
    "reqps": (1.0, "/s"),
    "ops": (1.0, "/s"),
}
_MOST_LEGEND = 6
"""Lines in one legend; more would hide the curves."""


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show data."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def headings() -> dict[str, int]:
    """Return the headings of the dashboard with their rows."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return {panel["title"]: panel["gridPos"]["y"] for panel in dashboard["panels"] if panel["type"] == "row"}


def queries(panel: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the queries of a panel, with the values of the variables, and their legends."""
    found = []
    for target in panel["targets"]:
        text = target["expr"]
        for name, value in _VARIABLES.items():
            text = text.replace(name, value)
        found.append((text, target["legendFormat"]))
    return found


def draw(prometheus: str, picture: Path) -> None:
    """Draw all panels as a picture."""
    found = panels()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found)
    figure = plt.figure(figsize=(18, rows * _ROW_INCHES))
    for heading, row in headings().items():
        figure.text(0.005, 1 - (row + 0.7) / rows, heading, fontsize=11, weight="bold")
    now = time.time()
    for panel in found:
        place = panel["gridPos"]
        left, width = place["x"] / 24 + 0.035, place["w"] / 24 - 0.04
        bottom, height = 1 - (place["y"] + place["h"] - 0.5) / rows, (place["h"] - 1.6) / rows
        axes = figure.add_axes((left, bottom, width, height))
        axes.set_title(panel["title"], fontsize=8, loc="left")
        if panel["type"] == "timeseries":
            _curves(axes, prometheus, panel, now)
        else:
            _texts(axes, prometheus, panel, now)
    figure.savefig(picture, dpi=64)


def _curves(axes: Axes, prometheus: str, panel: dict[str, Any], now: float) -> None:
    scale, unit = _SCALES.get(panel["fieldConfig"]["defaults"]["unit"], (1.0, ""))
    for query, legend in queries(panel):
        asked = {"query": query, "start": now - _SECONDS, "end": now, "step": _STEP_SECONDS}
        for series in _ask(prometheus, "query_range", asked):
            points = [(float(at) - now, float(value) * scale) for at, value in series["values"]]
            axes.plot(*zip(*points, strict=True), linewidth=1, label=_legend(legend, series["metric"]))
    axes.tick_params(labelsize=6)
    axes.set_xlim(-_SECONDS, 0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:_MOST_LEGEND], labels[:_MOST_LEGEND], fontsize=5, loc="upper left")


def _texts(axes: Axes, prometheus: str, panel: dict[str, Any], now: float) -> None:
    """Show the present values: of a stat the number, of a table its rows."""
    axes.set_axis_off()
    scale, unit = _SCALES.get(panel["fieldConfig"]["defaults"]["unit"], (1.0, ""))
    ((query, _),) = queries(panel)
    lines = []
    for series in _ask(prometheus, "query", {"query": query, "time": now}):
        labels = "  ".join(f"{value[:30]}" for value in series["metric"].values())
        lines.append(f"{labels}  {float(series['value'][1]) * scale:.3g}{unit}".strip())
    is_table = panel["type"] == "table"
    axes.text(0.0, 0.9, "\n".join(lines) or "No data", fontsize=6 if is_table else 16, va="top", family="monospace")


def _legend(template: str, labels: dict[str, str]) -> str:
    text = template
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value[:16])
    return text


def _ask(prometheus: str, kind: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    url = f"{prometheus}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=10) as response:
        found: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return found


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))
