"""The nats-py connection of the development lattice: opens in bounded time or fails with a reason, then reconnects forever."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from nats import errors as nats_errors
from nats.aio.client import Client

from provider.commands.connect import addresses
from provider.commands.errors import UnreachableError
from provider.nats.closable_client import ClosableClient

CONNECT_TIMEOUT_SECONDS = 5.0
"""The default of `nats` and of `keyvalue-nats kv` too."""

_FURTHER_ATTEMPTS = 2
"""A server may close the connection before its reason could be read; a further attempt usually reads it."""

_RECONNECT_WAIT_SECONDS = 1
"""Quick enough for a person who restarts a server, and no load on it."""

_CLOSE_SECONDS = 1.0
"""Closing flushes to the server, which may hang; nothing that is still unsent matters at that point."""


@contextlib.asynccontextmanager
async def connected(nats_url: str, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> AsyncIterator[Client]:
    """Connect to a NATS server, and close the connection at the end. A lost connection is re-established.

    Args:
        nats_url: URL of one server; may contain a user and a password.
        timeout_seconds: Limit for the first connection.

    Raises:
        UnreachableError: The server did not answer in time, or refused. The text has no user and no password.
    """
    connection = ClosableClient()
    try:
        await _connect(connection, nats_url, timeout_seconds)
        yield connection
    finally:
        with contextlib.suppress(TimeoutError, OSError, nats_errors.Error):
            await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)


async def _connect(connection: Client, nats_url: str, timeout_seconds: float) -> None:
    refusals: list[Exception] = []  # at most one: the most telling error so far

    async def keep(error: Exception) -> None:
        if not refusals or not _is_dropped(error):
            refusals[:] = [error]

    try:
        async with asyncio.timeout(timeout_seconds):
            await connection.connect(
                nats_url,
                connect_timeout=max(1, round(timeout_seconds)),
                max_reconnect_attempts=_FURTHER_ATTEMPTS,
                reconnect_time_wait=0,
                error_cb=keep,
            )
    except TimeoutError:
        reason = _reason(refusals[0]) if refusals else f"no answer within {timeout_seconds:g} s"
        raise UnreachableError(addresses((nats_url,)), reason) from None
    except (OSError, ValueError, nats_errors.Error) as error:
        raise UnreachableError(addresses((nats_url,)), _reason(refusals[0] if refusals else error)) from None
    connection.options |= {"max_reconnect_attempts": -1, "reconnect_time_wait": _RECONNECT_WAIT_SECONDS}


def _is_dropped(error: Exception) -> bool:
    """Return whether the server closed the connection before its reason could be read."""
    return isinstance(error, ConnectionError | nats_errors.UnexpectedEOF)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else "server name cannot be resolved"
    return str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
