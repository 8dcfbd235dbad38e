"""A nats-py client that stays closed.

Closing cancels the task that reconnects. nats-py waits with `asyncio.wait_for`, which in Python 3.11 returns a result
that came at the same moment and drops the cancellation. The task would then connect after the closing, or try for ever.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client, Srv


class ClosableClient(Client):
    """A client for one connection. Once it is closed, every attempt to connect ends at its next step."""

    def __init__(self) -> None:
        super().__init__()
        self._has_ended = False

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._has_ended = self._has_ended or status == Client.CLOSED
        await super()._close(status, do_cbs)

    async def _connect_to_server(self, s: Srv) -> None:
        self._check_not_ended()
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        self._check_not_ended()

    def _check_not_ended(self) -> None:
        if not self._has_ended:
            return
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]  # nats-py has no types for it
        self._status = Client.CLOSED
        raise asyncio.CancelledError
