"""`keyvalue-nats call`: one signed invocation to the development lattice that runs in another terminal."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import typer

from contracts.extensions import ListKeysResponse
from contracts.keyvalue import GetResponse, Request
from contracts.operations import operation_name
from provider.commands import connection_file
from provider.commands.arguments import OPERATIONS, ArgumentsError, request_from
from provider.commands.connection_file import ConnectionFile
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.client import connected
from provider.commands.dev_lattice.errors import DevError
from provider.commands.options import timeout_seconds
from provider.commands.output import plain_result, say, stderr_console

EXAMPLES = f"""Operations:

\b
{OPERATIONS}

Examples:

keyvalue-nats call Set user:1 Ann --expires 60

keyvalue-nats call Get user:1

keyvalue-nats call Increment visits -5

keyvalue-nats call ListRange jobs 0 -1

keyvalue-nats call SetUnion red blue --json

keyvalue-nats call Create lock mine --expires 30

keyvalue-nats call CompareAndSwap page new 17

keyvalue-nats call SetMany a=1 b=2

keyvalue-nats call ListKeys user: "" 100

A text that begins with -- goes behind a lone --:  keyvalue-nats call Set k -- --json

Exit codes: 0 answered, also with success=false or false; 1 an error of the provider, or no answer; 2 what was typed cannot be used.
An error has changed nothing, unless it says: outcome unknown.
"""


def call(
    operation: str = typer.Argument(help="Its name in any letter case; KeyValue.Get is Get."),
    arguments: list[str] = typer.Argument(None, help="The operation's arguments, see below."),
    expires: int = typer.Option(None, metavar="SECONDS", help="When a value that is put goes away; 0: never."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object, for machines."),
    lattice: str = typer.Option(None, help="Which lattice, if several run; default: the one started last."),
    timeout: float = typer.Option(
        5.0, metavar="SECONDS", callback=timeout_seconds, help="How long to wait for a connection, and for the answer."
    ),
) -> None:
    """Send one signed invocation and print what the operation answers."""
    try:
        request = request_from(operation, arguments or [], expires)
    except ArgumentsError as error:
        say(stderr_console(), f"usage: {error}", "red")
        raise typer.Exit(2) from None
    try:
        result = asyncio.run(_send(request, _found(lattice), timeout))
    except DevError as error:
        if json:
            _print_json({"operation": operation_name(request), "error": str(error)})
        say(stderr_console(), f"error: {error}", "red")
        raise typer.Exit(1) from None
    if json:
        _print_json({"operation": operation_name(request), "result": result})
    else:
        _print(result)


def _found(lattice: str | None) -> ConnectionFile:
    """Return the lattice to call; of several, say which."""
    found = connection_file.find(lattice)
    others = [repr(other.lattice) for other in connection_file.all_running() if other != found]
    if lattice is None and others:
        say(stderr_console(), f"lattice {found.lattice!r}; --lattice takes another: {', '.join(others)}", "dim")
    return found


async def _send(request: Request, found: ConnectionFile, timeout_seconds: float) -> Any:
    async with connected(found.nats_url, timeout_seconds) as connection:
        return await Actor(connection, found.link, timeout_seconds=timeout_seconds).call(request)


def _print_json(answer: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


def _print(result: Any) -> None:
    """Print a result so that a script can read it; that there is none, or more, goes to standard error."""
    if isinstance(result, GetResponse) and not result.exists:
        say(stderr_console(), "(no value)", "dim")
    for line in plain_result(result):
        sys.stdout.write(line + "\n")
    if isinstance(result, ListKeysResponse) and result.cursor:
        say(stderr_console(), f"more: cursor {result.cursor}", "dim")
