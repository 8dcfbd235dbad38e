"""The command `keyvalue-nats` as a person types it; with no arguments it is the provider, and this is never loaded."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
from typer.core import TyperGroup

from provider.commands import call, state_proxy
from provider.commands.demo import command as demo
from provider.commands.dev import command as dev
from provider.commands.dev_lattice.errors import DevError
from provider.commands.kv.command import kv
from provider.commands.output import say, stderr_console
from provider.commands.par import command as par
from provider.commands.par.errors import ArchiveError

_DISTRIBUTION = "wasmcloud-keyvalue-nats"

_REWORDED = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r"Input should be a valid integer.*"), "expected a whole number"),
    (re.compile(r"Input should be a valid number.*"), "expected a number"),
    (re.compile(r"Input should be (?:less|greater) than or equal to (\S+)"), r"the limit is \1"),
)
"""What typer passes on from the library that it checks with."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            for pattern, text in _REWORDED:
                error.message = pattern.sub(text, error.message)
            raise


app = typer.Typer(
    name="keyvalue-nats",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A wasmCloud capability provider that serves wasmcloud:keyvalue from NATS JetStream.\n\n"
    "A lattice host starts it with no arguments and host data on standard input. The commands below are for people.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        try:
            typer.echo(version(_DISTRIBUTION))
        except PackageNotFoundError:
            typer.echo("not installed")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of every command."""


app.command("dev", epilog=dev.EXAMPLES)(dev.dev)
app.command("call", epilog=call.EXAMPLES, context_settings={"ignore_unknown_options": True})(call.call)
app.command("demo")(demo.demo)
app.command("state-proxy", epilog=state_proxy.EXAMPLES)(state_proxy.state_proxy)
app.add_typer(par.par, name="par")
app.add_typer(kv, name="kv")


def main() -> int:
    """Run the command line; return the exit code. What a person can mend is one line on standard error."""
    try:
        app()  # leaves with SystemExit
    except (DevError, ArchiveError) as error:
        say(stderr_console(), f"error: {error}", "red")
        return 1
    return 0
