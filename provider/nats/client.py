"""nats-py's client, made to stay closed.

Closing cancels the task that reconnects. `asyncio.wait_for` of Python 3.11, on which nats-py waits, tells what has just
happened rather than the cancellation; then that task connects, or goes on attempting it for ever, past the closing.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client, Srv


class ClosableClient(Client):
    """A client for one connection: once it is closed, no attempt to connect begins or comes to anything."""

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
            self._transport.close()  # type: ignore[no-untyped-call]  # nats-py's own has no types
        self._status = Client.CLOSED
        raise asyncio.CancelledError
