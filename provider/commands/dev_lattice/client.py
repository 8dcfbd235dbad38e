"""How the commands for development reach a server: in a bounded time or with a reason, and from then on for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from nats import errors as nats_errors
from nats.aio.client import Client

from provider.commands.connect import addresses
from provider.commands.dev_lattice.errors import NatsServerError
from provider.nats.client import ClosableClient

CONNECT_TIMEOUT_SECONDS = 5.0
_FURTHER_ATTEMPTS = 2
_RECONNECT_WAIT_SECONDS = 1
_CLOSE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def connected(nats_url: str, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> AsyncIterator[Client]:
    """Connect to a nats-server and close the connection at the end. One that is lost comes back by itself.

    Args:
        nats_url: Of one server; may have a user and a password in it.
        timeout_seconds: How long that may take.

    Raises:
        NatsServerError: Nothing answers there in time, or it refuses; shows the address, without a user.
    """
    connection = ClosableClient()
    try:
        try:
            await _connect(connection, nats_url, timeout_seconds)
        except _ConnectFailedError as error:
            raise NatsServerError(f"cannot connect to NATS at {addresses((nats_url,))}: {error}") from None
        yield connection
    finally:
        with contextlib.suppress(TimeoutError, OSError, nats_errors.Error):
            await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)


class _ConnectFailedError(Exception):
    """Its text is the reason, without an address."""


async def _connect(connection: Client, nats_url: str, timeout_seconds: float) -> None:
    refused: list[Exception] = []

    async def note(error: Exception) -> None:
        if not refused or not _is_dropped(error):
            refused[:] = [error]

    try:
        async with asyncio.timeout(timeout_seconds):
            await connection.connect(
                nats_url,
                connect_timeout=max(1, round(timeout_seconds)),
                max_reconnect_attempts=_FURTHER_ATTEMPTS,
                reconnect_time_wait=0,
                error_cb=note,
            )
    except TimeoutError:
        reason = _described(refused[0]) if refused else f"no answer within {timeout_seconds:g} s"
        raise _ConnectFailedError(reason) from None
    except (OSError, ValueError, nats_errors.Error) as error:
        raise _ConnectFailedError(_described(refused[0] if refused else error)) from None
    connection.options |= {"max_reconnect_attempts": -1, "reconnect_time_wait": _RECONNECT_WAIT_SECONDS}


def _is_dropped(error: Exception) -> bool:
    """Tell whether the server has hung up before its reason could be read; at another attempt it may be heard."""
    return isinstance(error, ConnectionError | nats_errors.UnexpectedEOF)


def _described(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else "server name cannot be resolved"
    return str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
