"""nats-py's client, as tests use it beside servers that they kill, freeze and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client, Srv


class _Client(Client):
    """Closes a connection on which no server said a word; nats-py drops it open, to be found by the garbage collector.

    And stays closed once it is closed; nats-py may miss that in the midst of an attempt, and go on for ever.
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


async def patient_client(urls: str | Sequence[str]) -> Client:
    """Connect; the client looks for its servers for ever, and says nothing of what happens to them."""
    client = _Client()
    servers = urls if isinstance(urls, str) else list(urls)
    await client.connect(servers, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_say_nothing)  # type: ignore[arg-type]
    return client


async def _say_nothing(error: Exception) -> None:
    """Tests do to servers what they do on purpose."""
