"""The command line `keyvalue-nats`. Without arguments the program is the provider, and this module is never loaded.

Each command is imported once it is named: all of them together take fifty times as long as the start of Python.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from typing import Annotated, Any

import typer

from provider.commands.command_line import CommandGroup, LaterCommand, single
from provider.commands.errors import CommandError, OutputError
from provider.commands.printing import adapt_output, discard, report, without_seeds
from provider.errors import StoreError
from provider.nats.light_import import import_nats

_DISTRIBUTION = "wasmcloud-keyvalue-nats"

_REWORDED = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r"Input should be a valid integer.*"), "expected a whole number"),
    (re.compile(r"Input should be a valid number.*"), "expected a number"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"expected \1 at most"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"expected \1 at least"),
    (
        re.compile(r"Got unexpected extra argument\(?s?\)? \((.*)\)"),
        r"unexpected: \1 (a value with spaces needs quotes)",
    ),
)
"""Messages of typer, and of pydantic, with which it validates some options, in the words of the other commands."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a write to a redirected output. Files that a command writes itself have their names in its errors."""

_CommandLineError: Any = typer.BadParameter.__base__
"""Every error of typer's about the command line."""


def _dev() -> typer.Typer:
    from provider.commands.dev.command import EXAMPLES, dev

    return single("dev", dev, EXAMPLES)


def _call() -> typer.Typer:
    import_nats()
    from provider.commands.call import EXAMPLES, call

    return single("call", call, EXAMPLES)


def _demo() -> typer.Typer:
    from provider.commands.demo.command import demo

    return single("demo", demo)


def _state_proxy() -> typer.Typer:
    from provider.commands.state_proxy import EXAMPLES, state_proxy

    return single("state-proxy", state_proxy, EXAMPLES)


def _settings() -> typer.Typer:
    from provider.commands.settings.command import EXAMPLES, settings_command

    return single("settings", settings_command, EXAMPLES)


def _check() -> typer.Typer:
    import_nats()
    from provider.commands.check.command import EXAMPLES, check
    from provider.commands.target import with_target

    return single("check", with_target(check), EXAMPLES)


def _exporter() -> typer.Typer:
    import_nats()
    from provider.commands.exporter.command import EXAMPLES, exporter
    from provider.commands.target import with_target

    return single("exporter", with_target(exporter), EXAMPLES)


def _top() -> typer.Typer:
    import_nats()
    from provider.commands.target import with_target
    from provider.commands.top.command import EXAMPLES, top

    return single("top", with_target(top), EXAMPLES)


def _import() -> typer.Typer:
    import_nats()
    from provider.commands.kv.import_command import EXAMPLES, import_redis
    from provider.commands.target import with_target

    return single("import", with_target(import_redis), EXAMPLES)


def _par() -> typer.Typer:
    from provider.commands.par.command import par

    return par


def _kv() -> typer.Typer:
    import_nats()
    from provider.commands.kv.command import kv

    return kv


class _Commands(CommandGroup):
    later = (
        LaterCommand("dev", "Start a lattice with the provider and a linked actor, and run it until Ctrl-C.", _dev),
        LaterCommand(
            "call",
            "Call the provider once, as an actor or a component of the lattice, and print the result of the operation.",
            _call,
        ),
        LaterCommand("demo", "Run all operations and check every promise; exit code 1 if one is broken.", _demo),
        LaterCommand(
            "state-proxy",
            "Run the state-proxy connector nats-kv-buffered-cas: keep an actor's files, sent over a Unix socket, in a bucket.",
            _state_proxy,
        ),
        LaterCommand("settings", "List the settings of links and of the provider, or explain one.", _settings),
        LaterCommand(
            "check",
            "Look for what keeps a provider from working, and say what to do: servers, permissions, JetStream, buckets, clocks.",
            _check,
        ),
        LaterCommand("exporter", "Serve the metrics of all provider instances of a lattice to Prometheus.", _exporter),
        LaterCommand(
            "top", "Show the instances, links and stores of a lattice, live: rates, latencies, errors, lag.", _top
        ),
        LaterCommand(
            "par",
            "Build a provider archive: signed claims, and one executable per target that hosts start directly.",
            _par,
        ),
        LaterCommand("kv", "Manage buckets, as the `nats kv` command does.", _kv),
        LaterCommand(
            "import", "Copy texts, lists and sets of a Redis database into a bucket, with their expiry.", _import
        ),
    )

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _CommandLineError as error:
            for pattern, text in _REWORDED:
                error.message = pattern.sub(text, error.message)
            error.message = without_seeds(error.message)
            raise


app = typer.Typer(
    name="keyvalue-nats",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A wasmCloud capability provider that serves wasmcloud:keyvalue from NATS JetStream.\n\n"
    "A lattice host starts it without arguments and writes host data to its standard input. "
    "The commands below are for people.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import PackageNotFoundError, version

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


def main() -> int:
    """Run the command line; return the exit code. An error that a person can act on is one line on standard error."""
    # In a locale without UTF-8, Python decodes what the shell passes by another encoding.
    sys.argv = [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv]
    adapt_output()
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
        return report(OutputError((error.strerror or "error").lower()))


def _run() -> int:
    try:
        app(prog_name="keyvalue-nats")
    except KeyboardInterrupt:  # before typer has taken over, or while it ends
        return 128 + signal.SIGINT
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (CommandError, StoreError) as error:
        return report(error)
    return 0
