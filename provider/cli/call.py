"""`keyvalue-nats call`: one signed invocation to the development lattice that runs in another terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import msgspec
import typer

from contracts.keyvalue import GetResponse, Request, operation_name
from provider.cli.arguments import ArgumentsError, request_from
from provider.cli.output import plain_result, say, stderr_console
from provider.dev import connection_file
from provider.dev.actor import Actor
from provider.dev.errors import DevError
from provider.dev.lattice import connected

EXAMPLES = """Examples:

keyvalue-nats call Set user:1 Ann --expires 60

keyvalue-nats call Get user:1

keyvalue-nats call Increment visits -5

keyvalue-nats call ListRange jobs 0 -1

keyvalue-nats call SetUnion red blue --json

A text that begins with -- goes behind a lone --:  keyvalue-nats call Set k -- --json
"""


def call(
    operation: str = typer.Argument(help="One of the fifteen, in any letter case; KeyValue.Get is Get."),
    arguments: list[str] = typer.Argument(None, help="The operation's arguments, in the contract's order."),
    expires: int = typer.Option(None, metavar="SECONDS", help="When a value that is Set goes away; 0: never."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object, for machines."),
    lattice: str = typer.Option(None, help="Which lattice, if several run."),
    timeout: float = typer.Option(5.0, metavar="SECONDS", help="How long to wait for the answer."),
) -> None:
    """Send one signed invocation and print what the operation answers."""
    try:
        request = request_from(operation, arguments or [], expires)
    except ArgumentsError as error:
        say(stderr_console(), f"usage: {error}", "red")
        raise typer.Exit(2) from None
    try:
        result = asyncio.run(_send(request, lattice, timeout))
    except DevError as error:
        if json:
            _print_json({"operation": operation_name(request), "error": str(error)})
        say(stderr_console(), f"error: {error}", "red")
        raise typer.Exit(1) from None
    if json:
        _print_json({"operation": operation_name(request), "result": result})
    else:
        _print(result)


async def _send(request: Request, lattice: str | None, timeout_seconds: float) -> Any:
    found = connection_file.find(lattice)
    async with contextlib.AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(found.nats_url))
        return await Actor(connection, found.link, timeout_seconds=timeout_seconds).call(request)


def _print_json(answer: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


def _print(result: Any) -> None:
    """Print a result so that a script can read it; that there is none goes to standard error."""
    if isinstance(result, GetResponse) and not result.exists:
        say(stderr_console(), "(no value)", "dim")
    for line in plain_result(result):
        sys.stdout.write(line + "\n")
