"""`make bench`: the speed and the size of the provider, against yardsticks of the same run."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import LatticeSettings, running
from provider.commands.errors import CommandError
from provider.commands.options import NatsOption, writable_file
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.keyvalue.bucket.pages.pages_settings import pages_bucket
from provider.keyvalue.link_values import Backend
from tests.bench.bucket_size import measure_size
from tests.bench.bucket_speed import measure_speed
from tests.bench.cache.measure_cache import measure_cache
from tests.bench.component_speed import COMPONENTS_IN_FLIGHT, measure_components
from tests.bench.helper_gain import measure_helper_gain
from tests.bench.jobs import BenchPlan, Progress
from tests.bench.pages.measure_pages import PagesScale, measure_pages
from tests.bench.report import Report
from tests.bench.stalls.measure_stalls import measure_bucket_stalls, measure_cache_stalls
from tests.bench.stalls.stalls_report import StallReport
from tests.bench.tables import show
from tests.bench.workloads import ROWS, WorkloadName

_OTHER_STEPS, _SIZE_STEPS, _LARGE_STEPS = 5, 3, 62
"""Yardsticks before and after the rows, and measurements of size, for each backend, and those of large values. The total on the
screen grows if there are more."""

EXAMPLES = """Examples:

make bench

make bench ARGS="--workload Get --in-flight 64 --speed-only"

make bench ARGS="--backend cache"

make bench ARGS="--large 20000 --churn 10 --large-only"

make bench ARGS="--ops 50000 --json bench.json --plot bench.svg"
"""


def bench(
    ops: int = typer.Option(
        20_000, min=100, max=500_000, help="Operations of a row at 64 in flight; there are fewer at less."
    ),
    nats: NatsOption = None,
    json: Path = typer.Option(
        None, metavar="FILE", dir_okay=False, callback=writable_file, help="Write all results to this file."
    ),
    plot: Path = typer.Option(
        None,
        metavar="FILE.svg|png",
        dir_okay=False,
        callback=writable_file,
        help="Draw latency and CPU time into this file.",
    ),
    workload: list[WorkloadName] = typer.Option(None, help="Only this workload; may be repeated."),
    in_flight: list[int] = typer.Option(
        None, min=1, max=1024, help="Only this number of operations in flight; may be repeated."
    ),
    backend: list[Backend] = typer.Option(None, help="Only this backend; may be repeated."),
    speed_only: bool = typer.Option(
        False, "--speed-only", help="Leave out start-up time, memory, joining and large values."
    ),
    large: int = typer.Option(
        1_000_000, min=10_000, max=10_000_000, help="Elements of the set and the list for the rows of large values."
    ),
    churn: float = typer.Option(
        120.0,
        min=1.0,
        max=3600.0,
        help="Seconds of additions at full speed, while the room of large values is measured.",
    ),
    large_only: bool = typer.Option(False, "--large-only", help="Only large values."),
) -> None:
    """Measure the speed and the size of the provider, against yardsticks of the same run."""
    draw = _drawing(plot)
    plan = BenchPlan(ops, tuple(workload or ROWS), tuple(in_flight or (1, 16, 64)))
    settings = LatticeSettings(lattice=f"bench{time.time_ns()}", nats_url=nats, log_level="info")
    scale = None if speed_only else PagesScale(elements=large, operations=ops, churn_seconds=churn)
    if large_only:
        large_scale = scale or PagesScale()
        report = _with_progress(_LARGE_STEPS, lambda progress: _measure_large(settings, large_scale, progress))
    else:
        report = _measure(settings, plan, tuple(backend or Backend), scale)
    show(stdout_console(), report)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if plot is not None:
        draw(report, plot)


def _drawing(path: Path | None) -> Callable[[Report, Path], None]:
    """Return the function that draws a report.

    Raises:
        typer.BadParameter: The file could not be drawn, which is better known before the measurement than after it.
    """
    if path is None:
        return lambda _report, _path: None
    if path.suffix.lower() not in (".svg", ".png"):
        raise typer.BadParameter(f"{path} must end in .svg or .png", param_hint="--plot")
    try:
        from tests.bench.plot import draw
    except ImportError:
        hint = "needs matplotlib: make install"
        raise typer.BadParameter(hint, param_hint="--plot") from None
    return draw


def _measure(
    settings: LatticeSettings, plan: BenchPlan, backends: tuple[Backend, ...], scale: PagesScale | None
) -> Report:
    steps = _steps(plan, backends, with_size=scale is not None)
    return _with_progress(steps, lambda progress: _run(settings, plan, backends, progress, scale))


def _with_progress(steps: int, measure: Callable[[Progress], Coroutine[None, None, Report]]) -> Report:
    """Run measurements of about so many steps, each of which is shown with its progress."""
    console = stderr_console()
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        whole = bar.add_task("all, about", total=steps)
        current = bar.add_task("starting", total=None)
        done_steps = 0

        def progress(name: str, done: int, total: int) -> None:
            nonlocal done_steps
            bar.update(current, description=name.partition(":")[0], completed=done, total=total)
            if done == total and not name.endswith(": signing"):  # a step has ended; its line stays
                done_steps += 1
                bar.update(whole, completed=done_steps, total=max(steps, done_steps))
                write_line(bar.console, f"[{done_steps}/{max(steps, done_steps)}] {name}", "dim")

        return asyncio.run(measure(progress))


def _steps(plan: BenchPlan, backends: tuple[Backend, ...], *, with_size: bool) -> int:
    """Return about how many steps there are: the rows of all rounds, and the yardsticks and sizes beside them."""
    rows = plan.rounds * len(plan.workloads) * len(plan.in_flight)
    large = _LARGE_STEPS if with_size and Backend.BUCKET in backends else 0
    return large + len(backends) * (rows + plan.rounds + _OTHER_STEPS + (_SIZE_STEPS if with_size else 0))


async def _run(
    settings: LatticeSettings,
    plan: BenchPlan,
    backends: tuple[Backend, ...],
    progress: Progress,
    scale: PagesScale | None,
) -> Report:
    report, with_size = Report(), scale is not None
    if Backend.BUCKET in backends:
        report = await _measure_bucket(settings, plan, progress, with_size=with_size)
        if scale is not None:
            pages = (await _measure_pages(settings, scale, progress)).pages
            report = msgspec.structs.replace(report, pages=pages)
    if scale is not None:
        stalls = await _measure_stalls(settings, scale.elements, backends, progress)
        report = msgspec.structs.replace(report, stalls=stalls)
    if Backend.CACHE in backends:
        async with running(replace(settings, instances=0, lattice=f"{settings.lattice}c")) as lattice:
            measured = await measure_cache(lattice, plan, progress, with_size=with_size)
        report = msgspec.structs.replace(report, cache=measured)
    if WorkloadName.GET not in plan.workloads or max(plan.in_flight) < COMPONENTS_IN_FLIGHT:
        return report
    components, helpers = [], []
    for backend in backends:
        of_backend = replace(
            settings, lattice=f"{settings.lattice}{backend.value}", link_values={"BACKEND": backend.value}
        )
        components.append(await measure_components(of_backend, plan, progress))
        helpers.append(await measure_helper_gain(of_backend, backend, plan, progress))
    return msgspec.structs.replace(report, components=components, helpers=helpers)


async def _measure_bucket(settings: LatticeSettings, plan: BenchPlan, progress: Progress, *, with_size: bool) -> Report:
    async with running(settings) as lattice:
        rows, yardsticks = await measure_speed(lattice, plan, progress)
        await RawBucket(lattice.connection, settings.bucket).delete()
    if not with_size:
        return Report(rows=rows, yardsticks=yardsticks)
    async with running(replace(settings, instances=0, lattice=f"{settings.lattice}s")) as lattice:
        return Report(rows=rows, yardsticks=yardsticks, size=await measure_size(lattice, progress))


async def _measure_large(settings: LatticeSettings, scale: PagesScale, progress: Progress) -> Report:
    report = await _measure_pages(settings, scale, progress)
    stalls = await _measure_stalls(settings, scale.elements, tuple(Backend), progress)
    return msgspec.structs.replace(report, stalls=stalls)


async def _measure_stalls(
    settings: LatticeSettings, elements: int, backends: tuple[Backend, ...], progress: Progress
) -> StallReport:
    rows = []
    if Backend.BUCKET in backends:
        async with running(replace(settings, lattice=f"{settings.lattice}w")) as lattice:
            rows += await measure_bucket_stalls(lattice, elements, progress)
            bucket = lattice.settings.bucket
            for name in (bucket, pages_bucket(bucket)):
                await RawBucket(lattice.connection, name).delete()
    if Backend.CACHE in backends:
        async with running(replace(settings, instances=0, lattice=f"{settings.lattice}x")) as lattice:
            rows += await measure_cache_stalls(lattice, elements, progress)
    return StallReport(elements=elements, rows=rows)


async def _measure_pages(settings: LatticeSettings, scale: PagesScale, progress: Progress) -> Report:
    async with running(replace(settings, lattice=f"{settings.lattice}l")) as lattice:
        report = Report(pages=await measure_pages(lattice, scale, progress))
        bucket = lattice.settings.bucket
        for name in (bucket, pages_bucket(bucket)):
            await RawBucket(lattice.connection, name).delete()
        return report


def main() -> int:
    """Run the benchmark; return the exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog=EXAMPLES)(bench)
    try:
        app()  # leaves with SystemExit
    except CommandError as error:
        write_line(stderr_console(), f"error: {error}", "red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
