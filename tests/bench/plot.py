"""A drawing of a report: latency by workload, and the share of the signature check in the CPU time. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.report import Report
from tests.bench.rows import Row

_SIGNATURE, _REST, _P50, _P99 = "#4c72b0", "#dd8452", "#55a868", "#c7e2cd"


def draw(report: Report, path: Path) -> None:
    """Write the drawing, in the format of the file's suffix."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    latency, cpu = figure.subplots(1, 2)
    bars = _bars(report)
    _draw_latency(latency, bars)
    _draw_cpu(cpu, bars)
    figure.savefig(path)


def _bars(report: Report) -> list[tuple[str, Row, float]]:
    """Return all rows, each with its label and the CPU time of a signature check in the same run, in microseconds."""
    bars = []
    if report.yardsticks is not None:
        signature_us = report.yardsticks.signature_cpu_us
        bars += [(f"{row.workload}, {row.in_flight}", row, signature_us) for row in report.rows]
    if report.cache is not None:
        speed = report.cache.speed
        bars += [(f"cache {row.workload}, {row.in_flight}", row, speed.signature_cpu_us) for row in speed.rows]
    return bars


def _draw_latency(axes: Axes, bars: list[tuple[str, Row, float]]) -> None:
    labels = [label for label, _, _ in bars]
    axes.barh(labels, [row.measured.p99_us / 1000 for _, row, _ in bars], color=_P99, label="p99")
    axes.barh(labels, [row.measured.p50_us / 1000 for _, row, _ in bars], color=_P50, label="p50")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds")
    axes.set_title("Latency by operation and number in flight")
    axes.invert_yaxis()
    axes.legend()


def _draw_cpu(axes: Axes, bars: list[tuple[str, Row, float]]) -> None:
    labels = [label for label, _, _ in bars]
    signatures = [signature_us for _, _, signature_us in bars]
    rest = [max(row.provider_cpu_us - signature_us, 0) for _, row, signature_us in bars]
    axes.barh(labels, signatures, color=_SIGNATURE, label="one signature check")
    axes.barh(labels, rest, left=signatures, color=_REST, label="everything else")
    axes.set_xlabel("microseconds of the provider's CPU per operation")
    axes.set_title("Where the CPU time goes")
    axes.invert_yaxis()
    axes.legend()
