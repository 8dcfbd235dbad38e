"""`keyvalue-nats call`: calls the provider of a development lattice that runs in another terminal."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from contracts.extensions import ListKeysResponse
from contracts.keyvalue import GetResponse, Request
from contracts.operations import operation_name
from contracts.wrpc import WrpcCall, function_name
from provider.commands import connection_file
from provider.commands.arguments import OPERATIONS, operation_names, request_from
from provider.commands.component_arguments import BinaryResponse, component_call_from, shown_result
from provider.commands.connection_file import ConnectionFile
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.component import Component
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.lattice_connection import connected
from provider.commands.errors import CommandError, NoLatticeError
from provider.commands.options import parse_option, timeout_seconds
from provider.commands.output import plain_result, stderr_console, write_line
from provider.commands.patience import patience
from provider.commands.printing import print_bytes, print_line, print_object
from provider.commands.value_sources import read_bytes, read_value
from provider.tasks import run_interruptible
from provider.units import parse_whole_seconds

EXAMPLES = f"""\b
Operations:
{OPERATIONS}

\b
Examples:
  keyvalue-nats call Set user:1 Ann --expires 60
  keyvalue-nats call Get user:1
  keyvalue-nats call Increment visits -5
  keyvalue-nats call ListRange jobs 0 -1
  keyvalue-nats call SetUnion red blue --json
  keyvalue-nats call Create lock mine --expires 30
  keyvalue-nats call CompareAndSwap page new 17
  keyvalue-nats call SetMany a=1 b=2
  keyvalue-nats call ListKeys user:
  keyvalue-nats call Set page @index.html
  date | keyvalue-nats call ListAdd log -

A text to write may be - for standard input, or @FILE for the content of a file; @@ begins a text with @.

Put -- before values of which one begins with - and is not a number:  keyvalue-nats call Set -- k --json

Exit codes: 0 if the provider answered, also with false or success=false; 1 for an error of the provider, or no answer;
2 if the command line is not valid. After an error nothing has changed, unless it says: outcome unknown.
"""


def call(
    operation: Annotated[
        str,
        typer.Argument(
            help="Name of the operation, in any letter case; KeyValue.Get is the same as Get.",
            autocompletion=operation_names,
        ),
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments of the operation, see below.")] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Time until a written value expires, e.g. 60s or 1h30m; 0 means never."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    lattice: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the lattice, if several run. Default: the one started last."),
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="Limit for connecting, and for the answer.")] = "5s",
) -> None:
    """Call the provider once, as an actor or a component of the lattice, and print the result of the operation."""
    seconds = None if expires is None else parse_option(parse_whole_seconds, expires, "--expires")
    limit_seconds = timeout_seconds(timeout)
    try:
        found = _running_lattice(lattice)
    except NoLatticeError:
        request_from(operation, arguments or [], seconds)  # a slip is told first; most lattices are of actors
        raise
    request = _request(found, operation, arguments or [], seconds)
    try:
        result = run_interruptible(_send(request, found, limit_seconds))
    except CommandError as error:
        if json:
            print_object({"operation": _name(request), "error": str(error)})
        raise
    if json:
        print_object({"operation": _name(request), "result": to_builtins(result, enc_hook=str)})
    else:
        _print(result)


def _request(found: ConnectionFile, operation: str, arguments: list[str], expires: int | None) -> Request | WrpcCall:
    """Return the call in the dialect of a lattice."""
    if found.dialect is Dialect.WASMCLOUD1:
        return component_call_from(operation, arguments, expires, read_bytes)
    return request_from(operation, arguments, expires, read_value)


def _name(request: Request | WrpcCall) -> str:
    return function_name(type(request)) if isinstance(request, WrpcCall) else operation_name(request)


def _running_lattice(name: str | None) -> ConnectionFile:
    """Return the lattice to call. If several run and none was named, report which one was chosen."""
    found = connection_file.find(name)
    others = [repr(other.lattice) for other in connection_file.all_running() if other != found]
    if name is None and others:
        text = f"lattice {found.lattice!r}; use --lattice to choose another: {', '.join(others)}"
        write_line(stderr_console(), text, "dim")
    return found


async def _send(request: Request | WrpcCall, found: ConnectionFile, limit_seconds: float) -> Any:
    async with patience("the provider's answer"), connected(found.nats_url, limit_seconds) as connection:
        if isinstance(request, WrpcCall):
            component = Component(connection, found.identity, timeout_seconds=limit_seconds)
            return shown_result(request, await component.call(request))
        return await Actor(connection, found.identity, timeout_seconds=limit_seconds).call(request)


def _print(result: Any) -> None:
    """Print a result for scripts. Remarks (no value, more keys) go to standard error."""
    if isinstance(result, BinaryResponse) and not sys.stdout.isatty():
        print_bytes(result.value)
        return
    if isinstance(result, GetResponse) and not result.exists:
        write_line(stderr_console(), "(no value)", "dim")
    for line in plain_result(result):
        print_line(line, "\n\t" if isinstance(result, GetResponse) else "")
    if isinstance(result, ListKeysResponse) and result.cursor:
        write_line(stderr_console(), f"more: cursor {result.cursor}", "dim")
