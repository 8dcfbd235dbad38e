"""The requests of a connection over one subscription: each has a reply subject of its own below one inbox."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
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


_REFUSAL_SECONDS = 8.0
"""Time in which the server refuses a request or the connection is given up, which takes six seconds; two are the margin."""

_TOKEN_BYTES = 8
_TOKENS_AT_ONCE = 256
"""Tokens made by one call for random bytes, which costs ten times as much as a token."""


def new_inbox() -> str:
    """Return a subject for replies that no other client uses: 88 random bits, in the length that NATS clients use."""
    return f"_INBOX.{secrets.token_hex(11)}"


class _Pending:
    """A request with a future for its reply or replies."""

    __slots__ = ("deadline", "future", "is_last", "refusals", "replies", "subject")

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
        self.refusals = 0
        """Number of publications to the subject that the server has refused since this one."""
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
        self._unanswered: deque[tuple[float, bytes]] = deque()
        """Subjects of requests that got no answer, and until when the server may still refuse each of them."""
        self._tokens: list[bytes] = []
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
        if not self._tokens:
            self._tokens = _new_tokens()
        token = self._tokens.pop()
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
        self._unanswered.clear()
        pending, self._pending = self._pending, {}
        callbacks, self._callbacks = self._callbacks, {}
        for request in pending.values():
            request.fail(errors.ConnectionLostError())
        for _, then in callbacks.values():
            then(None)
        return len(pending) + len(callbacks)

    def refuse(self, subject: bytes, reason: str) -> None:
        """Note that the server has refused one publication to a subject, and fail the requests for which that is certain.

        The server does not say which publication it was, and permissions may change between two. So the requests to a
        subject fail when each of them must have been refused. Otherwise they end by their reply or their deadline.
        """
        tokens = [token for token, request in self._pending.items() if request.subject == subject]
        for token in tokens:
            self._pending[token].refusals += 1
        self._drop_unanswered()
        if any(unanswered == subject for _, unanswered in self._unanswered):
            return
        if all(self._pending[token].refusals >= len(tokens) for token in tokens):
            for token in tokens:
                self._pending.pop(token).fail(errors.PermissionsError(reason))

    def close(self) -> None:
        self.fail_all()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _drop_unanswered(self) -> None:
        """Forget the requests that the server can no longer refuse."""
        while self._unanswered and self._unanswered[0][0] <= self._loop.time():
            self._unanswered.popleft()

    def _expire(self) -> None:
        now = self._loop.time()
        for token, request in list(self._pending.items()):
            if request.deadline <= now or request.future.done():
                del self._pending[token]
                request.fail(errors.RequestTimeoutError())
                self._unanswered.append((now + _REFUSAL_SECONDS, request.subject))
        for token, (deadline, then) in list(self._callbacks.items()):
            if deadline <= now:
                del self._callbacks[token]
                then(None)
        self._drop_unanswered()
        is_waiting = self._pending or self._callbacks
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if is_waiting else None


def _new_tokens() -> list[bytes]:
    """Return tokens for replies that a client which sees earlier ones cannot predict.

    Services answer to any subject that a request names. With the next token, a stranger would have them answer in place
    of JetStream.
    """
    digits = secrets.token_hex(_TOKEN_BYTES * _TOKENS_AT_ONCE).encode()
    return [digits[start : start + 2 * _TOKEN_BYTES] for start in range(0, len(digits), 2 * _TOKEN_BYTES)]
