"""Follow a bucket for as long as somebody looks: every revision once and in order, whatever becomes of the connection.

The server keeps no place for it, unlike for an actor's watch: a consumer that loses its connection, its server or a message
is given up, and the next one begins behind the last revision that arrived.

Source: ADR-8 (watchers), ADR-15 (acknowledgements), ADR-17 (ordered consumers).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from provider import errors
from provider.keyvalue.keys import RESERVED_KEY
from provider.nats import jetstream as js
from provider.nats.buckets import NANOSECONDS, STREAM_NOT_FOUND, key_subject, stream_name
from provider.nats.frames import header_value, status_of

_BATCH = 256
_PULL_SECONDS = 20
_HEARTBEAT_SECONDS = 2
SILENCE_SECONDS = 2.5 * _HEARTBEAT_SECONDS
_REQUEST_SECONDS = 2.0
_CLOSE_SECONDS = 0.5
_FORGOTTEN_SECONDS = 30
_PAUSE_SECONDS = 0.2
_GONE_SECONDS = 1.0
"""How long a stream has to be missing before it counts as removed, once the server has said that its consumer was."""

_RECOVERED_SECONDS = 10.0
"""The same, where the server has said nothing: one that starts may not know all its streams yet."""

_PULL = msgspec.json.encode(
    {"batch": _BATCH, "expires": _PULL_SECONDS * NANOSECONDS, "idle_heartbeat": _HEARTBEAT_SECONDS * NANOSECONDS}
)
_Arrival = tuple[bytes, bytes, bytes, bytes]
"""Subject, reply subject, header block and payload."""


class Start(enum.Enum):
    """What is told of what stands in the bucket when the following begins."""

    LAST = "last"
    """The last revision of each key, markers included."""

    ALL = "all"
    """Every revision that is still there."""

    NEW = "new"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to follow.

    Attributes:
        pattern: Of bucket keys, as in subjects: `*` and a last `>` stand for anything.
        start: Where to begin.
        after_revision: With `Start.ALL`, only later ones.
    """

    pattern: str = ">"
    start: Start = Start.LAST
    after_revision: int = 0


class Update(NamedTuple):
    """One revision of a key. `time_ms`: when it was stored, by the server's clock."""

    bucket_key: str
    revision: int
    time_ms: int
    header: bytes
    payload: bytes


class GoneError(Exception):
    """The bucket was removed, or made anew, since the following began."""


class _InterruptedError(Exception):
    """The consumer has come to an end, or something of it was lost; why shows when the next one cannot be made."""


class Follower:
    """One look at a bucket, as an async context manager.

    Args:
        jetstream: Where it lives.
        bucket: Its name.
        wanted: What of it.
        deadline: When following must have begun, on the event loop's clock. Later interruptions are waited out.
        on_state: Called with the reason of an interruption that cannot be ended at once, and with `None` when it is over.
    """

    def __init__(
        self,
        jetstream: js.JetStream,
        bucket: str,
        wanted: Wanted,
        deadline: float,
        on_state: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._stream = stream_name(bucket)
        self._prefix = key_subject(bucket, "")
        self._wanted = wanted
        self._deadline = deadline
        self._on_state = on_state
        self._loop = asyncio.get_running_loop()
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._attempt = 0
        self._arrived: asyncio.Queue[_Arrival | None] = asyncio.Queue()
        self._created = ""
        self._revision = wanted.after_revision
        self._missing_since = 0.0
        self._is_consumer_removed = False
        self._consumer = ""
        self._consumer_sequence = 0
        self._due = 0
        """How many messages the server may still send for the requests so far."""
        self._has_begun = False
        self._was_ever_heard = False
        self._is_heard = False
        """Whether anything has come from this consumer."""
        self._is_interrupted = False
        self._is_current = False
        self._is_current_untold = False
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        listener = await self._connection.listen(f"{self._inbox}.*", self._on_message)
        self._exits.push_async_callback(self._connection.unlisten, listener, _CLOSE_SECONDS)
        self._exits.push_async_callback(self._delete_consumer)
        self._exits.callback(self._connection.on_reconnect(self._on_reconnect))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def next(self) -> Update | None:
        """Return the next revision, waiting for it; `None` comes once, when all that stood there at first was told.

        Raises:
            GoneError: The bucket is not there any more.
            errors.NatsError: Following could not begin, or the server does not allow it.
            TimeoutError: No answer before the deadline, at the beginning only.
        """
        while True:
            try:
                if not self._consumer:
                    await self._begin()
            except (errors.NatsError, TimeoutError) as error:
                self._note(error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            try:
                return await self._take()
            except (errors.NatsError, TimeoutError, _InterruptedError) as error:
                self._consumer = ""
                if not self._is_heard:
                    self._note(error)
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _begin(self) -> None:
        """Make a consumer that goes on where the one before has ended."""
        info = await self._jetstream.stream_info(self._stream, self._soon())
        if self._created and info.created != self._created:
            raise GoneError
        if not self._created and self._wanted.start is Start.NEW:
            self._revision, self._is_current_untold = info.state.last_seq, True
        elif self._created:
            # A server that lost power may have lost what it had told last; those numbers are given out again.
            self._revision = max(min(self._revision, info.state.last_seq), self._wanted.after_revision)
        self._missing_since = 0.0
        self._attempt += 1
        self._arrived = asyncio.Queue()
        request = {"stream_name": self._stream, "config": self._consumer_config()}
        answer = msgspec.json.decode(
            await self._jetstream.api(f"CONSUMER.CREATE.{self._stream}", request, self._soon())
        )
        self._created = info.created
        self._has_begun, self._is_consumer_removed = True, False
        self._consumer, self._consumer_sequence, self._due = answer["name"], 0, 0
        self._is_heard = False
        self._ask()
        if not self._is_current and not answer.get("num_pending", 0):
            self._is_current_untold = True
        if self._is_interrupted:
            self._is_interrupted = False
            self._on_state(None)

    def _consumer_config(self) -> dict[str, Any]:
        if self._wanted.start is Start.LAST and not self._is_current:
            start: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        else:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._revision + 1}
        return start | {
            "filter_subject": f"{self._prefix}{self._wanted.pattern}",
            "ack_policy": "none",
            "inactive_threshold": _FORGOTTEN_SECONDS * NANOSECONDS,
        }

    def _ask(self) -> None:
        """Ask for more before all has come: what is overwritten while nobody asks, a bucket without history forgets."""
        pull = f"{self._jetstream.api_prefix}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        self._connection.publish_request(pull.encode(), f"{self._inbox}.{self._attempt}".encode(), _PULL)
        self._due += _BATCH

    async def _take(self) -> Update | None:
        while True:
            if self._is_current_untold:
                self._is_current_untold, self._is_current = False, True
                return None
            if self._due <= _BATCH // 2:
                self._ask()
            async with asyncio.timeout(SILENCE_SECONDS):
                arrival = await self._arrived.get()
            if arrival is None:
                raise _InterruptedError
            update = self._look_at(*arrival)
            if update is not None:
                return update

    def _look_at(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> Update | None:
        """Return what has arrived, if that is a revision which was not told before."""
        if not reply.startswith(js.DELIVERED):
            if subject.endswith(b".%d" % self._attempt):
                self._look_at_status(header)
            return None
        delivery = js.delivery(reply)
        if delivery.consumer != self._consumer:
            return None
        self._is_heard = self._was_ever_heard = True
        self._consumer_sequence += 1
        self._due -= 1
        if delivery.consumer_sequence != self._consumer_sequence:
            raise _InterruptedError
        if not self._is_current and not delivery.pending:
            self._is_current_untold = True
        if delivery.sequence <= self._revision:
            return None
        self._revision = delivery.sequence
        try:
            bucket_key = subject.decode().removeprefix(self._prefix)
        except UnicodeDecodeError:  # no key that anybody could ask for
            return None
        if bucket_key == RESERVED_KEY:
            return None
        return Update(bucket_key, delivery.sequence, delivery.time_ms, header, payload)

    def _look_at_status(self, header: bytes) -> None:
        status = status_of(header)
        if status in (100, 408):
            self._is_heard = self._was_ever_heard = True
        if status == 100:
            # A heartbeat: there is nothing to be told now, also if what was due at first has been removed since.
            last = header_value(header, b"Nats-Last-Consumer") or b"0"
            if int(last) > self._consumer_sequence:
                raise _InterruptedError
            self._is_current_untold = self._is_current_untold or not self._is_current
        elif status == 408:
            self._due = 0
        else:
            self._is_consumer_removed = status == 409 and b"Consumer Deleted" in header
            raise _InterruptedError

    def _note(self, error: Exception) -> None:
        """Raise what waiting does not help against; tell of the rest."""
        now = self._loop.time()
        is_gone = isinstance(error, errors.ApiError) and error.err_code == STREAM_NOT_FOUND
        if is_gone and self._created:
            self._missing_since = self._missing_since or now
            if now - self._missing_since >= (_GONE_SECONDS if self._is_consumer_removed else _RECOVERED_SECONDS):
                raise GoneError from None
            if not self._is_consumer_removed:
                self._tell_interrupted(error)
            return
        self._missing_since = 0.0
        if not self._was_ever_heard and "permissions violation" in self._connection.reason_down:
            raise errors.PermissionsError(self._connection.reason_down) from None
        is_passing = not isinstance(error, errors.ApiError) or error.code in (408, 429, 500, 503)
        if isinstance(error, errors.PermissionsError) or not is_passing:
            raise error
        if not self._has_begun and now + _PAUSE_SECONDS >= self._deadline:
            raise TimeoutError from None if isinstance(error, _InterruptedError) else error
        if self._has_begun and not isinstance(error, _InterruptedError):
            self._tell_interrupted(error)

    def _tell_interrupted(self, error: Exception) -> None:
        if not self._is_interrupted:
            self._is_interrupted = True
            self._on_state(str(error) or "no answer from NATS in time")

    def _on_message(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._arrived.put_nowait((subject, reply, header, payload))

    def _on_reconnect(self) -> None:
        self._is_consumer_removed = False
        self._arrived.put_nowait(None)

    async def _delete_consumer(self) -> None:
        """Give the consumer back; one that cannot be goes by itself after a while."""
        if self._consumer:
            deadline = self._loop.time() + _CLOSE_SECONDS
            delete = functools.partial(self._jetstream.api, f"CONSUMER.DELETE.{self._stream}.{self._consumer}", None)
            with contextlib.suppress(errors.NatsError):
                await delete(deadline)

    def _soon(self) -> float:
        soon = self._loop.time() + _REQUEST_SECONDS
        return soon if self._has_begun else min(soon, self._deadline)
