"""A client of nats-py for tests that kill, freeze and cut off its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client, Srv


class _Client(Client):
    """A client with two defects of nats-py repaired.

    nats-py leaves a connection open on which the server has sent nothing, until the garbage collector finds it. And it may
    miss its own end in the middle of an attempt to connect, and continue for ever.
    """

    _has_ended = False

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._has_ended = self._has_ended or status == Client.CLOSED
        await super()._close(status, do_cbs)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        if self._has_ended:
            self._transport.close()  # type: ignore[union-attr]
            self._status = Client.CLOSED
            raise asyncio.CancelledError

    async def _connect_to_server(self, s: Srv) -> None:
        if self._has_ended:
            raise asyncio.CancelledError
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)


async def patient_client(urls: str | Sequence[str], **options: Any) -> Client:
    """Connect a client that tries to reconnect for ever, and ignores errors. Options are those of nats-py."""
    client = _Client()
    servers = urls if isinstance(urls, str) else list(urls)
    patience: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
    await client.connect(servers, error_cb=_ignore, **patience, **options)
    return client


async def _ignore(error: Exception) -> None:
    """Ignore an error, which the test has caused."""
