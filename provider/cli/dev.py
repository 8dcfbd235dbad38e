"""`keyvalue-nats dev`: a development lattice in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console

from contracts.codec import MalformedError
from contracts.lattice import check_subject_token
from provider.cli.output import event_line, say, stdout_console
from provider.dev import connection_file
from provider.dev.errors import ProviderExitError
from provider.dev.host import Host, LogEvent
from provider.dev.lattice import DevLattice, LatticeSettings, running

EXAMPLES = """Examples:

keyvalue-nats dev

keyvalue-nats dev --data-dir ./data --instances 3

keyvalue-nats dev --backend cache --instances 3

keyvalue-nats dev --nats nats://127.0.0.1:4222 --link-value BUCKET=users --link-value TTL=3600
"""


class Backend(enum.StrEnum):
    BUCKET = "bucket"
    CACHE = "cache"


def dev(
    nats: str = typer.Option(None, metavar="URL", help="Use this nats-server instead of starting one."),
    link_value: list[str] = typer.Option(None, metavar="NAME=VALUE", help="A setting of the link; may be repeated."),
    backend: Backend = typer.Option(None, help="Where the link keeps its data; short for --link-value BACKEND=..."),
    instances: int = typer.Option(1, min=1, max=32, help="How many provider processes share the invocations."),
    data_dir: Path = typer.Option(None, file_okay=False, help="Keep the data there; default: a temporary folder."),
    link_name: str = typer.Option("default", help="The link's name."),
    lattice: str = typer.Option("default", help="The lattice's name."),
    quiet: bool = typer.Option(False, "--quiet", help="No line per invocation."),
) -> None:
    """Start a lattice with the provider and a linked actor; stay until Ctrl-C."""
    values = _link_values(link_value or [], backend)
    for name, token in (("--lattice", lattice), ("--link-name", link_name)):
        try:
            check_subject_token(name, token, "option")
        except MalformedError:
            text = f"{token!r} has a character that no subject may have, or is empty"
            raise typer.BadParameter(text, param_hint=name) from None
    settings = LatticeSettings(
        lattice=lattice,
        link_name=link_name,
        link_values=values,
        nats_url=nats,
        data_folder=data_dir,
        instances=instances,
        log_level="info" if quiet else "debug",
    )
    asyncio.run(_serve(settings))


def _link_values(given: list[str], backend: Backend | None) -> dict[str, str]:
    values = {}
    for pair in given:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--link-value")
        values[name] = value
    return values | ({"BACKEND": backend.value} if backend else {})


async def _serve(settings: LatticeSettings) -> None:
    """Run until the first Ctrl-C or SIGTERM, also one during the start; then stop everything in order."""
    console = stdout_console()
    stop = asyncio.current_task()
    assert stop is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _once(stop.cancel))

    def show(event: LogEvent) -> None:
        line = event_line(event, datetime.now().astimezone())
        if line is not None:
            say(console, line)

    with contextlib.suppress(asyncio.CancelledError):
        async with running(settings, show) as lattice:
            with connection_file.announced(lattice.link, lattice.nats_url):
                _greet(console, lattice)
                await asyncio.gather(*(_ended(console, host) for host in lattice.hosts))
                raise ProviderExitError("every provider process has ended")
    say(console, "stopped", "dim")


def _once(function: Callable[[], object]) -> Callable[[], None]:
    """Let the first signal stop the lattice, and a second one not disturb the stopping."""
    left = [function]

    def call() -> None:
        if left:
            left.pop()()

    return call


async def _ended(console: Console, host: Host) -> None:
    pid = host.provider.pid
    code = await host.provider.wait()
    say(console, f"provider process {pid} ended with code {code}", "red")


def _greet(console: Console, lattice: DevLattice) -> None:
    settings, link = lattice.settings, lattice.link
    say(console, "The development lattice is running. In another terminal:", "bold")
    say(console, "")
    say(console, "    keyvalue-nats call Set user:1 Ann --expires 60")
    say(console, "    keyvalue-nats call Get user:1")
    if not settings.is_cache:
        say(console, f"    nats --server {lattice.nats_url} kv ls {settings.bucket}", "dim")
    say(console, "")
    for name, value in (
        ("nats", lattice.nats_url),
        ("lattice", f"{link.lattice}, link {link.link_name}"),
        ("provider", f"{link.provider_key}, {settings.instances} process{'es' if settings.instances > 1 else ''}"),
        ("actor", link.actor_id),
    ):
        say(console, f"    {name:<9} {value}", "dim")
    say(console, "Ctrl-C stops it.", "dim")
