"""Options that several commands take, and their validation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from provider.commands.errors import OptionError
from provider.units import parse_seconds

T = TypeVar("T")

_MAX_TIMEOUT_SECONDS = 3600
"""A longer wait is a mistyped option rather than an intention."""


def _one_server(url: str | None) -> str | None:
    """Return the URL of one server, with its scheme."""
    if url is None:
        return None
    from provider.commands.connect import ConnectionOptions, settings_of

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
