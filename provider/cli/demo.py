"""`keyvalue-nats demo`: shows every promise and checks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import typer
from rich.console import Console
from rich.text import Text

from provider.cli.output import say, short_result, stdout_console, table
from provider.dev.bucket import RawBucket
from provider.dev.lattice import LatticeSettings, running
from provider.dev.walkthrough import CALLERS, Outcome, Walkthrough


def demo(
    nats: str = typer.Option(None, metavar="URL", help="Use this nats-server instead of starting one."),
) -> None:
    """Run all fifteen operations and check every promise; exit code 1 if one is broken."""
    lattice = f"demo{time.time_ns()}" if nats else "demo"
    raise typer.Exit(asyncio.run(_demonstrate(LatticeSettings(lattice=lattice, nats_url=nats))))


async def _demonstrate(settings: LatticeSettings) -> int:
    console = stdout_console()
    started = time.monotonic()
    outcomes: list[Outcome] = []

    def show(title: str, part: Iterable[Outcome], columns: tuple[str, str, str, str]) -> None:
        part = list(part)
        outcomes.extend(part)
        _show(console, title, part, columns)

    async with running(settings) as lattice:
        where = "nats-server and " if lattice.server else ""
        say(console, f"Started {where}the provider, linked an actor, in {time.monotonic() - started:.1f} s.\n", "bold")
        walk = Walkthrough(lattice)
        as_stored = f"nats kv get {settings.bucket}"
        columns = ("operation", "argument", "result", as_stored)
        show("All fifteen operations", await walk.operations(), columns)
        show(f"One counter, {CALLERS} callers at once", [await walk.crowd()], columns)
        show("Forged calls", await walk.forgeries(), ("call", "", "answer", as_stored))
        show("A crash", await walk.restart(), columns)
        show("A clean stop", [await walk.stop()], ("", "", "", ""))
        await RawBucket(lattice.connection, settings.bucket).delete()
    return _conclude(console, outcomes, time.monotonic() - started)


def _show(console: Console, title: str, outcomes: list[Outcome], columns: tuple[str, str, str, str]) -> None:
    kept = [index for index, name in enumerate(columns) if name] or [0, 2]
    shown = table(title, *(columns[index] for index in kept), "")
    for outcome in outcomes:
        stored = "-" if outcome.stored is None else outcome.stored
        cells = (outcome.what, outcome.argument, short_result(outcome.result), stored)
        mark = Text("ok", style="green") if outcome.is_as_promised else Text("NOT AS PROMISED", style="bold red")
        shown.add_row(*(cells[index] for index in kept), mark)
    console.print(shown)
    say(console, "")


def _conclude(console: Console, outcomes: list[Outcome], seconds: float) -> int:
    broken = [outcome for outcome in outcomes if not outcome.is_as_promised]
    if broken:
        say(console, f"{len(broken)} of {len(outcomes)} checks are not as promised, after {seconds:.1f} s.", "bold red")
        return 1
    say(console, f"All {len(outcomes)} checks as promised, in {seconds:.1f} s. Everything is stopped.", "bold green")
    return 0
