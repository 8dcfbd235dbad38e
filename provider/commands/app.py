"""The command line `keyvalue-nats`. Without arguments the program is the provider, and this module is never loaded."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from provider.commands import call, state_proxy
from provider.commands.command_line import Command, Group
from provider.commands.demo import command as demo
from provider.commands.dev import command as dev
from provider.commands.errors import CommandError, OutputError, UsageError
from provider.commands.exporter import command as exporter
from provider.commands.kv.command import kv
from provider.commands.output import stderr_console, write_line
from provider.commands.par import command as par
from provider.commands.printing import discard
from provider.commands.settings import command as settings
from provider.commands.target import with_target
from provider.commands.top import command as top
from provider.errors import ProviderError, StoreError

_DISTRIBUTION = "wasmcloud-keyvalue-nats"

_REWORDED = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r"Input should be a valid integer.*"), "expected a whole number"),
    (re.compile(r"Input should be a valid number.*"), "expected a number"),
    (re.compile(r"Input should be (?:less|greater) than or equal to (\S+)"), r"the limit is \1"),
)
"""Messages of pydantic, with which typer validates some options, in the words of the other commands."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a write to a redirected output. Files that a command writes itself have their names in its errors."""

_SEED = (re.compile(r"\bS[A-Z][A-Z2-7]{56}\b"), "(a seed)")
"""The seed of an nkey, which a person may give where a file or a name is expected. No error shows it."""

_CommandLineError: Any = typer.BadParameter.__base__
"""Every error of typer's about the command line."""


class _Commands(Group):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _CommandLineError as error:
            for pattern, text in (*_REWORDED, _SEED):
                error.message = pattern.sub(text, error.message)
            raise


app = typer.Typer(
    name="keyvalue-nats",
    cls=_Commands,
    no_args_is_help=True,
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


app.command("dev", cls=Command, epilog=dev.EXAMPLES)(dev.dev)
app.command("call", cls=Command, epilog=call.EXAMPLES)(call.call)
app.command("demo", cls=Command)(demo.demo)
app.command("state-proxy", cls=Command, epilog=state_proxy.EXAMPLES)(state_proxy.state_proxy)
app.command("settings", cls=Command, epilog=settings.EXAMPLES)(settings.settings_command)
app.command("exporter", cls=Command, epilog=exporter.EXAMPLES)(with_target(exporter.exporter))
app.command("top", cls=Command, epilog=top.EXAMPLES)(with_target(top.top))
app.add_typer(par.par, name="par")
app.add_typer(kv, name="kv")


def main() -> int:
    """Run the command line; return the exit code. An error that a person can act on is one line on standard error."""
    # In a locale without UTF-8, Python decodes what the shell passes by another encoding.
    sys.argv = [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal's encoding lacks
    try:
        code = _run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has ended, as `head` does
        discard(sys.stdout)
        return 0
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        discard(sys.stdout)
        return _fail(OutputError((error.strerror or "error").lower()))


def _run() -> int:
    try:
        app()
    except KeyboardInterrupt:  # before typer has taken over, or while it ends
        return 128 + signal.SIGINT
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (CommandError, StoreError) as error:
        return _fail(error)
    return 0


def _fail(error: ProviderError) -> int:
    """Print an error and return its exit code, which counts also where it cannot be printed."""
    is_usage = isinstance(error, UsageError)
    try:
        text = _SEED[0].sub(_SEED[1], str(error))
        write_line(stderr_console(), f"{'usage' if is_usage else 'error'}: {text}", "red")
    except OSError:
        discard(sys.stderr)
    return 2 if is_usage else 1
