"""Draw a bench report: latency by workload, and where the CPU time goes. Importing it needs the optional matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provider.dev.bench.report import Report

_SIGNATURE, _REST, _P50, _P99 = "#4c72b0", "#dd8452", "#55a868", "#c7e2cd"


def draw(report: Report, path: Path) -> None:
    """Write the drawing in the format that the file's name ends in."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    latency, cpu = figure.subplots(1, 2)
    _draw_latency(latency, report)
    _draw_cpu(cpu, report)
    figure.savefig(path)


def _draw_latency(axes: Axes, report: Report) -> None:
    labels = [f"{row.workload}, {row.in_flight}" for row in report.rows]
    axes.barh(labels, [row.measured.p99_us / 1000 for row in report.rows], color=_P99, label="p99")
    axes.barh(labels, [row.measured.p50_us / 1000 for row in report.rows], color=_P50, label="p50")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds")
    axes.set_title("Latency by operation and number in flight")
    axes.invert_yaxis()
    axes.legend()


def _draw_cpu(axes: Axes, report: Report) -> None:
    labels = [f"{row.workload}, {row.in_flight}" for row in report.rows]
    signature = report.yardsticks.signature_cpu_us
    rest = [max(row.provider_cpu_us - signature, 0) for row in report.rows]
    axes.barh(labels, [signature] * len(labels), color=_SIGNATURE, label="one signature check")
    axes.barh(labels, rest, left=signature, color=_REST, label="everything else")
    axes.set_xlabel("microseconds of the provider's CPU per operation")
    axes.set_title("Where the CPU time goes")
    axes.invert_yaxis()
    axes.legend()
