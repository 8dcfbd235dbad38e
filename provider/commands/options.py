"""What several commands take, and what of it can be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from provider.commands.connect import ConnectionOptions, settings_of
from provider.commands.errors import OptionError

MAX_TIMEOUT_SECONDS = 3600


def _one_server(url: str | None) -> str | None:
    """Return the URL of a server with its scheme."""
    if url is None:
        return None
    check_text(url)
    try:
        servers = settings_of(ConnectionOptions(url)).servers
    except OptionError as error:
        raise typer.BadParameter(error.reason) from None
    if len(servers) != 1:
        raise typer.BadParameter("expected one server; it names the others of its cluster")
    return servers[0]


NATS: Any = typer.Option(
    None, metavar="URL", callback=_one_server, help="Use this nats-server instead of starting one."
)


def timeout_seconds(seconds: float) -> float:
    """Return a time-out that can be waited for."""
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise typer.BadParameter(f"expected more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds")
    return seconds


def check_text(text: str, option: str | None = None) -> None:
    """Refuse what a shell may pass and no message may hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("not UTF-8", param_hint=option) from None


def writable_file(path: Path | None) -> Path | None:
    """Return the path of a file to write; refused before the work whose outcome could not be kept."""
    if path is None:
        return None
    folder = path.parent
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written: permission denied")
    return path
