"""`keyvalue-nats demo`: shows every promise of the provider and checks it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.text import Text

from provider.commands.demo.components import show_components
from provider.commands.demo.replicas import REPLICAS, ReplicaOutcome, running_replicas, show_partition
from provider.commands.demo.two_actors import show_two_actors
from provider.commands.demo.walkthrough import CALLERS, Outcome, Walkthrough
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import LatticeSettings, running
from provider.commands.options import NatsOption
from provider.commands.output import short_result, stdout_console, table, write_line
from provider.tasks import run_interruptible


def demo(nats: NatsOption = None) -> None:
    """Run all operations and check every promise; exit code 1 if one is broken."""
    lattice = f"demo{time.time_ns()}" if nats else "demo"
    raise typer.Exit(run_interruptible(_demonstrate(LatticeSettings(lattice=lattice, nats_url=nats))))


async def _demonstrate(settings: LatticeSettings) -> int:
    console = stdout_console()
    started = time.monotonic()
    outcomes: list[Outcome | ReplicaOutcome] = []

    def show(title: str, part: Iterable[Outcome | ReplicaOutcome], columns: tuple[str, ...]) -> None:
        part = list(part)
        outcomes.extend(part)
        _show(console, title, part, columns)

    async with running(settings) as lattice:
        where = "nats-server and " if lattice.server else ""
        write_line(
            console, f"Started {where}the provider, linked an actor, in {time.monotonic() - started:.1f} s.\n", "bold"
        )
        walk = Walkthrough(lattice)
        as_stored = f"nats kv get {settings.bucket}"
        columns: tuple[str, ...] = ("operation", "argument", "result", as_stored)
        show("All fifteen operations", await walk.operations(), columns)
        show(f"One counter, {CALLERS} callers at once", [await walk.crowd()], columns)
        extensions = await show_two_actors(lattice)
        show("Extensions: a lock, a race and a watch; two actors on one bucket", extensions, columns)
        show("Forged calls", await walk.forgeries(), ("call", "", "answer", as_stored))
        show("A crash", await walk.restart(), columns)
        show("Components of wasmCloud 1.x on the same bucket", await show_components(lattice), columns)
        show("A clean stop", [await walk.stop()], ("", "", "", ""))
        await RawBucket(lattice.connection, settings.bucket).delete()
        if urlsplit(lattice.nats_url).scheme == "nats":
            name = f"{settings.lattice}-cache"
            async with running_replicas(lattice, name) as replicas:
                columns = ("", *(f"replica {number}" for number in range(1, REPLICAS + 1)))
                show("Three replicas of a cache", await show_partition(replicas), columns)
    return _conclude(console, outcomes, time.monotonic() - started)


def _show(console: Console, title: str, outcomes: list[Outcome | ReplicaOutcome], columns: tuple[str, ...]) -> None:
    kept = [index for index, name in enumerate(columns) if name] or [0, 2]
    if isinstance(outcomes[0], ReplicaOutcome):
        kept = list(range(len(columns)))
    shown = table(title, *(columns[index] for index in kept), "")
    for outcome in outcomes:
        cells = outcome.cells if isinstance(outcome, ReplicaOutcome) else _cells(outcome)
        mark = Text("ok", style="green") if outcome.is_as_promised else Text("NOT AS PROMISED", style="bold red")
        shown.add_row(*(cells[index] for index in kept), mark)
    console.print(shown)
    write_line(console, "")


def _cells(outcome: Outcome) -> tuple[str, ...]:
    stored = "-" if outcome.stored is None else outcome.stored
    return outcome.what, outcome.argument, short_result(outcome.result), stored


def _conclude(console: Console, outcomes: list[Outcome | ReplicaOutcome], seconds: float) -> int:
    broken = [outcome for outcome in outcomes if not outcome.is_as_promised]
    if broken:
        write_line(
            console, f"{len(broken)} of {len(outcomes)} checks are not as promised, after {seconds:.1f} s.", "bold red"
        )
        return 1
    write_line(
        console, f"All {len(outcomes)} checks as promised, in {seconds:.1f} s. Everything is stopped.", "bold green"
    )
    return 0
