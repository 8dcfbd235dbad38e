"""The command `exporter`: its options, and its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from provider import logs
from provider.commands.connect import addresses, settings_of
from provider.commands.errors import MissingExtraError, UnreachableError
from provider.commands.options import DEFAULT_WAIT, LatticeOption, WaitOption, timeout_seconds
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.commands.printing import flushed
from provider.commands.target import Target
from provider.errors import ConnectError

if TYPE_CHECKING:
    from provider.commands.exporter.serving import Exporter

DEFAULT_PORT = 9789
"""In the range that exporters use by custom."""

EXAMPLES = f"""\b
Examples:
  keyvalue-nats exporter
  keyvalue-nats exporter --nats nats://hub:4222 \\
      --creds monitor.creds --lattice production
  keyvalue-nats exporter --once
  keyvalue-nats exporter --address 0.0.0.0 --port {DEFAULT_PORT}

Prometheus scrapes http://127.0.0.1:{DEFAULT_PORT}/metrics. It scrapes one exporter for all providers of a lattice.

Exit codes: 0 if it was stopped; 1 if the port is in use; 2 if the command line is not valid. With --once: 0 if an instance
has answered; 1 if NATS cannot be reached; 3 if no instance has answered.
"""

_NO_INSTANCE = 3


def exporter(
    target: Target,
    lattice: LatticeOption = None,
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 is every address of the machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = DEFAULT_PORT,
    wait: WaitOption = DEFAULT_WAIT,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and exit.")] = False,
) -> None:
    """Serve the metrics of all provider instances of a lattice to Prometheus."""
    logs.configure("off", is_json=False)
    wait_seconds = timeout_seconds(wait, "--wait")
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def run() -> None:
            made = _exporter(target, lattice, wait_seconds, report=_ignore if once else _report)
            if once:
                await _print_once(made, target.timeout_seconds)
            else:
                await _serve(made, target.timeout_seconds, address, port)

        runner.run(run())


def _exporter(target: Target, lattice: str | None, wait_seconds: float, report: Callable[[str], None]) -> Exporter:
    try:
        from provider.commands.exporter.serving import Exporter
    except ImportError:
        raise MissingExtraError("exporter") from None
    return Exporter(settings_of(target.options), lattice, wait_seconds, report)


async def _print_once(exporter: Exporter, timeout_seconds: float) -> None:
    """Print one scrape.

    Raises:
        UnreachableError: NATS cannot be asked. The metrics are printed all the same.
        typer.Exit: No instance has answered.
    """
    reason = ""
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(exporter.connected(timeout_seconds))
        except ConnectError as error:
            reason = exporter.reason = error.reason
        text, count = await exporter.text()
    with flushed():
        sys.stdout.write(text)
    if exporter.reason:
        raise UnreachableError(addresses(exporter.settings.servers), reason or exporter.reason)
    if not count:
        of_lattice = f" of lattice {exporter.lattice!r}" if exporter.lattice else ""
        text = f"error: no provider instance{of_lattice} has answered within {exporter.wait_seconds:g} s"
        write_line(stderr_console(), text, "red")
        raise typer.Exit(_NO_INSTANCE)


async def _serve(exporter: Exporter, timeout_seconds: float, address: str, port: int) -> None:
    """Serve until a signal."""
    from provider.commands.exporter.serving import serving

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(exporter, address, port) as bound:
        shown = f"[{address}]" if ":" in address else address
        write_line(stdout_console(), f"metrics: http://{shown}:{bound}/metrics")
        sys.stdout.flush()
        connecting = asyncio.create_task(exporter.stay_connected(timeout_seconds))
        await stopped.wait()
        connecting.cancel()
        await asyncio.wait({connecting})


def _report(reason: str) -> None:
    """Tell the operator of a change of the connection, on standard error."""
    write_line(
        stderr_console(), f"{reason}; trying again" if reason else "connected to NATS", "yellow" if reason else "dim"
    )


def _ignore(reason: str) -> None:
    """Tell nothing: with `--once`, the error at the end has the reason."""
