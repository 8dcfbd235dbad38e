"""The requests of a connection over one subscription: each has a reply subject of its own below one inbox."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from provider import errors
from provider.nats.frames import publish_frame

Reply = tuple[bytes, bytes]
"""Header block (b"": none) and payload."""

_TICK_SECONDS = 0.02
"""Interval of the check for time-outs: one percent of a call's usual deadline of 2 s."""

_NO_RESPONDERS = b"NATS/1.0 503"
"""The header of the server's reply when the subject has no subscription."""


def new_inbox() -> str:
    """Return a subject for replies that no other client uses: 88 random bits, in the length that NATS clients use."""
    return f"_INBOX.{secrets.token_hex(11)}"


class _Pending:
    """A request with a future for its reply or replies."""

    __slots__ = ("deadline", "future", "is_last", "replies", "subject")

    def __init__(
        self,
        subject: bytes,
        deadline: float,
        future: asyncio.Future[Any],
        is_last: Callable[[Reply], bool] | None = None,
    ) -> None:
        self.subject = subject
        self.deadline = deadline
        self.future = future
        self.is_last = is_last
        self.replies: list[Reply] = []

    def fail(self, error: errors.NatsError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def take(self, reply: Reply) -> bool:
        """Take a reply; return whether the request needs no further one."""
        if self.future.done():
            return True
        if self.is_last is None:
            self.future.set_result(reply)
        elif self.is_last(reply):
            self.future.set_result(self.replies)
        else:
            self.replies.append(reply)
            return False
        return True


class RequestMux:
    """The open requests of one connection.

    Time-outs are checked for all requests together every 20 ms, so that a request needs no timer of its own.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Create a mux over a function that sends a frame or raises `errors.NotConnectedError`."""
        self.inbox = new_inbox()
        self._prefix = self.inbox.encode() + b"."
        self._prefix_length = len(self._prefix)
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._pending: dict[bytes, _Pending] = {}
        self._callbacks: dict[bytes, tuple[float, Callable[[Reply | None], None]]] = {}
        """Deadline and function of each request without a future; see `Connection.request_then`."""
        self._count = 0
        self._tick: asyncio.TimerHandle | None = None

    def request(self, subject: bytes, payload: bytes, header: bytes, deadline: float) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._send(payload, header, _Pending(subject, deadline, future))
        return future

    def request_many(
        self, subject: bytes, payload: bytes, deadline: float, is_last: Callable[[Reply], bool]
    ) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._send(payload, b"", _Pending(subject, deadline, future, is_last))
        return future

    def request_then(self, subject: bytes, deadline: float, then: Callable[[Reply | None], None]) -> None:
        token = self._write_request(subject, b"", b"")
        self._callbacks[token] = deadline, then

    def _send(self, payload: bytes, header: bytes, pending: _Pending) -> None:
        self._pending[self._write_request(pending.subject, header, payload)] = pending

    def _write_request(self, subject: bytes, header: bytes, payload: bytes) -> bytes:
        self._count += 1
        token = b"%x" % self._count
        self._write(publish_frame(subject, self._prefix + token, header, payload))
        if self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._expire)
        return token

    def on_reply(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Complete the request that a reply is for. A reply that comes too late is dropped."""
        token = subject[self._prefix_length :]
        is_unserved = not payload and header.startswith(_NO_RESPONDERS)
        callback = self._callbacks.pop(token, None)
        if callback is not None:
            callback[1](None if is_unserved else (header, payload))
            return
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        if is_unserved:
            pending.fail(errors.NoRespondersError())
        elif not pending.take((header, payload)):
            self._pending[token] = pending

    def fail_all(self) -> int:
        """Fail all open requests, because the connection is down; return their number."""
        pending, self._pending = self._pending, {}
        callbacks, self._callbacks = self._callbacks, {}
        for request in pending.values():
            request.fail(errors.ConnectionLostError())
        for _, then in callbacks.values():
            then(None)
        return len(pending) + len(callbacks)

    def refuse(self, reason: str) -> None:
        """Fail the requests whose subject the server refuses; `reason` names the subject in lower case.

        When subjects differ only in letter case, the refused one is unknown, and so is what became of each request.
        """
        refused = [token for token, request in self._pending.items() if _quoted(request.subject) in reason]
        is_certain = len({self._pending[token].subject for token in refused}) == 1
        for token in refused:
            self._pending.pop(token).fail(
                errors.PermissionsError(reason) if is_certain else errors.ConnectionLostError()
            )

    def close(self) -> None:
        self.fail_all()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _expire(self) -> None:
        now = self._loop.time()
        for token, request in list(self._pending.items()):
            if request.deadline <= now or request.future.done():
                del self._pending[token]
                request.fail(errors.RequestTimeoutError())
        for token, (deadline, then) in list(self._callbacks.items()):
            if deadline <= now:
                del self._callbacks[token]
                then(None)
        is_waiting = self._pending or self._callbacks
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if is_waiting else None


def _quoted(subject: bytes) -> str:
    return f'"{subject.decode(errors="replace").lower()}"'
