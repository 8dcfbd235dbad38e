"""The command `top`: asks the instances again and again, and shows them on a terminal or prints them to a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
import uvloop
from rich.live import Live

from provider import errors, logs
from provider.commands.connect import addresses, settings_of
from provider.commands.errors import ServerRefusedError, UnreachableError
from provider.commands.instances import Instances
from provider.commands.options import DEFAULT_WAIT, LatticeOption, WaitOption, timeout_seconds
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.commands.patience import patience
from provider.commands.printing import print_line
from provider.commands.target import Target
from provider.commands.top.keyboard import keys
from provider.commands.top.lines import lines
from provider.commands.top.rates import Activity, Overview, Rounds
from provider.commands.top.screen import HELP, View, picture
from provider.nats.connection import Connection

EXAMPLES = f"""Keys: {HELP}

\b
Examples:
  keyvalue-nats top
  keyvalue-nats top --nats nats://hub:4222 \\
      --lattice production --interval 5s --sort errors
  keyvalue-nats top --count 1 | grep '^[^ ]* link'

In a pipe, each round is one line for each instance, link and store. Rates are per second, and since the start in the first
round of an instance.

Exit codes: 0 if it was stopped, or after --count rounds; 1 if NATS cannot be reached, or if no instance has answered in
any round; 2 if the command line is not valid.
"""

Sort = Literal["calls", "errors", "latency", "lag", "name"]


def top(
    target: Target,
    lattice: LatticeOption = None,
    interval: Annotated[str, typer.Option(metavar="DURATION", help="Time between two rounds.")] = "2s",
    sort: Annotated[Sort, typer.Option(help="Order of the links.")] = "calls",
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="NUMBER", min=0, help="Rounds to show; 0: until it is stopped.")
    ] = 0,
    wait: WaitOption = DEFAULT_WAIT,
) -> None:
    """Show the instances, links and stores of a lattice, live: rates, latencies, errors, lag."""
    logs.configure("off", is_json=False)
    interval_seconds, wait_seconds = timeout_seconds(interval, "--interval"), timeout_seconds(wait, "--wait")
    settings = settings_of(target.options)
    with (
        contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):

        async def run() -> None:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    connecting = Connection(settings, "keyvalue-nats top", target.timeout_seconds)
                    async with patience(addresses(settings.servers)):
                        connection = await stack.enter_async_context(connecting)
                    rounds = _rounds(connection, lattice, interval_seconds, wait_seconds, count)
                    await (_show(rounds, sort) if sys.stdout.isatty() else _print(rounds, wait_seconds))
            except errors.ConnectError as error:
                raise UnreachableError(addresses(settings.servers), error.reason) from None
            except errors.PermissionsError as error:
                raise ServerRefusedError(str(error)) from None

        runner.run(run())


async def _rounds(
    connection: Connection, lattice: str | None, interval_seconds: float, wait_seconds: float, count: int
) -> AsyncIterator[Overview | None]:
    """Yield round after round; None while the connection is lost."""
    instances, rounds = Instances(connection, lattice), Rounds()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    number_of_rounds = 0
    while not count or number_of_rounds < count:
        if number_of_rounds:
            await asyncio.sleep(interval_seconds)
        number_of_rounds += 1
        try:
            found = await instances.gather(wait_seconds)
        except errors.NotConnectedError:
            yield None
        else:
            yield rounds.next(found, time.monotonic())


async def _print(rounds: AsyncIterator[Overview | None], wait_seconds: float) -> None:
    """Print each round to a pipe.

    Raises:
        typer.Exit: No instance has answered in any round.
    """
    has_any = False
    async for overview in rounds:
        if overview is None:
            write_line(stderr_console(), "the connection to NATS is lost; trying again", "yellow")
        elif not overview.instances:
            write_line(stderr_console(), f"no provider instance has answered within {wait_seconds:g} s", "yellow")
        else:
            has_any = True
            for line in lines(overview, datetime.now(UTC)):
                print_line(line)
    if not has_any:
        raise typer.Exit(1)


async def _show(rounds: AsyncIterator[Overview | None], sort: Sort) -> None:
    """Show each round on the terminal, until a key ends it."""
    console, view = stdout_console(), View(sort=sort)
    latest, remark = Overview([], [], [], Activity()), "asking the instances"
    task = asyncio.current_task()
    assert task is not None
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def draw() -> None:
            shown = picture(latest, view, lines=console.height, columns=console.width, remark=remark)
            live.update(shown, refresh=True)

        def press(name: str) -> None:
            if name == "q":
                task.cancel()
                return
            view.press(name, latest.links)
            draw()

        with keys(press):
            draw()
            async for overview in rounds:
                if view.is_paused:
                    continue
                if overview is not None:
                    latest = overview
                remark = _remark(overview)
                draw()


def _remark(overview: Overview | None) -> str:
    """Return the line to show in place of the keys; "" if there is nothing to remark."""
    if overview is None:
        return "the connection to NATS is lost; trying again"
    return "" if overview.instances else "no provider instance answers"
