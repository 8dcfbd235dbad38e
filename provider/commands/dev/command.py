"""`keyvalue-nats dev`: runs a development lattice in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.extensions import HandleChange
from contracts.lattice import check_subject_token
from provider.commands import connection_file
from provider.commands.dev.greeting import greeting
from provider.commands.dev.page import Listeners, Page, no_page, page_of
from provider.commands.dev_lattice.component_listener import component_listening
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.lattice_host import Host
from provider.commands.dev_lattice.link_options import link_value_names, parse_link_values
from provider.commands.dev_lattice.listener import listening
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from provider.commands.errors import NoAnswerError, ProviderExitError
from provider.commands.options import NatsOption, check_text
from provider.commands.output import change_line, event_line, stdout_console, write_line
from provider.keyvalue.link_values import Backend
from provider.tasks import run_interruptible

_HEALTH_SECONDS = 1.0
"""Pause between health checks: a person notices within a second, and hosts themselves ask every 30 seconds."""

EXAMPLES = """\b
Examples:
  keyvalue-nats dev
  keyvalue-nats dev --data-dir ./data --instances 3
  keyvalue-nats dev --backend cache --instances 3
  keyvalue-nats dev --watch "orders.*"
  keyvalue-nats dev --ui
  keyvalue-nats dev --host 1.x
  keyvalue-nats dev --nats nats://127.0.0.1:4222 \\
      --link-value BUCKET=users --link-value TTL=3600

The environment variable NATS_SERVER_BINARY names the nats-server to start. docs/settings.md lists the settings of a link.
"""


PagePortOption = Annotated[
    int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Port of the page. Default: a free one.")
]


def dev(
    nats: NatsOption = None,
    link_value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Setting of the link; may be repeated.", autocompletion=link_value_names
        ),
    ] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="Backend of the link; the same as --link-value BACKEND=...")
    ] = None,
    host: Annotated[
        Dialect, typer.Option(help="Family of hosts: 0.x calls with signed invocations, 1.x over wRPC.")
    ] = Dialect.WASMBUS,
    instances: Annotated[
        int,
        typer.Option(metavar="NUMBER", min=1, max=32, help="Number of provider processes that share the invocations."),
    ] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", file_okay=False, help="Folder for the data. Default: a temporary folder."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Port of the started nats-server. Default: a free one."),
    ] = None,
    link_name: Annotated[str, typer.Option(metavar="NAME", help="Name of the link.")] = "default",
    lattice: Annotated[str, typer.Option(metavar="NAME", help="Name of the lattice.")] = "default",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show a line per invocation.")] = False,
    watch: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Show the changes of these keys; the same as --link-value WATCH=..."),
    ] = None,
    ui: Annotated[
        bool, typer.Option("--ui", help="Show the lattice on a page in the browser, on this machine.")
    ] = False,
    ui_port: PagePortOption = None,
) -> None:
    """Start a lattice with the provider and a linked actor, and run it until Ctrl-C."""
    for option, given in (("--data-dir", data_dir), ("--port", port)):
        if nats is not None and given is not None:
            text = "it is for a nats-server that this command starts, and --nats names a running one"
            raise typer.BadParameter(text, param_hint=option)
    if ui_port is not None and not ui:
        raise typer.BadParameter("it needs --ui", param_hint="--ui-port")
    _check_names({"--lattice": lattice, "--link-name": link_name})
    options = {"BACKEND": None if backend is None else backend.value, "WATCH": watch}
    values = parse_link_values(link_value or [], {name: text for name, text in options.items() if text is not None})
    settings = LatticeSettings(
        lattice=lattice,
        dialect=host,
        link_name=link_name,
        link_values=values,
        nats_url=nats,
        data_folder=data_dir,
        port=port or 0,
        instances=instances,
        log_level="info" if quiet and not ui else "debug",
    )
    run_interruptible(_serve(settings, page_of(ui_port or 0) if ui else no_page, is_quiet=quiet))


def _check_names(names: dict[str, str]) -> None:
    """Refuse names, by their options, that cannot be part of a subject."""
    for option, name in names.items():
        check_text(name, option)
        try:
            check_subject_token(option, name, "option")
        except MalformedError:
            text = f"{name!r} is empty or has a character that is not allowed in a subject"
            raise typer.BadParameter(text, param_hint=option) from None


async def _serve(settings: LatticeSettings, page: Page, *, is_quiet: bool) -> None:
    """Run until the first Ctrl-C or SIGTERM, which may arrive during the start, then stop everything in order."""
    console = stdout_console()
    stop = asyncio.current_task()
    assert stop is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _once(stop.cancel))

    listeners = Listeners()

    def show(event: LogEvent) -> None:
        for listener in listeners.callbacks:
            listener(event)
        if event.fields.get("actor_id") in listeners.hidden_actors or (is_quiet and event.level == "debug"):
            return
        line = event_line(event, datetime.now().astimezone(), has_instances=settings.instances > 1)
        if line is not None:
            write_line(console, line)

    def show_change(change: HandleChange | wrpc.WrpcCall) -> None:
        write_line(console, change_line(change, datetime.now().astimezone()))

    listen = component_listening if settings.dialect is Dialect.WASMCLOUD1 else listening
    with contextlib.suppress(asyncio.CancelledError), connection_file.reserved(settings.lattice):
        async with running(settings, show) as lattice, listen(lattice.connection, lattice.identity, show_change):
            with connection_file.announced(lattice.identity, lattice.nats_url):
                async with page(lattice, listeners) as url:
                    for text, style in greeting(lattice, url):
                        write_line(console, text, style)
                    await _supervise(console, lattice)
    write_line(console, "stopped", "dim")


def _once(function: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls `function` once: a second signal must not interrupt the stopping."""
    left = [function]

    def call() -> None:
        if left:
            left.pop()()

    return call


async def _supervise(console: Console, lattice: DevLattice) -> None:
    """Report the health of the link until a child process ends.

    Raises:
        DevError: All provider processes have ended, or the nats-server has.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_all_ended(console, lattice.hosts))
            tasks.create_task(_report_health(console, lattice.hosts[0]))
            if lattice.server is not None:
                tasks.create_task(lattice.server.fail_when_ended())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _report_health(console: Console, host: Host) -> None:
    """Report every change between a link that works and one that does not."""
    reported = None
    task = asyncio.current_task()
    assert task is not None
    while not task.cancelling():  # asyncio.wait_for of Python 3.11, in nats-py, may swallow a cancellation
        with contextlib.suppress(NoAnswerError):
            reason = await host.unhealthy_reason()
            if reason != reported:
                text = "the link works again" if reason is None else f"the link does not work: {reason}"
                write_line(console, text, "green" if reason is None else "red")
            reported = reason
        await asyncio.sleep(_HEALTH_SECONDS)


async def _all_ended(console: Console, hosts: list[Host]) -> None:
    await asyncio.gather(*(_ended(console, host) for host in hosts))
    raise ProviderExitError("every provider process has ended")


async def _ended(console: Console, host: Host) -> None:
    pid = host.provider.pid
    code = await host.provider.wait()
    write_line(console, f"provider process {pid} ended with code {code}", "red")
