"""Options that several commands take, and their validation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from provider.commands.connect import ConnectionOptions, settings_of
from provider.commands.errors import OptionError

MAX_TIMEOUT_SECONDS = 3600
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


def timeout_seconds(seconds: float) -> float:
    """Validate a time-out in seconds."""
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise typer.BadParameter(f"expected more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds")
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
