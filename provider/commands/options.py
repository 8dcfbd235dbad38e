"""Options that several commands take, and their validation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand

from provider.commands.connect import ConnectionOptions, settings_of
from provider.commands.errors import OptionError
from provider.suggestions import suggestion
from provider.units import parse_seconds

T = TypeVar("T")

_MAX_TIMEOUT_SECONDS = 3600
"""A longer wait is a mistyped option rather than an intention."""


def _one_server(url: str | None) -> str | None:
    """Return the URL of one server, with its scheme."""
    if url is None:
        return None
    check_text(url)
    try:
        servers = settings_of(ConnectionOptions(url)).servers
    except OptionError as error:
        raise typer.BadParameter(error.reason) from None
    if len(servers) != 1:
        raise typer.BadParameter("expected one server; the other servers of its cluster are found through it")
    return servers[0]


NatsOption = Annotated[
    str | None,
    typer.Option(metavar="URL", callback=_one_server, help="Use this nats-server instead of starting one."),
]

LatticeOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the lattice. Default: every lattice of the account.")
]
WaitOption = Annotated[str, typer.Option(metavar="DURATION", help="Limit for the answers of the provider instances.")]
DEFAULT_WAIT = "1s"
"""Instances answer within a millisecond beyond the round trip; the slowest links of clusters take some hundreds of them."""

_OPTION = re.compile(r"-(?!([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\Z).+", re.DOTALL | re.IGNORECASE)
"""A word that begins with a dash, other than a negative number and a dash alone."""


class _Argument(TyperArgument):
    """An argument whose help shows its name, and not the name of a type in Python."""

    @property
    def display_name_raw(self) -> str:
        return (self.metavar or self.name).upper()

    def display_type_rich(self, ctx: Any) -> None:
        """Return no name of a type."""


class Command(TyperCommand):
    """A command whose help has words for people only."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.__class__ = _Argument  # typer takes no class for arguments


class CommandWithValues(Command):
    """A command some of whose arguments are values. A negative number is one, an unknown option is not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {name: option for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)}
        unknown = _unknown_option(options, args)
        if unknown:
            raise _NoSuchOptionError(unknown, options, ctx)
        ctx.ignore_unknown_options = True  # only negative numbers look like such
        return super().parse_args(ctx, args)


class _NoSuchOptionError(typer.BadParameter):
    """An option that does not exist. The text has the one that resembles it most, else all."""

    def __init__(self, option: str, options: Iterable[str], ctx: Any) -> None:
        known = ", ".join(sorted(name for name in options if name.startswith("--")))
        hint = suggestion(option, {name: name for name in options}, f"the options are {known}")
        super().__init__(f"No such option: {option}; {hint} (-- goes before values that begin with a dash)", ctx)

    def format_message(self) -> str:
        return self.message


def _unknown_option(options: Mapping[str, Any], args: list[str]) -> str:
    """Return the first option before `--` that is not known; "" if all are known."""
    words = iter(args)
    for word in words:
        if word == "--":
            break
        name = word.partition("=")[0]
        if word in options:
            if not getattr(options[word], "is_flag", False):
                next(words, None)
        elif name not in options and _OPTION.fullmatch(word):
            return name
    return ""


def parse_option(parse: Callable[[str], T], text: str, option: str) -> T:
    """Return the parsed value of an option.

    Raises:
        typer.BadParameter: The text is not valid; exit code 2.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def timeout_seconds(text: str, option: str = "--timeout") -> float:
    """Return the seconds of the option `--timeout`, or of another one.

    Raises:
        typer.BadParameter: The text is not a duration, or not within the limits.
    """
    seconds = parse_option(parse_seconds, text, option)
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise typer.BadParameter("expected more than 0 seconds and at most an hour", param_hint=option)
    return seconds


def check_text(text: str, option: str | None = None) -> None:
    """Refuse text that is not UTF-8: a shell can pass it, a message cannot contain it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("not UTF-8", param_hint=option) from None


def writable_file(path: Path | None) -> Path | None:
    """Validate the path of an output file, before the work whose result would be lost."""
    if path is None:
        return None
    folder = path.parent
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written: permission denied")
    return path
