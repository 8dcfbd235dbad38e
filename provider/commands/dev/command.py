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
from contracts.extensions import HandleChange
from contracts.lattice import check_subject_token
from provider.commands import connection_file
from provider.commands.connect import addresses
from provider.commands.dev.link_options import parse_link_values
from provider.commands.dev_lattice.lattice_host import Host
from provider.commands.dev_lattice.listener import listening
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from provider.commands.errors import NoAnswerError, ProviderExitError
from provider.commands.options import NATS, check_text
from provider.commands.output import change_line, event_line, stdout_console, write_line
from provider.keyvalue.link_forms import server_url

_HEALTH_SECONDS = 1.0

EXAMPLES = """Examples:

keyvalue-nats dev

keyvalue-nats dev --data-dir ./data --instances 3

keyvalue-nats dev --backend cache --instances 3

keyvalue-nats dev --link-value "WATCH=orders.*"

keyvalue-nats dev --nats nats://127.0.0.1:4222 --link-value BUCKET=users --link-value TTL=3600

NATS_SERVER_BINARY=/path/to/nats-server in the environment names the nats-server that is started. docs/settings.md has the settings of a link.
"""


class Backend(enum.StrEnum):
    BUCKET = "bucket"
    CACHE = "cache"


def dev(
    nats: str | None = NATS,
    link_value: list[str] = typer.Option(None, metavar="NAME=VALUE", help="A setting of the link; may be repeated."),
    backend: Backend | None = typer.Option(
        None, help="Where the link keeps its data; short for --link-value BACKEND=..."
    ),
    instances: int = typer.Option(1, min=1, max=32, help="How many provider processes share the invocations."),
    data_dir: Path | None = typer.Option(
        None, file_okay=False, help="Keep the data there; default: a temporary folder."
    ),
    port: int | None = typer.Option(
        None, min=1, max=65535, help="Of the nats-server that is started; default: a free one."
    ),
    link_name: str = typer.Option("default", help="The link's name."),
    lattice: str = typer.Option("default", help="The lattice's name."),
    quiet: bool = typer.Option(False, "--quiet", help="No line per invocation."),
) -> None:
    """Start a lattice with the provider and a linked actor; stay until Ctrl-C."""
    for option, given in (("--data-dir", data_dir), ("--port", port)):
        if nats is not None and given is not None:
            raise typer.BadParameter(
                "is of a nats-server that is started, and --nats names one that runs", param_hint=option
            )
    values = parse_link_values(link_value or [], None if backend is None else backend.value)
    for name, token in (("--lattice", lattice), ("--link-name", link_name)):
        check_text(token, name)
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
        port=port or 0,
        instances=instances,
        log_level="info" if quiet else "debug",
    )
    asyncio.run(_serve(settings))


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
            write_line(console, line)

    def show_change(change: HandleChange) -> None:
        write_line(console, change_line(change, datetime.now().astimezone()))

    with contextlib.suppress(asyncio.CancelledError), connection_file.reserved(settings.lattice):
        async with running(settings, show) as lattice, listening(lattice.connection, lattice.identity, show_change):
            with connection_file.announced(lattice.identity, lattice.nats_url):
                _greet(console, lattice)
                await _watch_over(console, lattice)
    write_line(console, "stopped", "dim")


def _once(function: Callable[[], object]) -> Callable[[], None]:
    """Let the first signal stop the lattice, and a second one not disturb the stopping."""
    left = [function]

    def call() -> None:
        if left:
            left.pop()()

    return call


async def _watch_over(console: Console, lattice: DevLattice) -> None:
    """Stay until what was started has ended, which is an error.

    Raises:
        DevError: Every provider process, or the nats-server.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_all_ended(console, lattice.hosts))
            tasks.create_task(_tell_health(console, lattice.hosts[0]))
            if lattice.server is not None:
                tasks.create_task(lattice.server.fail_when_ended())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _tell_health(console: Console, host: Host) -> None:
    """Say when the link does not work, and when it does again."""
    told = None
    task = asyncio.current_task()
    assert task is not None
    while not task.cancelling():  # Python 3.11's wait_for, in nats-py, may swallow what cancels it
        with contextlib.suppress(NoAnswerError):
            trouble = await host.unhealthy_reason()
            if trouble != told:
                text = "the link works again" if trouble is None else f"the link does not work: {trouble}"
                write_line(console, text, "green" if trouble is None else "red")
            told = trouble
        await asyncio.sleep(_HEALTH_SECONDS)


async def _all_ended(console: Console, hosts: list[Host]) -> None:
    await asyncio.gather(*(_ended(console, host) for host in hosts))
    raise ProviderExitError("every provider process has ended")


async def _ended(console: Console, host: Host) -> None:
    pid = host.provider.pid
    code = await host.provider.wait()
    write_line(console, f"provider process {pid} ended with code {code}", "red")


def _greet(console: Console, lattice: DevLattice) -> None:
    settings, link = lattice.settings, lattice.identity
    write_line(console, "The development lattice is running. In another terminal:", "bold")
    write_line(console, "")
    write_line(console, "    keyvalue-nats call Set user:1 Ann --expires 60")
    write_line(console, "    keyvalue-nats call Get user:1")
    if not settings.is_cache:
        write_line(console, f"    keyvalue-nats kv ls {settings.bucket}{_elsewhere(settings)}", "dim")
    write_line(console, "")
    for name, value in (
        ("nats", addresses((lattice.nats_url,))),
        ("lattice", f"{link.lattice}, link {link.link_name}"),
        ("provider", f"{link.provider_key}, {settings.instances} process{'es' if settings.instances > 1 else ''}"),
        ("actor", link.actor_id),
    ):
        write_line(console, f"    {name:<9} {value}", "dim")
    write_line(console, "Ctrl-C stops it.", "dim")


def _elsewhere(settings: LatticeSettings) -> str:
    """Return the option that leads to the link's own server, if it has one; without it `kv` finds the lattice's."""
    servers = settings.link_value("URL")
    return f" --nats {addresses(tuple(server_url(server.strip()) for server in servers.split(',')))}" if servers else ""
