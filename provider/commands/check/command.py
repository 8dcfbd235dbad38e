"""The command `check`, which an operator runs first when something is wrong."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from msgspec import to_builtins
from rich.text import Text

from provider import errors, logs
from provider.commands.check.examination import examine
from provider.commands.check.findings import EXIT_CODES, Finding, State, worst
from provider.commands.check.places import Places, places_of_line, places_of_values
from provider.commands.connect import LINK_VALUE_OPTIONS, settings_of
from provider.commands.dev_lattice.link_options import link_value_names, parse_link_values
from provider.commands.errors import OptionError
from provider.commands.output import stdout_console, write_line
from provider.commands.patience import patience
from provider.commands.printing import print_line, print_object
from provider.commands.target import Target
from provider.plain_text import printable

EXAMPLES = """\b
Examples:
  keyvalue-nats check --nats nats://hub:4222 --creds provider.creds
  keyvalue-nats check --nats nats://hub:4222 \\
      --link-value BUCKET=users --link-value REPLICAS=3
  keyvalue-nats check host-data.txt
  keyvalue-nats check - --json < host-data.json

FILE is the line that a host writes to the provider, in base64, or the JSON inside. It has the seed of the cluster: keep it secret.

Nothing is changed, on the server and in buckets. Each line begins with ok, note, warning or failed. A note changes no exit
code: it names a thing that was not looked at, or does not matter now.

Exit codes: 0 if all is well; 1 if something has failed; 2 if the command line is not valid; 3 if there are only warnings.
"""

_STYLES = {State.OK: "green", State.NOTE: "dim", State.WARNING: "yellow", State.FAILED: "bold red"}

_HOST_NAMES = {
    "CLIENT_JWT": "lattice_rpc_user_jwt and lattice_rpc_user_seed of the host data, or CLIENT_JWT of the link",
    "NKEY_SEED": "lattice_rpc_user_seed of the host data, or the seed of the link",
    "URL": "lattice_rpc_url of the host data, or URL of the link",
}
"""Link value of a connection -> the places where host data may have it."""

_WITH_FILE = "has no effect with FILE, which names the servers and the links"


def check(
    target: Target,
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Host data; - is standard input.", show_default=False)
    ] = None,
    link_value: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Setting of a link; may be repeated.", autocompletion=link_value_names),
    ] = None,
    link_name: Annotated[str, typer.Option(metavar="NAME", help="Name of that link.")] = "default",
    lattice: Annotated[str, typer.Option(metavar="NAME", help="Name of the lattice.")] = "default",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look for what keeps a provider from working, and say what to do: servers, permissions, JetStream, buckets, clocks."""
    logs.configure("off", is_json=False)
    if file is None:
        places, hints = _from_options(target, link_value or [], lattice, link_name), LINK_VALUE_OPTIONS
    else:
        _refuse_options(context)
        places, hints = places_of_line(_content(file), os.environ), _HOST_NAMES
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = runner.run(_show(places, lattice, hints, target.timeout_seconds, is_json=json))
    state = worst(findings)
    if json:
        print_object({"state": state.value, "findings": [to_builtins(finding) for finding in findings]})
    else:
        counts = [f"{sum(finding.state is each for finding in findings)} {each.value}" for each in State]
        print_line(", ".join(counts))
    if state in EXIT_CODES:
        raise typer.Exit(EXIT_CODES[state])


def _from_options(target: Target, pairs: list[str], lattice: str, link_name: str) -> Places:
    values = parse_link_values(pairs, {})
    try:
        return places_of_values(values, settings_of(target.options), lattice, link_name)
    except errors.LinkError as error:
        raise typer.BadParameter(str(error), param_hint="--link-value") from None


def _refuse_options(context: Any) -> None:
    """Refuse options that host data replaces. A variable of the environment may stay: other commands need it."""
    for parameter in context.command.params:
        is_typed = getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
        if is_typed and parameter.name not in ("file", "json", "timeout"):
            raise typer.BadParameter(_WITH_FILE, param_hint=parameter.opts[0])


def _content(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise OptionError("FILE", f"cannot be read: {reason.lower()}") from None


async def _show(
    places: Places, lattice: str, hints: Mapping[str, str], timeout_seconds: float, *, is_json: bool
) -> list[Finding]:
    """Examine; print each finding when it is made, unless one JSON object is wanted at the end."""
    console = stdout_console()
    found: list[Finding] = []

    def report(finding: Finding) -> None:
        found.append(finding)
        if not is_json:
            write_line(console, line(finding))

    async with patience("the servers"):
        await examine(places, lattice, hints, timeout_seconds, report)
    return found


def line(finding: Finding) -> Text:
    """Return a finding as one line: its state, its subject, the text, and the advice."""
    end = "" if finding.text.endswith(("?", ".")) else "."
    advice = f"{end} {finding.advice}" if finding.advice else ""
    text = Text(f"{finding.state.value:<8}", style=_STYLES[finding.state])
    return text.append(printable(f"{finding.about}: {finding.text}{advice}"), style="default")
