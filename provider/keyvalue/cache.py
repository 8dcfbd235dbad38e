"""A link's cache: one replica in this process, kept equal to those of other processes over plain NATS subjects.

It answers from memory, whether NATS is there or not. What changes is published once per turn of the event loop; what got
lost on the way, or happened while replicas could not talk, is found by comparing heartbeats and fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.connections import ConnectionPool, link_error
from provider.keyvalue.crdt import Item, is_drifted
from provider.keyvalue.deltas import (
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
from provider.keyvalue.events import EVENTS, Change, Limits, expire
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES
from provider.keyvalue.link import CacheConfig, LinkConfig
from provider.keyvalue.membership import Membership
from provider.keyvalue.replay import MAX_PAGE_BYTES, Fetch, Replays
from provider.keyvalue.replica import Replica, size_of
from provider.keyvalue.values import READS, READS_OF_MANY
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.tasks import cancel

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 5.0
_ALONE_AFTER_SECONDS = 0.5
"""How long a joiner listens for others before it takes itself to be alone."""

_ANSWER_JITTER_SECONDS = 0.02
_GRACE_SECONDS = 0.1
"""What another replica has seen and this one has not may be on its way; it is fetched after that."""

_PAGE_SECONDS = 1.0
_PAGE_TRIES = 3
_LEAVE_SECONDS = 0.15
_SWEEP_SECONDS = 0.5
_PRUNE_SLICE = 500
_MESSAGE_BYTES = 128 * 1024
_EVENT_BYTES = 64
_MESSAGE_RESERVE_BYTES = 32 * 1024
_DEFAULT_MAX_PAYLOAD = 1024 * 1024
_QUIET_SECONDS = 60.0
"""How often what strangers send is logged at most."""


class CacheLink:
    """One link's view of its cache; see `stores.LinkStore`."""

    def __init__(self, config: LinkConfig, cache: Cache) -> None:
        self.config = config
        self._cache = cache

    def hold(self) -> CacheLink:
        self._cache.users += 1
        return self

    def let_go(self) -> None:
        self._cache.users -= 1
        if not self._cache.users:
            self._cache.on_unused()

    @property
    def unhealthy(self) -> str | None:
        return self._cache.unhealthy

    @property
    def notice(self) -> str | None:
        return self._cache.notice

    def begin(self, request: kv.Request, deadline: float, use: Callable[[Any, bool], None]) -> bool:
        if self._cache.is_awaited or isinstance(request, kv.KeysRequest):
            return False
        use(self._answer(request), True)
        return True

    async def perform(self, request: kv.Request, deadline: float) -> Any:
        await self._cache.joined(deadline)
        return self._answer(request)

    def _answer(self, request: kv.Request) -> Any:
        replica, prefix, now_ms = self._cache.replica, self.config.key_prefix, _now_ms()
        if isinstance(request, kv.KeysRequest):
            values = [replica.read(_checked(prefix, key), now_ms) for key in request.keys]
            return READS_OF_MANY[type(request)](request, values)
        assert isinstance(request, kv.SingleKeyRequest)
        key = _checked(prefix, request.key)
        read = READS.get(type(request))
        if read is not None:
            return read(request, replica.read(key, now_ms))
        return EVENTS[type(request)](Change(replica, self._cache.limits, key, now_ms), request)


class Cache:
    """One replica and its life among the others.

    Args:
        connections: Where its connection comes from.
        settings: Of that connection.
        config: Of the cache; may be replaced by `configure`.
        on_unused: Called when no link uses it any more.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        settings: ConnectionSettings,
        config: CacheConfig,
        on_unused: Callable[[], None],
    ) -> None:
        self.users = 0
        self.on_unused = on_unused
        self.limits = Limits()
        self.replica = Replica(new_replica_id(), self._on_event, self._on_expiry)
        self._connections = connections
        self._settings = settings
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._members = Membership(self.replica.id, config.forget_seconds)
        self._replays = Replays(self.replica)
        self._connection: Connection | None = None
        self._reason = ""
        self._joined = asyncio.Event()
        self._heard = asyncio.Event()
        self._wanted: set[str] = set()
        self._is_wanted = asyncio.Event()
        self._is_urgent = asyncio.Event()
        """Set when a replica that is about to end has something that is wanted."""
        self._is_flush_due = False
        self._is_answer_due = False
        self._may_wait_until = self._loop.time() + config.join_wait_seconds
        self._expiring: list[tuple[int, int, str, Item]] = []
        self._expiries = itertools.count()
        self._kept_expiries = 0
        self._quiet_until: dict[str, float] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.configure(config)

    # --- state

    @property
    def unhealthy(self) -> str | None:
        """Why it cannot talk to the others; `None` while it can."""
        if self._connection is not None and not self._connection.is_connected:
            return f"cache {self._config.state_subject!r}: connection to NATS lost, it serves alone"
        if self._reason:
            return f"cache {self._config.state_subject!r}: {self._reason}, it serves alone"
        return None

    @property
    def notice(self) -> str | None:
        """Whether it has still to catch up with the others."""
        if self._joined.is_set():
            return None
        return f"cache {self._config.state_subject!r}: catching up with the other replicas"

    @property
    def is_awaited(self) -> bool:
        """Whether calls wait for the first exchange."""
        return self._config.join_wait_seconds > 0 and not self._joined.is_set()

    async def joined(self, deadline: float) -> None:
        """Wait for the first exchange where the link wants that, up to its limit.

        Raises:
            errors.LinkUnavailableError: The caller's deadline comes first.
        """
        if not self.is_awaited:
            return
        until = min(deadline, self._may_wait_until)
        try:
            async with asyncio.timeout_at(until):
                await self._joined.wait()
        except TimeoutError:
            if until == deadline:
                raise errors.LinkUnavailableError("its cache has still to catch up with the other replicas") from None

    def configure(self, config: CacheConfig) -> None:
        """Follow a link's settings."""
        self._config = config
        self._members.forget_seconds = config.forget_seconds
        self.limits.keys = config.max_keys
        self.limits.size_bytes = config.max_bytes
        self.limits.value_bytes = config.max_value_bytes
        self._limit_events()

    def _limit_events(self) -> None:
        """Let no event be larger than a message; before the server has said how large that is, its default counts."""
        most = self._connection.max_payload_bytes if self._connection is not None else 0
        most = most or _DEFAULT_MAX_PAYLOAD
        self.limits.event_bytes = max(most - _MESSAGE_RESERVE_BYTES, most // 2)
        self._replays.page_bytes = min(MAX_PAGE_BYTES, most // 2)

    # --- life

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"keep cache {self._config.state_subject}")
        self._keeper.add_done_callback(self._on_kept)

    def _on_kept(self, keeper: asyncio.Task[None]) -> None:
        """Make a defect of the keeper visible: it ends in no other way than being cancelled."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._reason = f"internal error ({type(error).__name__})"
            self._joined.set()
            _log.error("cache_keeper_failed", extra={"subject": self._config.state_subject}, exc_info=error)

    async def close(self) -> None:
        """Leave: see to it that the others have what happened here, for a short while, and disconnect."""
        if self._connection is not None and self._connection.is_connected:
            self._flush()
            self._publish(self._members.heartbeat(self.replica.context, wants_answer=True, is_leaving=True))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._others_have_all()
        if self._keeper is not None:
            await cancel(self._keeper)

    async def _others_have_all(self) -> None:
        while any(self._members.is_behind(peer, self.replica.context) for peer in self._members.peers):
            self._heard.clear()
            await self._heard.wait()

    async def _keep(self) -> None:
        """Connect, talk to the others, and expire what has expired; for as long as some link uses it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            pause = _FIRST_RETRY_SECONDS
            while True:
                try:
                    async with AsyncExitStack() as stack:
                        await self._connect(stack)
                        pause = _FIRST_RETRY_SECONDS
                        await self._talk()
                except (errors.NatsError, TimeoutError) as error:
                    reason = str(link_error(error, self._settings))
                    if reason != self._reason:
                        fields = {"subject": self._config.state_subject, "reason": reason}
                        _log.warning("cache_cut_off", extra=fields)
                    self._reason = reason
                    self._joined.set()  # with whom there is no talking, there is nothing to wait for
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, _LAST_RETRY_SECONDS)

    async def _connect(self, stack: AsyncExitStack) -> None:
        connection = await self._connections.connect(self._settings)
        stack.push_async_callback(self._connections.disconnect, self._settings)
        listeners = [
            await connection.listen(self._config.state_subject, self._on_state),
            await connection.listen(f"{self._config.replay_subject}.{self.replica.id}", self._on_replay_request),
        ]
        for listener in listeners:
            stack.push_async_callback(connection.unlisten, listener, _LEAVE_SECONDS)
        stack.callback(connection.on_reconnect(self._on_reconnect))
        self._connection = connection
        stack.callback(setattr, self, "_connection", None)
        self._reason = ""
        self._limit_events()
        await connection.flush(_PAGE_SECONDS)
        fields = {"subject": self._config.state_subject, "replica": self.replica.id}
        _log.info("cache_opened", extra=fields)

    async def _talk(self) -> None:
        """Join the others and follow them; returns never."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            await self._join()
            await self._fetch_wanted()

    async def _join(self) -> None:
        """Say hello, and fetch what the first to answer has."""
        self._publish(self._members.heartbeat(self.replica.context, wants_answer=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALONE_AFTER_SECONDS):
                await self._heard.wait()
        began = self._loop.time()
        for peer in self._members.peers:
            if await self._fetch(peer):
                seconds = round(self._loop.time() - began, 3)
                fields = {"subject": self._config.state_subject, "keys": self.replica.keys, "seconds": seconds}
                _log.info("cache_caught_up", extra=fields)
                break
        if self._members.peers and not self._joined.is_set():
            fields = {"subject": self._config.state_subject, "replicas": len(self._members.peers)}
            _log.warning("cache_catching_up", extra=fields)
        else:
            self._joined.set()

    def _on_reconnect(self) -> None:
        self._limit_events()
        self._publish(self._members.heartbeat(self.replica.context, wants_answer=True))

    async def _beat(self) -> None:
        """Say what has been seen, at every heartbeat, and forget what everybody has seen to be deleted."""
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds * (0.95 + random.random() / 10))
            for peer in self._members.forget_absent(self._loop.time()):
                _log.info("cache_replica_forgotten", extra={"subject": self._config.state_subject, "replica": peer})
            self._members.confirm(self.replica.context)
            await self._prune()
            self._publish(self._members.heartbeat(self.replica.context))
            for peer in self._members.peers:
                self._want_if_ahead(peer)
            if not self._wanted:
                self._joined.set()

    async def _prune(self) -> None:
        stable = self._members.stable(self.replica.context)
        forgotten = _PRUNE_SLICE
        while forgotten == _PRUNE_SLICE:
            forgotten = self.replica.prune(lambda replica: stable.get(replica, 0), _PRUNE_SLICE)
            await asyncio.sleep(0)

    # --- what happens here

    def _on_event(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Tell the others what has happened since the last turn. What cannot be sent now will be fetched."""
        self._is_flush_due = False
        replica = self.replica
        events, replica.unsent = replica.unsent, []
        first = replica.count - len(events) + 1
        while events:
            fitting = _fitting(events, min(_MESSAGE_BYTES, self.limits.event_bytes))
            self._publish(Deltas(first, events[:fitting]))
            del events[:fitting]
            first += fitting

    def _publish(self, message: Message) -> None:
        self._send(self._config.state_subject.encode(), message)

    def _send(self, subject: bytes, message: Message) -> None:
        """Send a message if there is a connection. A server would end the connection for one that is too large."""
        if self._connection is None:
            return
        data = encode_message(self.replica.id, message)
        if len(data) > self._connection.max_payload_bytes > 0:
            fields = {"subject": self._config.state_subject, "bytes": len(data)}
            _log.error("cache_message_too_large", extra=fields)
            return
        with contextlib.suppress(errors.NotConnectedError):
            self._connection.publish(subject, data)

    def _on_expiry(self, key: str, item: Item) -> None:
        """See to it that a text is removed when it expires; that of another replica later, in case that one is gone."""
        grace_ms = 0 if item.replica == self.replica.id else 2000 * self._config.heartbeat_seconds
        heapq.heappush(self._expiring, (item.expires_at_ms + grace_ms, next(self._expiries), key, item))
        if len(self._expiring) > 2 * self._kept_expiries + 1024:
            self._expiring = [entry for entry in self._expiring if self._is_there(entry[2], entry[3])]
            heapq.heapify(self._expiring)
            self._kept_expiries = len(self._expiring)

    def _is_there(self, key: str, item: Item) -> bool:
        cell = self.replica.cell(key)
        return cell is not None and cell.has(item.dot)

    async def _sweep(self) -> None:
        """Remove what has expired, so that it takes no room; nobody has seen it since it expired."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now_ms = _now_ms()
            for _ in range(_PRUNE_SLICE):
                if not self._expiring or self._expiring[0][0] > now_ms:
                    break
                _, _, key, item = heapq.heappop(self._expiring)
                expire(self.replica, key, item, now_ms)

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
        now_ms = _now_ms()
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
        if self._members.hear(sender, heartbeat, self._loop.time()):
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
        self._publish(self._members.heartbeat(self.replica.context))

    def _on_replay_request(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        try:
            _, request = decode_message(payload)
            if reply and isinstance(request, ReplayRequest):
                self._send(reply, self._replays.answer(request, self._loop.time()))
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
                    self._joined.set()
                if self._members.is_leaving(peer):
                    self._members.leave(peer)

    async def _fetch(self, peer: str) -> bool:
        """Fetch what another replica has and this one lacks; returns whether all of it is here."""
        connection = self._connection
        if connection is None:
            return False
        subject = f"{self._config.replay_subject}.{peer}".encode()
        fetch = Fetch(self.replica)
        failures = 0
        while not fetch.is_done and failures < _PAGE_TRIES:
            try:
                request = encode_message(self.replica.id, fetch.request())
                _, payload = await connection.request(subject, request, deadline=self._loop.time() + _PAGE_SECONDS)
                _, page = decode_message(payload)
                if not isinstance(page, ReplayPage):
                    raise ForeignMessageError("not a page")
                fetch.take(page, _now_ms())
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


def _fitting(events: list[Event], message_bytes: int) -> int:
    """Return how many of some events go into one message; at least one."""
    size = 0
    for place, event in enumerate(events):
        size += _EVENT_BYTES + len(event.key) + sum(20 + 5 * len(counts) for counts in event.removes.values())
        size += size_of(getattr(event.add, "value", ""))
        if place and size > message_bytes:
            return place
    return len(events)


def _checked(prefix: str, key: str) -> str:
    """Return a key as kept, or raise `errors.StoreError` when it is none; the limit is a bucket's."""
    if not key:
        raise errors.EmptyKeyError
    whole = prefix + key
    if len(whole) * 4 > MAX_BUCKET_KEY_BYTES and size_of(whole) > MAX_BUCKET_KEY_BYTES:
        raise errors.KeyTooLongError(size_of(whole), MAX_BUCKET_KEY_BYTES)
    return whole


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
