"""What a replica tells the others and what it takes from them. Knows NATS as a connection; the state is `replica`'s.

What changes is published once per turn of the event loop. What got lost on the way, or happened while replicas could not
talk, is found by comparing heartbeats, and fetched from one that has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from provider import errors
from provider.keyvalue.cache.cells import Item, is_drifted
from provider.keyvalue.cache.messages import (
    Deltas,
    Event,
    ForeignMessageError,
    Heartbeat,
    Message,
    ReplayPage,
    ReplayRequest,
    decode_message,
    encode_message,
    is_from,
    new_replica_id,
)
from provider.keyvalue.cache.peers import Membership
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import MAX_PAGE_BYTES, Fetch, Replays
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.link_config import CacheConfig
from provider.nats.connection import Connection

_log = logging.getLogger(__name__)

_ALONE_AFTER_SECONDS = 0.5
"""How long a joiner listens for others before it takes itself to be alone."""

_ANSWER_JITTER_SECONDS = 0.02
_GRACE_SECONDS = 0.1
"""What another replica has seen and this one has not may be on its way; it is fetched after that."""

_SILENT_HEARTBEATS = 2.5
"""A replica that is silent for longer is not asked for what it has: waiting for it would hold up the others."""

_FLUSH_SECONDS = 1.0
_PAGE_SECONDS = 1.0
_PAGE_TRIES = 3
_LEAVE_SECONDS = 0.15
_PRUNE_SLICE = 500
_MESSAGE_BYTES = 128 * 1024
_MESSAGE_RESERVE_BYTES = 32 * 1024
_DEFAULT_MAX_PAYLOAD = 1024 * 1024
_MAX_COUNT = 2**53
_QUIET_SECONDS = 60.0
"""How often what strangers send is logged at most."""


class Replication:
    """One replica among others.

    Args:
        config: Of the cache; may be replaced by `configure`.
        on_expiry: Called with the key and the item when a text that expires has been added.

    Attributes:
        replica: Its state.
        joined: Set once what the others had is here, or there is nobody to have it from.
    """

    def __init__(self, config: CacheConfig, on_expiry: Callable[[str, Item], None]) -> None:
        self.replica = Replica(new_replica_id(), self._on_event, on_expiry)
        self.joined = asyncio.Event()
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._members = Membership(self.replica.id, config.forget_seconds)
        self._replays = Replays(self.replica)
        self._connection: Connection | None = None
        self._heard = asyncio.Event()
        self._wanted: set[str] = set()
        self._is_wanted = asyncio.Event()
        self._is_urgent = asyncio.Event()
        """Set when a replica that is about to end has something that is wanted."""
        self._is_flush_due = False
        self._is_answer_due = False
        self._is_leaving = False
        self._quiet_until: dict[str, float] = {}

    @property
    def is_cut_off(self) -> bool:
        """Whether there was a connection and it is lost."""
        return self._connection is not None and not self._connection.is_connected

    @property
    def event_bytes(self) -> int:
        """How large a key and a value together may be to fit into a message; as the server says, or usually says."""
        most = self._max_payload_bytes
        return max(most - _MESSAGE_RESERVE_BYTES, most // 2)

    @property
    def _max_payload_bytes(self) -> int:
        known = self._connection.max_payload_bytes if self._connection is not None else 0
        return known or _DEFAULT_MAX_PAYLOAD

    def configure(self, config: CacheConfig) -> None:
        """Follow a link's settings."""
        self._config = config
        self._members.forget_seconds = config.forget_seconds

    async def listen(self, connection: Connection, stack: AsyncExitStack) -> None:
        """Listen to the others on a connection until the stack is closed."""
        listeners = [
            await connection.listen(self._config.state_subject, self._on_state),
            await connection.listen(f"{self._config.replay_subject}.{self.replica.id}", self._on_replay_request),
        ]
        for listener in listeners:
            stack.push_async_callback(connection.unlisten, listener, _LEAVE_SECONDS)
        stack.callback(connection.on_reconnect(self._on_reconnect))
        stack.callback(connection.on_write(self._flush))
        self._connection = connection
        stack.callback(setattr, self, "_connection", None)
        await connection.flush(_FLUSH_SECONDS)

    async def talk(self) -> None:
        """Join the others and follow them; returns never."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            await self._join()
            await self._fetch_wanted()

    async def leave(self) -> None:
        """See to it that the others have what happened here, for a short while."""
        if self._connection is None or not self._connection.is_connected:
            return
        self._is_leaving = True
        self._flush()
        self._publish(self._heartbeat(wants_answer=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                is_behind = True  # somebody may be there who has not been heard yet
                while is_behind:
                    self._heard.clear()
                    await self._heard.wait()
                    context = self.replica.context
                    is_behind = any(self._members.is_behind(peer, context) for peer in self._members.peers)

    async def _join(self) -> None:
        """Say hello, and fetch what the first to answer has."""
        self._publish(self._heartbeat(wants_answer=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALONE_AFTER_SECONDS):
                await self._heard.wait()
        began = self._loop.time()
        for peer in self._members.peers:
            if await self._fetch(peer):
                seconds = round(self._loop.time() - began, 3)
                fields = {"subject": self._config.state_subject, "keys": self.replica.keys, "seconds": seconds}
                _log.info("cache_caught_up", extra=fields)
                self.joined.set()
                return
        if self._members.peers:
            fields = {"subject": self._config.state_subject, "replicas": len(self._members.peers)}
            _log.warning("cache_catching_up", extra=fields)
            for peer in self._members.peers:
                self._want(peer)
        else:
            self.joined.set()

    def _on_reconnect(self) -> None:
        self._publish(self._heartbeat(wants_answer=True))

    async def _beat(self) -> None:
        """Say what has been seen, at every heartbeat, and forget what everybody has seen to be deleted."""
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds * (0.95 + random.random() / 10))
            for peer in self._members.forget_absent(self._loop.time()):
                _log.info("cache_replica_forgotten", extra={"subject": self._config.state_subject, "replica": peer})
            self._members.confirm(self.replica.context)
            await self._prune()
            self._publish(self._heartbeat())
            silent_since = self._loop.time() - _SILENT_HEARTBEATS * self._config.heartbeat_seconds
            for peer in self._members.peers:
                if self._members.is_heard(peer, silent_since):
                    self._want_if_ahead(peer)

    async def _prune(self) -> None:
        stable = self._members.stable(self.replica.context)
        forgotten = _PRUNE_SLICE
        while forgotten == _PRUNE_SLICE:
            forgotten = self.replica.prune(lambda replica: stable.get(replica, 0), _PRUNE_SLICE)
            await asyncio.sleep(0)

    # --- what happens here

    def _on_event(self) -> None:
        """See to it that the others are told: with the next write, by which its caller is answered, or at the turn's end."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Tell the others what has happened since the last time. What cannot be sent now will be fetched."""
        self._is_flush_due = False
        replica = self.replica
        if not replica.unsent:
            return
        events, replica.unsent = replica.unsent, []
        if self._connection is not None:
            self._publish_events(replica.count - len(events) + 1, events)

    def _publish_events(self, first: int, events: list[Event]) -> None:
        """Send events in one message, or in several when it is too large for a message or too much at once."""
        data = encode_message(self.replica.id, Deltas(first, events))
        if len(data) > min(_MESSAGE_BYTES, self._max_payload_bytes) and len(events) > 1:
            middle = len(events) // 2
            self._publish_events(first, events[:middle])
            self._publish_events(first + middle, events[middle:])
        else:
            self._send(data)

    def _heartbeat(self, *, wants_answer: bool = False) -> Heartbeat:
        return self._members.heartbeat(self.replica.context, wants_answer=wants_answer, is_leaving=self._is_leaving)

    def _publish(self, message: Message, reply_subject: bytes = b"") -> None:
        """Tell all, or who has asked, if there is a connection."""
        if self._connection is not None:
            self._send(encode_message(self.replica.id, message), reply_subject)

    def _send(self, data: bytes, reply_subject: bytes = b"") -> None:
        if self._connection is None:
            return
        try:
            if reply_subject:
                self._connection.answer(reply_subject, data)
            else:
                self._connection.publish(self._config.state_subject.encode(), data)
        except errors.NotConnectedError:
            pass
        except errors.MessageTooLargeError as error:
            fields = {"subject": self._config.state_subject, "bytes": error.size}
            _log.error("cache_message_too_large", extra=fields)

    # --- what others say

    def _on_state(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        if is_from(payload, self.replica.id):
            return
        try:
            sender, message = decode_message(payload)
            if isinstance(message, Deltas):
                self._take_deltas(sender, message)
            elif isinstance(message, Heartbeat):
                self._take_heartbeat(sender, message)
        except ForeignMessageError as error:
            self._refuse(error)

    def _take_deltas(self, sender: str, deltas: Deltas) -> None:
        now_ms = wall_clock_ms()
        if deltas.first + len(deltas.events) > _MAX_COUNT:
            raise ForeignMessageError(f"replica {sender} counts further than any replica can")
        if any(is_drifted(event.clock, now_ms) for event in deltas.events):
            raise ForeignMessageError(f"replica {sender} has a clock too far ahead")
        replica = self.replica
        is_gap = deltas.first > replica.context.vector.get(sender, 0) + 1
        for count, event in enumerate(deltas.events, deltas.first):
            replica.apply(sender, count, event)
        if is_gap:
            self._want(sender)

    def _take_heartbeat(self, sender: str, heartbeat: Heartbeat) -> None:
        replica = self.replica
        if heartbeat.vector.get(replica.id, 0) > replica.count:
            raise ForeignMessageError(f"replica {sender} knows events of this one that never were")
        is_new = self._members.hear(sender, heartbeat, self._loop.time())
        if is_new and not heartbeat.is_leaving:
            _log.info("cache_replica_heard", extra={"subject": self._config.state_subject, "replica": sender})
        self._heard.set()
        if heartbeat.wants_answer:
            self._answer_soon(at_once=heartbeat.is_leaving)
        self._want_if_ahead(sender)
        if heartbeat.is_leaving:
            self._is_urgent.set()
            if sender not in self._wanted:
                self._members.leave(sender)

    def _answer_soon(self, *, at_once: bool) -> None:
        """Send a heartbeat, not all replicas in the same moment."""
        if not self._is_answer_due:
            self._is_answer_due = True
            self._loop.call_later(0 if at_once else random.random() * _ANSWER_JITTER_SECONDS, self._answer)

    def _answer(self) -> None:
        self._is_answer_due = False
        self._publish(self._heartbeat())

    def _on_replay_request(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        try:
            sender, request = decode_message(payload)
            if reply and isinstance(request, ReplayRequest):
                self._replays.page_bytes = min(MAX_PAGE_BYTES, self._max_payload_bytes // 2)
                self._publish(self._replays.answer(sender, request, self._loop.time()), reply)
        except ForeignMessageError as error:
            self._refuse(error)

    def _refuse(self, error: ForeignMessageError) -> None:
        """Log what cannot be used, but not every time."""
        kind = f"version {error.version}" if error.version is not None else "foreign"
        now = self._loop.time()
        if self._quiet_until.get(kind, 0.0) <= now:
            self._quiet_until[kind] = now + _QUIET_SECONDS
            fields = {"subject": self._config.state_subject, "reason": str(error)}
            _log.warning("cache_message_refused", extra=fields | {"version": error.version})

    # --- what others have and this one lacks

    def _want_if_ahead(self, peer: str) -> None:
        if self._members.is_ahead(peer, self.replica.context):
            self._want(peer)

    def _want(self, peer: str) -> None:
        self._wanted.add(peer)
        self._is_wanted.set()

    def _is_lacking(self, peer: str) -> bool:
        context = self.replica.context
        return peer in context.strays or self._members.is_ahead(peer, context)

    async def _fetch_wanted(self) -> None:
        """Fetch from those that are ahead, one after the other."""
        while True:
            await self._is_wanted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._is_urgent.wait()
            self._is_urgent.clear()
            self._is_wanted.clear()
            wanted, self._wanted = self._wanted, set()
            for peer in wanted:
                if self._is_lacking(peer) and await self._fetch(peer):
                    self._members.confirm(self.replica.context)
                    self._answer_soon(at_once=True)
                    self.joined.set()
                if self._members.is_leaving(peer):
                    self._members.leave(peer)
            if not any(self._is_lacking(peer) for peer in self._members.peers):
                self.joined.set()

    async def _fetch(self, peer: str) -> bool:
        """Fetch what another replica has and this one lacks; returns whether all of it is here."""
        fetch = Fetch(self.replica)
        try:
            return await self._take_pages(peer, fetch)
        finally:
            fetch.end()

    async def _take_pages(self, peer: str, fetch: Fetch) -> bool:
        connection = self._connection
        if connection is None:
            return False
        subject = f"{self._config.replay_subject}.{peer}".encode()
        failures = 0
        while not fetch.is_done and failures < _PAGE_TRIES:
            try:
                request = encode_message(self.replica.id, fetch.request())
                _, payload = await connection.request(subject, request, deadline=self._loop.time() + _PAGE_SECONDS)
                _, page = decode_message(payload)
                if not isinstance(page, ReplayPage):
                    raise ForeignMessageError("not a page")
                fetch.take(page, wall_clock_ms())
            except ForeignMessageError as error:
                self._refuse(error)
                return False
            except errors.RequestTimeoutError:
                failures += 1
            except errors.NatsError:
                return False
        fields = {"subject": self._config.state_subject, "replica": peer, "keys": fetch.keys}
        _log.debug("cache_fetched", extra={**fields, "is_done": fetch.is_done})
        return fetch.is_done
