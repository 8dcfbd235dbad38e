"""A nats-py client that stays closed, and that decodes the user in a server's URL.

Closing cancels the task that reconnects. nats-py waits with `asyncio.wait_for`, which in Python 3.11 returns a result
that came at the same moment and drops the cancellation. The task would then connect after the closing, or try for ever.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import unquote

from nats.aio.client import Client, Srv

_CONNECT = b"CONNECT "


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

    def _connect_command(self) -> bytes:
        """Return the command with the user, password or token of the URL decoded, as other NATS clients do."""
        command = super()._connect_command()
        assert self._current_server is not None, "the client is connecting"
        is_encoded = "%" in self._current_server.uri.netloc.rpartition("@")[0]
        if not is_encoded or self.options["user"] is not None or self.options["token"] is not None:
            return command
        options = json.loads(command.removeprefix(_CONNECT))
        decoded = {name: unquote(options[name]) for name in ("user", "pass", "auth_token") if name in options}
        return b"%b%b\r\n" % (_CONNECT, json.dumps(options | decoded).encode())

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
