"""The requests of a connection over one subscription: each has a reply subject of its own below one inbox."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from provider import errors
from provider.nats.frames import publish_frame

Reply = tuple[bytes, bytes]
"""Header block (b"": none) and payload."""

Outcome = Reply | errors.NatsError
"""The end of a request."""

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


class _Pending(Struct, eq=False):
    """An open request.

    Attributes:
        subject: Subject of the request.
        deadline: When to give up, on the event loop's clock.
        then: Called with each reply or with the error; true: a further reply is awaited.
        refusals: Number of publications to the subject that the server has refused since this one.
    """

    subject: bytes
    deadline: float
    then: Callable[[Outcome], bool | None]
    refusals: int = 0


class _Replies:
    """The replies to a request for many, up to the one that ends them."""

    def __init__(self, future: asyncio.Future[list[Reply]], is_last: Callable[[Reply], bool]) -> None:
        self._future = future
        self._is_last = is_last
        self._replies: list[Reply] = []

    def take(self, outcome: Outcome) -> bool:
        if self._future.done():
            return False
        if isinstance(outcome, tuple) and not self._is_last(outcome):
            self._replies.append(outcome)
            return True
        _complete(self._future, outcome if isinstance(outcome, Exception) else self._replies)
        return False


class RequestMux:
    """The open requests of one connection.

    Time-outs are checked for all requests together every 20 ms, so that a request needs no timer of its own.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Create a mux over a function that sends a frame or raises `errors.NotConnectedError`."""
        self.write = write
        self.inbox = new_inbox()
        self._prefix = self.inbox.encode() + b"."
        self._prefix_length = len(self._prefix)
        self._loop = asyncio.get_running_loop()
        self._pending: dict[bytes, _Pending] = {}
        self._unanswered: deque[tuple[float, bytes]] = deque()
        """Subjects of requests that got no answer, and until when the server may still refuse each of them."""
        self._tokens: list[bytes] = []
        self._tick: asyncio.TimerHandle | None = None

    def request(self, subject: bytes, payload: bytes, header: bytes, deadline: float) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.request_then(subject, payload, header, deadline=deadline, then=functools.partial(_complete, future))
        return future

    def request_many(
        self, subject: bytes, payload: bytes, deadline: float, is_last: Callable[[Reply], bool]
    ) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self.request_then(subject, payload, deadline=deadline, then=_Replies(future, is_last).take)
        return future

    def request_then(
        self,
        subject: bytes,
        payload: bytes = b"",
        header: bytes = b"",
        *,
        deadline: float,
        then: Callable[[Outcome], bool | None],
    ) -> None:
        """Send a request, and call a function with its reply or its error in the turn in which that arrives.

        This is the cheapest form: no future and no task. The function is called after this method has returned, and exactly
        once unless it returns true, which awaits a further reply; it must not block. The arguments and the errors are those
        of `Connection.request`.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent, and the function is not called.
        """
        if not self._tokens:
            self._tokens = _new_tokens()
        token = self._tokens.pop()
        self.write(publish_frame(subject, self._prefix + token, header, payload))
        self._pending[token] = _Pending(subject, deadline, then)
        if self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._expire)

    def on_reply(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Complete the request that a reply is for. A reply that comes too late is dropped."""
        token = subject[self._prefix_length :]
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        if not payload and header.startswith(_NO_RESPONDERS):
            pending.then(errors.NoRespondersError())
        elif pending.then((header, payload)):
            self._pending[token] = pending

    def fail_all(self) -> int:
        """Fail all open requests, because the connection is down; return their number."""
        self._unanswered.clear()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.then(errors.ConnectionLostError())
        return len(pending)

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
                self._pending.pop(token).then(errors.PermissionsError(reason))

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
            if request.deadline <= now:
                del self._pending[token]
                self._unanswered.append((now + _REFUSAL_SECONDS, request.subject))
                request.then(errors.RequestTimeoutError())
        self._drop_unanswered()
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if self._pending else None


def _complete(future: asyncio.Future[Any], outcome: Any) -> None:
    """Complete a future, unless its caller has given up."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _new_tokens() -> list[bytes]:
    """Return tokens for replies that a client which sees earlier ones cannot predict.

    Services answer to any subject that a request names. With the next token, a stranger would have them answer in place
    of JetStream.
    """
    digits = secrets.token_hex(_TOKEN_BYTES * _TOKENS_AT_ONCE).encode()
    return [digits[start : start + 2 * _TOKEN_BYTES] for start in range(0, len(digits), 2 * _TOKEN_BYTES)]
