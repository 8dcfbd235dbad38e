"""nats-py's client, as tests use it beside servers that they kill, freeze and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client, Srv


class _Client(Client):
    """Closes a connection on which no server said a word; nats-py drops it open, to be found by the garbage collector.

    And ends when it is closed in the moment in which an attempt fails; nats-py may miss that, and go on for ever.
    """

    async def _connect_to_server(self, s: Srv) -> None:
        if self.is_closed:
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
