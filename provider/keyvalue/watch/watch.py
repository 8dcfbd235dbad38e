"""A watch: an actor is called with the changes of a bucket, one at a time and in order.

All provider instances share one durable consumer. The server keeps its position, so that changes made while no provider
runs are not missed, and gives each change to one instance. A change is done once the actor has answered; until then the
server delivers no later one.

Source: ADR-8 (watchers), ADR-15 (acknowledgements), nats-server server/consumer.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager

from contracts.long_values import LONG_BYTES
from contracts.statistics import WatchStatistics
from provider import errors
from provider.keyvalue.bucket.entries import FENCE, Entry, decode_entry
from provider.keyvalue.bucket.pages.paged_value import is_paged
from provider.keyvalue.bucket.store import BucketLink
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.keys import decode_key
from provider.keyvalue.payloads import encode_payload, encoding_payload
from provider.keyvalue.watch.dead_letters import store_dead_letter
from provider.keyvalue.watch.key_change import KeyChange
from provider.keyvalue.watch.patterns import disjoint, matches
from provider.keyvalue.watch.position import Position
from provider.nats.buckets import CONSUMER_NOT_FOUND, key_subject
from provider.nats.connection import Connection
from provider.nats.consumer import Delivery, PullConsumer, PullOptions, Status
from provider.nats.frames import header_value
from provider.nats.headers import MARKER_REASON, MAX_AGE
from provider.room import HeldRoom
from provider.tasks import cancel, in_turns

_log = logging.getLogger(__name__)

Deliver = Callable[[KeyChange], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]
"""Prepares a call of the actor and yields the function that sends it; the function may be called again.

Sending raises `errors.ActorUnreachableError` when the actor was not called, `errors.ActorFailedError` when it was.
"""

_HEARTBEAT_SECONDS = 5
_PULL = PullOptions(
    # One change at a time: a second one could be given to this instance while the actor is busy with the first.
    batch=1,
    # Two heartbeats may be missing, and the last one late by a second, before the server counts as stalled.
    silence_seconds=2 * _HEARTBEAT_SECONDS + 1.0,
    # A request that is open for long costs little; one that was lost with a server is noticed by its heartbeats.
    expires_seconds=20,
    heartbeat_seconds=_HEARTBEAT_SECONDS,
)

_PROGRESS_SECONDS = 1.5
"""Interval of the signs of progress. Three fit into the consumer's `ack_wait`, so two may be lost."""

_COUNT_ONCE_IN = 7
"""Signs of progress between two counts of the changes that wait: some ten seconds, as for the sizes of buckets."""

_COUNT_SECONDS = 0.5
"""Time limit for such a count, far below the interval of the signs."""

_REQUEST_SECONDS = 2.0
"""Time limit for one request to the bucket, and for one step of closing: longer than the election of a leader."""

_CALL_SECONDS = 16.0
"""Time for which the end of a watch waits for the actor's answer.

An actor has 2 s by default, and 13 s more for a payload that its host has to fetch.
"""

_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.5, 5.0
"""Pause between calls of an actor that no host runs. It doubles up to 5 s, the delay that a started actor may see."""

_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.25, 30.0
"""Pause before an actor that failed is called again. It doubles, so that a fault in what the actor uses can pass."""

_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.25, 5.0
"""Pause before the watch starts over after a fault. It doubles up to 5 s, to spare a server that starts."""


class Watch:
    """The watch of one link.

    Args:
        link: The link's bucket, held for this watch until `release`.
        name: Name of the consumer: the same in every provider instance, and unique to the link.
        lattice: Name of the lattice as a token of a subject.
        deliver: Prepares a call of the actor.
    """

    def __init__(self, link: BucketLink, name: str, lattice: str, deliver: Deliver) -> None:
        self._store = link.shared
        self.position = Position(name)
        self.link = link
        self._config = link.config.watch
        self._lattice = lattice
        self._deliver = deliver
        self._reason = ""
        self._is_stuck = False
        """True if a change could neither be delivered nor stored as a dead letter.

        Then the watch is unhealthy until a change is done, and not only until it has its consumer again.
        """
        self._is_idle = asyncio.Event()
        """Set while the actor is not being called."""
        self._is_idle.set()
        self._task: asyncio.Task[None] | None = None
        self._delivered = self._failed_calls = self._dead_letters = 0
        self._pending = 0
        """Changes behind the one received last, as the server told with it."""
        self._waiting = 0
        """The same number for people, which is counted again while the actor does not take a change."""
        self._room: HeldRoom | None = None
        """The room of the large value that is being delivered."""
        self._current_ms = 0
        """The time at which the change that is being delivered was stored; 0: no change is."""

    @property
    def consumer_identity(self) -> tuple[object, ...]:
        """The servers, domain, bucket and name of the consumer. Watches with other credentials share the consumer."""
        config = self.link.config
        return config.connection.servers, config.connection.js_domain, config.bucket.name, self.position.name

    @property
    def unhealthy(self) -> str | None:
        """The reason why the actor receives no changes, or `None` if it does."""
        return f"watch: {self._reason}" if self._reason else None

    @property
    def statistics(self) -> WatchStatistics:
        """The watch as this instance sees it."""
        age_ms = wall_clock_ms() - self._current_ms if self._current_ms else 0
        return WatchStatistics(
            is_healthy=self.unhealthy is None,
            delivered=self._delivered,
            failed_calls=self._failed_calls,
            dead_letters=self._dead_letters,
            pending=self._waiting,
            current_seconds=max(age_ms, 0) / 1000,
        )

    def resume_from(self, before: Watch) -> None:
        """Take over the position of an earlier watch of the same consumer.

        With other credentials it is not taken over: they may belong to another account, with another bucket.
        """
        if before.link.config.connection == self.link.config.connection:
            self.position = before.position

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"watch {self.position.name}")

    async def finish(self) -> None:
        """Stop once the actor has answered the call that is under way."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALL_SECONDS):
                    await self._is_idle.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop at once. The server gives the change that was under way to another instance."""
        if self._task is not None:
            await cancel(self._task)

    async def delete_consumer(self) -> None:
        """Delete the consumer and with it the position: no instance continues this watch."""
        if self._store.opened is not None:
            # Should this fail, the server deletes the consumer after a week without requests.
            with contextlib.suppress(errors.NatsError):
                await self.position.delete(self._store.jetstream, self._store.opened[0].stream)

    def release(self) -> None:
        """Give up the hold on the link's bucket."""
        self.link.unlink()

    async def _run(self) -> None:
        """Deliver changes for ever; start over after every fault."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._store.wait_open(_deadline(_LAST_PAUSE_SECONDS))
                await self._follow()
            except (errors.NatsError, errors.StoreError, errors.LinkUnavailableError, TimeoutError) as error:
                reason = str(error) or "no answer in time"
                if reason != self._reason:
                    _log.warning("watch_interrupted", extra={"consumer": self.position.name, "reason": reason})
                self._reason = reason
            except Exception as defect:  # noqa: BLE001  (a defect must not end the watch: later changes would be lost)
                _log.exception("watch_failed", extra={"consumer": self.position.name})
                self._is_stuck, self._reason = True, f"internal error ({type(defect).__name__})"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS) if self._reason else _FIRST_PAUSE_SECONDS

    async def _follow(self) -> None:
        """Deliver changes until a fault, which is raised."""
        jetstream = self._store.jetstream
        assert self._store.opened is not None
        bucket, _ = self._store.opened
        subjects = [key_subject(bucket.name, pattern) for pattern in disjoint(self._config.patterns)]
        async with PullConsumer(jetstream, bucket.stream, _PULL, _REQUEST_SECONDS) as consumer:
            await self.position.ensure(jetstream, bucket.stream, subjects)
            consumer.attach(self.position.name)
            if not self._is_stuck:
                self._report_healthy()
            while True:
                message = await consumer.next()
                if isinstance(message, Status):
                    self._handle_status(message)
                else:
                    await self._process(consumer, message)

    def _handle_status(self, status: Status) -> None:
        """Raise the error of a fault. After any other status, the consumer requests the next change as usual."""
        match status:
            case Status.UNSERVED:
                raise errors.NoRespondersError
            case Status.DELETED:
                raise errors.ApiError(409, CONSUMER_NOT_FOUND, "consumer deleted")
            case Status.EXPIRED | Status.DROPPED:
                # The server answers. A durable consumer outlives a change of its leader: requests go to the new one.
                self._report_healthy()

    def _report_healthy(self) -> None:
        if self._reason:
            _log.info("watch_healed", extra={"consumer": self.position.name})
        self._is_stuck, self._reason = False, ""

    async def _process(self, consumer: PullConsumer, message: Delivery) -> None:
        """Deliver one change to the actor, or store it as a dead letter; give it back if this watch ends meanwhile."""
        connection = self._store.jetstream.connection
        self._pending = self._waiting = message.pending
        self._current_ms = message.time_ms
        try:
            answer = await self._with_progress(connection, message.reply, self._outcome(message))
        except asyncio.CancelledError:
            consumer.give_back(message.reply)
            raise
        finally:
            self._is_idle.set()
            self._current_ms = 0
        self.position.advance(message.sequence, is_last=not self._pending)
        connection.publish(message.reply, answer)
        self._report_healthy()

    async def _with_progress(self, connection: Connection, reply: bytes, work: Coroutine[None, None, bytes]) -> bytes:
        """Do the work, and send signs of progress: the server would give the change to another instance."""
        working = asyncio.ensure_future(work)
        try:
            for sign in itertools.count():
                done, _ = await asyncio.wait({working}, timeout=_PROGRESS_SECONDS)
                if done:
                    break
                connection.publish(reply, b"+WPI")
                if sign % _COUNT_ONCE_IN == 0:
                    await self._count_waiting()
            return working.result()
        finally:
            if not working.done():
                await cancel(working)

    async def _count_waiting(self) -> None:
        """Count the changes behind the one that the actor does not take. Without an answer the last number stays."""
        if self._store.opened is not None:
            stream, deadline = self._store.opened[0].stream, _deadline(_COUNT_SECONDS)
            with contextlib.suppress(errors.NatsError, TimeoutError):
                found = await self._store.jetstream.consumer_info(stream, self.position.name, deadline)
                self._waiting = found.num_pending if found is not None else 0

    async def _outcome(self, message: Delivery) -> bytes:
        """Deliver a change, or store it as a dead letter; return the acknowledgement."""
        subject = message.subject.decode(errors="replace")
        bucket_key = subject.split(".", 2)[2]
        position = self.position
        try:
            change = await self._change(bucket_key, message)
            if change is None:
                return b"+ACK"
            await self._call_until_taken(change, bucket_key)
        except errors.ActorFailedError as error:
            tries = position.failed_calls
            fields = {"consumer": position.name, "subject": subject, "tries": tries, "reason": error.reason}
            _log.error("watch_gave_up", extra=fields)
            self._is_stuck = True
            await store_dead_letter(self._store.jetstream, self._lattice, position, subject, message.payload)
            self._dead_letters += 1
            return b"+TERM"
        finally:
            self._give_back_room()
        return b"+ACK"

    def _give_back_room(self) -> None:
        if self._room is not None:
            self._room.give_back()
            self._room = None

    async def _call_until_taken(self, change: KeyChange, bucket_key: str) -> None:
        """Call the actor until it takes the change, or until a later change of the key replaces it.

        Raises:
            errors.ActorFailedError: The calls have failed as often as the link allows.
        """
        position = self.position
        position.begin_calls(change.revision)
        while position.failed_calls < self._config.tries:
            if position.failed_calls:
                self._is_idle.set()
                # The exponent is bounded, or its power would grow without use: the pause ends at its limit anyway.
                doubled = _FIRST_BACKOFF_SECONDS * 2 ** min(position.failed_calls - 1, 10)
                await asyncio.sleep(min(doubled, _LAST_BACKOFF_SECONDS))
                if await self._is_overwritten(bucket_key, change.revision):
                    self._pending = max(self._pending, 1)
                    return
            try:
                await self._call(change)
            except errors.ActorFailedError as error:
                self._give_back_room()
                position.add_failure(error.reason)
                self._failed_calls += 1
            else:
                self._delivered += 1
                return
        raise errors.ActorFailedError(position.reason)

    async def _call(self, change: KeyChange) -> None:
        """Call the actor once; wait while no host runs it."""
        wait_seconds = _FIRST_WAIT_SECONDS
        async with self._deliver(change) as send:
            while True:
                self._is_idle.clear()
                try:
                    return await send()
                except errors.ActorUnreachableError as error:
                    self._is_idle.set()
                    self._give_back_room()  # it may take for ever, and other watches must not wait for that
                    if wait_seconds == _FIRST_WAIT_SECONDS:
                        _log.info("watch_waits", extra={"consumer": self.position.name, "reason": error.reason})
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LAST_WAIT_SECONDS)

    async def _is_overwritten(self, bucket_key: str, revision: int) -> bool:
        """Tell whether a later change has replaced this one in the bucket. The actor receives the later one."""
        deadline = _deadline(_REQUEST_SECONDS)
        bucket, _ = await self._store.wait_open(deadline)
        if bucket.traits.has_history:
            return False
        return (await bucket.read_latest(bucket_key, deadline)).revision > revision

    async def _change(self, bucket_key: str, message: Delivery) -> KeyChange | None:
        """Return a change under the caller's key, or `None` for a key outside of the link's prefix and patterns.

        The server delivers such keys where patterns overlap. nats-server 2.9 ignores several filters and delivers all.
        `None` is returned as well for a paged value that was replaced meanwhile: the later change is delivered, too.

        Raises:
            errors.ActorFailedError: The value is damaged, or too large.
        """
        key = decode_key(bucket_key, self.link.config.key_prefix)
        revision = message.sequence
        fenced = header_value(message.header, FENCE)
        if fenced is not None and self.position.has_done(fenced):
            return None  # the message repeats one that was delivered, or stands where there was none
        entry = decode_entry(revision, message.header, message.payload)
        value = entry.value
        patterns = self._config.ends if value is None else self._config.puts
        if key is None or not any(matches(pattern, bucket_key) for pattern in patterns):
            return None
        if value is None:
            is_expiry = header_value(message.header, MARKER_REASON) == MAX_AGE
            return KeyChange(key, None, b"", revision, is_expiry)
        if is_paged(value):
            entry = await self._whole(key, bucket_key, entry)
            value = entry.value
            if value is None or entry.revision != revision:
                self._pending = max(self._pending, 1)
                return None
        is_large = entry.size >= LONG_BYTES
        payload = await in_turns(encoding_payload(value)) if is_large else encode_payload(value)
        return KeyChange(key, value.kind, payload, revision)

    async def _whole(self, key: str, bucket_key: str, entry: Entry) -> Entry:
        """Return an entry with its whole value, or the one that has replaced it and its pages."""
        deadline = _deadline(_REQUEST_SECONDS)
        bucket, _ = await self._store.wait_open(deadline)
        try:
            self._room = HeldRoom(bucket.paging.reader.room, deadline)
            return await bucket.paging.reader.whole("HandleChange", key, bucket_key, entry, deadline, self._room)
        except (errors.DamagedValueError, errors.AnswerTooLargeError) as error:
            self.position.begin_calls(entry.revision)
            self.position.reason = str(error)
            raise errors.ActorFailedError(str(error)) from None


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
