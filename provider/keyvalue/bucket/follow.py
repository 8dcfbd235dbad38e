"""A follower of a bucket: every revision once and in order, whatever happens to connection, server and consumer.

The server keeps no position for a follower, unlike for a watch. The follower remembers the last revision it has
returned. Its consumer lives until the first fault; after that the follower creates another one behind that revision:

- Server gone, connection lost: creating a consumer fails until the server is back, and is repeated until then.
- Consumer deleted: the server says so. If the stream is gone too, the bucket was removed.
- Change of leader, shutdown of a server: the server drops the request, or no server has the consumer.
- Message lost: the numbers of the messages, or a heartbeat, show a gap.
- Server stalled: not even a heartbeat comes.

Source: ADR-8 (watchers), ADR-17 (ordered consumers).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from provider import errors
from provider.keyvalue.bucket.entries import FENCE
from provider.keyvalue.keys import RESERVED_KEY
from provider.nats.buckets import NANOSECONDS, STREAM_NOT_FOUND, key_subject, stream_name
from provider.nats.consumer import Delivery, PullConsumer, PullOptions, Status
from provider.nats.frames import header_value
from provider.nats.jetstream import JetStream, StreamInfo

_HEARTBEAT_SECONDS = 2
"""A stalled server shall be noticed within seconds; a heartbeat costs one message."""

SILENCE_SECONDS = 2.5 * _HEARTBEAT_SECONDS
"""Two heartbeats may be late, or one lost, before the server counts as stalled."""

_BATCH = 256
"""Messages per request: so many that the requests cost little beside the messages."""

_PULL = PullOptions(
    batch=_BATCH,
    silence_seconds=SILENCE_SECONDS,
    # The next request overlaps with the present one. While none is open, a bucket without history forgets every
    # revision that is overwritten.
    refill_at=_BATCH // 2,
    # Shorter than the 30 s after which the server deletes an inactive consumer.
    expires_seconds=20,
    heartbeat_seconds=_HEARTBEAT_SECONDS,
)

_INACTIVE_SECONDS = 30
"""When the server deletes an abandoned consumer. Longer than a request stays open."""

_REQUEST_SECONDS = 2.0
"""Time limit for one request to JetStream: longer than the election of a leader."""

_CLOSE_SECONDS = 0.5
"""Time limit for each step of closing: a person waits for the command to end."""

_PAUSE_SECONDS = 0.2
"""Pause between attempts to create a consumer: short for a person, and no burden for a server that starts."""

_GONE_SECONDS = 1.0
"""Time after which a missing stream counts as removed, if the server has said that the consumer was deleted."""

_RECOVERED_SECONDS = 10.0
"""The same if the server has not said so: a server that starts may not have recovered all its streams yet."""

_PASSING_CODES = frozenset({408, 429, 500, 503})
"""JetStream's codes of errors that pass: time-out, too many requests, internal, no leader or no quorum."""


class Start(enum.Enum):
    """The stored revisions that a follower returns before it waits for new ones."""

    LAST = "last"
    """The last revision of each key, markers included."""

    ALL = "all"
    """Every revision that is still stored."""

    NEW = "new"
    """None."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The revisions to follow.

    Attributes:
        pattern: Pattern of bucket keys, as in subjects: `*` matches one token, `>` at the end one or more.
        start: The stored revisions to begin with.
        after_revision: Revision behind which to begin, with `Start.ALL`.
    """

    pattern: str = ">"
    start: Start = Start.LAST
    after_revision: int = 0


class Update(NamedTuple):
    """One revision of a key.

    Attributes:
        time_ms: When it was stored, by the server's clock.
    """

    bucket_key: str
    revision: int
    time_ms: int
    header: bytes
    payload: bytes


class GoneError(Exception):
    """The bucket was removed, or removed and created again, since the follower began."""


class _ConsumerLostError(Exception):
    """The consumer has ended or lost a message. The attempt to create the next one shows the cause, if it persists."""


class Follower:
    """The revisions of a bucket, as an async context manager.

    Args:
        jetstream: The JetStream that has the bucket.
        bucket: Name of the bucket.
        selection: The revisions to follow.
        deadline: When the follower must have its first consumer, on the event loop's clock. It waits out any later
            interruption.
        on_state: Function called with the reason of an interruption that cannot be ended at once, and with `None` at
            its end.
    """

    def __init__(
        self,
        jetstream: JetStream,
        bucket: str,
        selection: Selection,
        deadline: float,
        on_state: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._stream = stream_name(bucket)
        self._prefix = key_subject(bucket, "")
        self._selection = selection
        self._deadline = deadline
        self._on_state = on_state
        self._loop = asyncio.get_running_loop()
        self._consumer = PullConsumer(jetstream, self._stream, _PULL, _CLOSE_SECONDS)
        self._revision = selection.after_revision
        """The last revision that was returned, or passed over."""
        self._caught_up = self._revision
        """A revision up to which all were returned before a later one was stored; see `_is_repetition`."""
        self._stream_created = ""
        """The stream's time of creation; "" before the first consumer. Another time means another stream."""
        self._missing_since = 0.0
        """Since when the server has not known the stream, on the event loop's clock; 0: it knows the stream."""
        self._is_consumer_deleted = False
        """True if the server has said that the last consumer was deleted."""
        self._is_heard = False
        """True once a message or a heartbeat has come from the present consumer."""
        self._is_interrupted = False
        self._is_current = False
        """True once all revisions stored at the beginning have been returned."""
        self._is_end_of_stored_due = False
        """True while `next` has to return its one `None` before anything else."""
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._consumer)
        self._exits.callback(self._connection.on_reconnect(self._on_reconnect))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def next(self) -> Update | None:
        """Wait for the next revision and return it, or `None` once: when all revisions stored at first were returned.

        Raises:
            GoneError: The bucket was removed.
            errors.NatsError: The follower could not begin, or the server does not allow it.
            TimeoutError: The server did not answer before the deadline, at the beginning only.
        """
        while True:
            try:
                if not self._consumer.name:
                    await self._create_consumer()
            except (errors.NatsError, TimeoutError) as error:
                if self._is_lasting(error):
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            try:
                return await self._take()
            except (errors.NatsError, TimeoutError, _ConsumerLostError) as error:
                self._consumer.abandon()
                # A consumer that worked until now is replaced at once. One that never worked shows a lasting fault.
                if not self._is_heard:
                    if self._is_lasting(error):
                        raise
                    await asyncio.sleep(_PAUSE_SECONDS)

    @property
    def _has_begun(self) -> bool:
        return bool(self._stream_created)

    async def _create_consumer(self) -> None:
        """Create a consumer that continues where the one before has ended."""
        info = await self._jetstream.stream_info(self._stream, self._request_deadline())
        self._missing_since = 0.0
        if self._has_begun and info.created != self._stream_created:
            raise GoneError
        self._revision = self._start_revision(info)
        self._caught_up = min(self._caught_up, self._revision) if self._has_begun else self._revision
        created = await self._consumer.create(self._consumer_config(), self._request_deadline())
        if not self._is_current and (self._selection.start is Start.NEW or not created.num_pending):
            self._is_end_of_stored_due = True
        self._stream_created = info.created
        self._is_consumer_deleted = self._is_heard = False
        if self._is_interrupted:
            self._is_interrupted = False
            self._on_state(None)

    def _start_revision(self, info: StreamInfo) -> int:
        """Return the revision behind which the next consumer begins."""
        if self._has_begun:
            # A server that lost power may have lost its last revisions, and gives their numbers to new ones.
            return max(min(self._revision, info.state.last_seq), self._selection.after_revision)
        return info.state.last_seq if self._selection.start is Start.NEW else self._revision

    def _consumer_config(self) -> dict[str, Any]:
        if self._selection.start is Start.LAST and not self._is_current:
            start: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        else:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._revision + 1}
        return start | {
            "filter_subject": f"{self._prefix}{self._selection.pattern}",
            "ack_policy": "none",
            "inactive_threshold": _INACTIVE_SECONDS * NANOSECONDS,
        }

    async def _take(self) -> Update | None:
        while True:
            if self._is_end_of_stored_due:
                self._is_end_of_stored_due, self._is_current = False, True
                return None
            message = await self._consumer.next()
            if isinstance(message, Status):
                self._handle_status(message)
                continue
            self._is_heard = True
            update = self._update(message)
            if update is not None:
                return update

    def _handle_status(self, status: Status) -> None:
        if status in (Status.IDLE, Status.EXPIRED, Status.GAP):
            self._is_heard = True
        if status is Status.IDLE:
            # The server has nothing to deliver. Only the heartbeat shows this if the last of the stored revisions was
            # removed before it was delivered.
            self._is_end_of_stored_due = not self._is_current
            self._caught_up = self._revision
        elif status is not Status.EXPIRED:
            # Without acknowledgements, messages on their way are lost: a new consumer must deliver them again.
            self._is_consumer_deleted = status is Status.DELETED
            raise _ConsumerLostError

    def _update(self, message: Delivery) -> Update | None:
        """Return a message as an update, or `None` if it is not to be returned: known already, or not a key."""
        if not self._is_current and not message.pending:
            self._is_end_of_stored_due = True
        if message.sequence <= self._revision:
            return None
        self._revision = message.sequence
        try:
            bucket_key = message.subject.decode().removeprefix(self._prefix)
        except UnicodeDecodeError:  # a subject that is not a key
            return None
        is_repetition = self._is_repetition(message)
        if not message.pending:
            self._caught_up = message.sequence
        if bucket_key == RESERVED_KEY or is_repetition:
            return None
        return Update(bucket_key, message.sequence, message.time_ms, message.header, message.payload)

    def _is_repetition(self, message: Delivery) -> bool:
        """Tell whether a message is the fence of a revision that was certainly returned before.

        A fence replaces that revision. So it is the only news of the key for a follower that was behind.
        """
        repeated = header_value(message.header, FENCE)
        return repeated is not None and repeated.isdigit() and int(repeated) <= self._caught_up

    def _is_lasting(self, error: Exception) -> bool:
        """Tell whether waiting cannot cure an error; report an interruption by any other.

        Raises:
            TimeoutError: There is no more time to wait, at the beginning.
            GoneError: The stream has been gone for long enough.
        """
        if self._has_begun and isinstance(error, errors.ApiError) and error.err_code == STREAM_NOT_FOUND:
            self._check_not_gone(error)
            return False
        self._missing_since = 0.0
        if isinstance(error, errors.PermissionsError):
            return True
        if isinstance(error, errors.ApiError) and error.code not in _PASSING_CODES:
            return True
        is_lost = isinstance(error, _ConsumerLostError)
        if not self._has_begun and self._loop.time() + _PAUSE_SECONDS >= self._deadline:
            raise TimeoutError from None if is_lost else error
        if self._has_begun and not is_lost:
            self._report_interruption(error)
        return False

    def _check_not_gone(self, error: errors.ApiError) -> None:
        """Raise `GoneError` once the server has not known the stream for long enough."""
        now = self._loop.time()
        self._missing_since = self._missing_since or now
        if now - self._missing_since >= (_GONE_SECONDS if self._is_consumer_deleted else _RECOVERED_SECONDS):
            raise GoneError from None
        if not self._is_consumer_deleted:
            self._report_interruption(error)

    def _report_interruption(self, error: Exception) -> None:
        if not self._is_interrupted:
            self._is_interrupted = True
            self._on_state(str(error) or "no answer from NATS in time")

    def _on_reconnect(self) -> None:
        # The server may be another process by now: what the old one said of the consumer is no proof of a removal.
        self._is_consumer_deleted = False
        # The consumer has lost all messages on their way; its requests ended with the old connection.
        self._consumer.interrupt()

    def _request_deadline(self) -> float:
        deadline = self._loop.time() + _REQUEST_SECONDS
        return deadline if self._has_begun else min(deadline, self._deadline)
