"""What all commands of `kv` share: options of the connection, one event loop, one line for what goes wrong, exit codes."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
import uvloop

from contracts.secret import Secret
from provider import errors, logs
from provider.commands import connection_file
from provider.commands.connect import ConnectionOptions, connected
from provider.commands.errors import CommandError, InvalidNameError, NoLatticeError, NotConfirmedError, OptionError
from provider.commands.kv.ending import Ending
from provider.commands.kv.printing import failed
from provider.nats.jetstream import JetStream
from provider.units import parse_seconds

T = TypeVar("T")

_CONNECTION = "Connection"
_DEFAULT_URL = "nats://127.0.0.1:4222"
MAX_REVISION = 2**64 - 1
_USAGE = (InvalidNameError, OptionError)


@dataclass(frozen=True)
class Target:
    """Where a command goes, and for how long it may take."""

    options: ConnectionOptions
    timeout_seconds: float


def _timeout(text: str) -> float:
    seconds = parsed(parse_seconds, text, "--timeout")
    if not 0 < seconds <= 3600:
        raise typer.BadParameter("expected more than nothing and at most an hour", param_hint="--timeout")
    return seconds


def _shared(
    nats: str = typer.Option(
        "",
        "--nats",
        "--server",
        "-s",
        envvar="NATS_URL",
        metavar="URL",
        help=f"Servers, comma-separated. Default: a running `keyvalue-nats dev`, else {_DEFAULT_URL}.",
        rich_help_panel=_CONNECTION,
    ),
    creds: str = typer.Option(
        "", envvar="NATS_CREDS", metavar="FILE", help="A credentials file.", rich_help_panel=_CONNECTION
    ),
    user: str = typer.Option(
        "", envvar="NATS_USER", help="A user, or without --password a token.", rich_help_panel=_CONNECTION
    ),
    password: str = typer.Option("", envvar="NATS_PASSWORD", help="Of the user.", rich_help_panel=_CONNECTION),
    nkey: str = typer.Option(
        "", envvar="NATS_NKEY", metavar="FILE", help="A file with an nkey's seed.", rich_help_panel=_CONNECTION
    ),
    tlsca: str = typer.Option(
        "", envvar="NATS_CA", metavar="FILE", help="Certificate authority.", rich_help_panel=_CONNECTION
    ),
    tlscert: str = typer.Option(
        "", envvar="NATS_CERT", metavar="FILE", help="Client certificate.", rich_help_panel=_CONNECTION
    ),
    tlskey: str = typer.Option("", envvar="NATS_KEY", metavar="FILE", help="Its key.", rich_help_panel=_CONNECTION),
    js_domain: str = typer.Option(
        "",
        "--js-domain",
        "--domain",
        envvar="NATS_JS_DOMAIN",
        help="The JetStream domain, across leaf nodes.",
        rich_help_panel=_CONNECTION,
    ),
    timeout: str = typer.Option(
        "5s",
        envvar="NATS_TIMEOUT",
        metavar="DURATION",
        help="How long to wait for a connection, and for each answer.",
        rich_help_panel=_CONNECTION,
    ),
) -> Target:
    """Return where to go; these are the options of every command."""
    is_bare = not any((nats, creds, user, password, nkey, tlsca, tlscert, tlskey))
    options = ConnectionOptions(
        url=nats or (_development_url() if is_bare else "") or _DEFAULT_URL,
        creds=creds,
        user=user,
        password=Secret(password),
        nkey=nkey,
        tls_ca=tlsca,
        tls_cert=tlscert,
        tls_key=tlskey,
        js_domain=js_domain,
    )
    return Target(options, _timeout(timeout))


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is a `Target`, the options of a connection in its place."""
    own, shared = inspect.signature(command, eval_str=True), inspect.signature(_shared, eval_str=True)

    def run(**given: Any) -> None:
        target = _shared(**{name: given.pop(name) for name in shared.parameters})
        command(target, **given)

    parameters = [*list(own.parameters.values())[1:], *shared.parameters.values()]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def perform(target: Target, work: Callable[[JetStream], Coroutine[Any, Any, T]], ending: Ending | None = None) -> T:
    """Connect, do something, and return what it returns. What goes wrong is one line on standard error.

    Raises:
        typer.Exit: With 1 when it failed, with 2 when what was typed cannot be used.
        asyncio.CancelledError: A signal has come for which `ending` waits.
    """
    logs.configure("off", is_json=False)

    async def run() -> T:
        if ending is not None:
            ending.cancels(asyncio.current_task())
        async with connected(target.options, target.timeout_seconds) as jetstream:
            return await work(jetstream)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    except _USAGE as error:
        raise failed(error, 2) from None
    except (CommandError, errors.StoreError) as error:
        raise failed(error) from None


def parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    """Return what an option says, or end with exit code 2."""
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def named(check: Callable[[str], str], name: str) -> str:
    """Return a name that can be used, or end with exit code 2."""
    try:
        return check(name)
    except InvalidNameError as error:
        raise failed(error, 2) from None


def is_confirmed(question: str, *, is_forced: bool) -> bool:
    """Ask, unless forced; the answer is a line of standard input.

    Raises:
        typer.Exit: With 1 when there is none.
    """
    if is_forced:
        return True
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        sys.stderr.write("\n")
        raise failed(NotConfirmedError())
    return answer.strip().lower() in ("y", "yes")


def _development_url() -> str:
    try:
        return connection_file.find().nats_url
    except NoLatticeError:
        return ""
