"""`keyvalue-nats bench`: how fast and how big the provider is, against yardsticks of the same run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from provider.cli.output import say, stderr_console, stdout_console, table
from provider.dev.bench.report import Report, Target, targets
from provider.dev.bench.size import measure_size
from provider.dev.bench.speed import Plan, Progress, measure_speed
from provider.dev.bench.workloads import WorkloadName
from provider.dev.bucket import RawBucket
from provider.dev.lattice import LatticeSettings, running

EXAMPLES = """Examples:

keyvalue-nats bench

keyvalue-nats bench --workload Get --in-flight 64 --speed-only

keyvalue-nats bench --ops 50000 --json bench.json --plot bench.svg
"""


def bench(
    ops: int = typer.Option(20_000, min=100, max=500_000, help="Operations of a row at 64 in flight; fewer at less."),
    nats: str = typer.Option(None, metavar="URL", help="Use this nats-server instead of starting one."),
    json: Path = typer.Option(None, metavar="FILE", dir_okay=False, help="Write everything that was measured there."),
    plot: Path = typer.Option(None, metavar="FILE.svg|png", dir_okay=False, help="Draw latency and CPU there."),
    workload: list[WorkloadName] = typer.Option(None, help="Only this one; may be repeated."),
    in_flight: list[int] = typer.Option(None, min=1, max=1024, help="Only so many at a time; may be repeated."),
    speed_only: bool = typer.Option(False, "--speed-only", help="Leave out start-up time and memory."),
) -> None:
    """Measure how fast and how big the provider is, against yardsticks of the same run."""
    draw = _drawing(plot)
    plan = Plan(ops, tuple(workload or WorkloadName), tuple(in_flight or (1, 16, 64)))
    settings = LatticeSettings(lattice=f"bench{time.time_ns()}", nats_url=nats, log_level="info")
    report = _measure(settings, plan, with_size=not speed_only)
    _show(stdout_console(), report)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if plot is not None:
        draw(report, plot)


def _drawing(path: Path | None) -> Callable[[Report, Path], None]:
    """Return what draws a report; refuse before anything is measured what could not be drawn afterwards."""
    if path is None:
        return lambda _report, _path: None
    if path.suffix.lower() not in (".svg", ".png"):
        raise typer.BadParameter(f"{path} must end in .svg or .png", param_hint="--plot")
    try:
        from provider.cli.bench_plot import draw
    except ImportError:
        hint = "needs matplotlib: pip install 'wasmcloud-keyvalue-nats[plot]'"
        raise typer.BadParameter(hint, param_hint="--plot") from None
    return draw


def _measure(settings: LatticeSettings, plan: Plan, *, with_size: bool) -> Report:
    console = stderr_console()
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        current = bar.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(current, description=what, completed=done, total=total)

        return asyncio.run(_run(settings, plan, progress, with_size=with_size))


async def _run(settings: LatticeSettings, plan: Plan, progress: Progress, *, with_size: bool) -> Report:
    async with running(settings) as lattice:
        rows, yardsticks = await measure_speed(lattice, plan, progress)
        await RawBucket(lattice.connection, settings.bucket).delete()
    if not with_size:
        return Report(rows=rows, yardsticks=yardsticks)
    async with running(replace(settings, instances=0, lattice=f"{settings.lattice}s")) as lattice:
        return Report(rows=rows, yardsticks=yardsticks, size=await measure_size(lattice, progress))


def _show(console: Console, report: Report) -> None:
    console.print(_rows(report))
    say(console, "")
    yard = report.yardsticks
    shown = table("Yardsticks of this run", "what", "", right=frozenset({""}))
    shown.add_row("one signature check, CPU", f"{yard.signature_cpu_us:.1f} µs")
    shown.add_row("bare echo service in Python, 1 in flight, p50", f"{yard.echo_p50_us:.0f} µs")
    shown.add_row("raw direct get, 1 in flight, p50", f"{yard.direct_get_p50_us:.0f} µs")
    shown.add_row("naive read-then-CAS, one counter, 64 tasks", f"{yard.naive_counter_per_second:.0f}/s")
    shown.add_row("naive read-then-CAS, one set of 1,000, 64 tasks", f"{yard.naive_set_per_second:.0f}/s")
    console.print(shown)
    say(console, "")
    console.print(_scorecard(targets(report)))


def _rows(report: Report) -> object:
    numbers = ("in flight", "ops/s", "CPU µs/op", "p50 µs", "p99 µs", "errors")
    shown = table("Signed operations", "operation", *numbers, "", right=frozenset(numbers))
    for row in report.rows:
        measured = row.measured
        note = measured.first_error or ("" if measured.is_exact else "totals not exactly once")
        if measured.own_cpu_seconds > 0.9 * measured.seconds:
            note = f"{note} load generator at its limit".strip()
        shown.add_row(
            row.workload,
            str(row.in_flight),
            f"{row.per_second:,.0f}",
            f"{row.provider_cpu_us:.0f}",
            f"{measured.p50_us:,.0f}",
            f"{measured.p99_us:,.0f}",
            str(measured.errors),
            note,
        )
    return shown


def _scorecard(judged: list[Target]) -> object:
    shown = table("Targets", "ratio of this run", "measured", "target", "", "", right=frozenset({"measured", "target"}))
    for target in judged:
        verdict = Text("met", style="green") if target.is_met else Text("MISSED", style="bold red")
        limit = f"{'<=' if target.is_at_most else '>='} {target.limit:g}"
        shown.add_row(target.what, f"{target.ratio:.2f}", limit, verdict, target.detail)
    return shown
