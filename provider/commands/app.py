"""The command line `keyvalue-nats`. Without arguments the program is the provider, and this module is never loaded."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from provider.commands import call, state_proxy
from provider.commands.demo import command as demo
from provider.commands.dev import command as dev
from provider.commands.errors import CommandError, UsageError
from provider.commands.kv.command import kv
from provider.commands.output import stderr_console, write_line
from provider.commands.par import command as par
from provider.errors import StoreError

_DISTRIBUTION = "wasmcloud-keyvalue-nats"

_REWORDED = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r"Input should be a valid integer.*"), "expected a whole number"),
    (re.compile(r"Input should be a valid number.*"), "expected a number"),
    (re.compile(r"Input should be (?:less|greater) than or equal to (\S+)"), r"the limit is \1"),
)
"""Messages of pydantic, with which typer validates some options, in the words of the other commands."""


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
    "A lattice host starts it without arguments and writes host data to its standard input. "
    "The commands below are for people.",
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
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options of every command."""


app.command("dev", epilog=dev.EXAMPLES)(dev.dev)
app.command("call", epilog=call.EXAMPLES, context_settings={"ignore_unknown_options": True})(call.call)
app.command("demo")(demo.demo)
app.command("state-proxy", epilog=state_proxy.EXAMPLES)(state_proxy.state_proxy)
app.add_typer(par.par, name="par")
app.add_typer(kv, name="kv")


def main() -> int:
    """Run the command line; return the exit code. An error that a person can act on is one line on standard error."""
    try:
        app()  # exits with SystemExit
    except (CommandError, StoreError) as error:
        is_usage = isinstance(error, UsageError)
        write_line(stderr_console(), f"{'usage' if is_usage else 'error'}: {error}", "red")
        return 2 if is_usage else 1
    return 0
