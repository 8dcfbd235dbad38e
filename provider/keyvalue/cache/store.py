"""A link's cache: one replica in this process. It answers from memory, whether NATS is there or not."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from contracts import extensions as wasi
from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.batch import change_result, single_changes
from provider.keyvalue.cache.causality import MAX_DRIFT_MS
from provider.keyvalue.cache.cells import Item, size_of
from provider.keyvalue.cache.expiry import ExpiryQueue
from provider.keyvalue.cache.operations import EVENTS, Change, Limits, list_keys
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.replication import Replication
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.conditional import entry_response
from provider.keyvalue.connections import ConnectionPool, link_error
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES
from provider.keyvalue.link_config import CacheConfig, LinkConfig
from provider.keyvalue.store import Call, SharedStore, complete
from provider.keyvalue.values import READS, READS_OF_MANY
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner, cancel

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 5.0
_EXPIRE_SECONDS = 0.5


class CacheLink:
    """One link's view of its cache; a `provider.keyvalue.store.Store`."""

    def __init__(self, config: LinkConfig, shared: Cache) -> None:
        self.config = config
        self.shared = shared
        limits = config.cache
        self._limits = Limits(limits.max_keys, limits.max_bytes, limits.max_value_bytes)

    @property
    def unhealthy(self) -> str | None:
        return self.shared.unhealthy

    @property
    def notice(self) -> str | None:
        return self.shared.notice

    def submit(self, request: kv.Request, call: Call) -> None:
        """Answer from memory, at once unless the link wants the first exchange with the other replicas awaited."""
        if self.shared.is_awaited:
            work = complete(call, self.shared.joined(call.deadline), lambda _: self._answer(request, call))
            self.shared.tasks.start(work, "await the other replicas")
        else:
            self._answer(request, call)

    def _answer(self, request: kv.Request, call: Call) -> None:
        try:
            result = self._perform(request)
        except errors.StoreError as error:
            call.fail(error)
        else:
            call.answer(result)

    def _perform(self, request: kv.Request) -> Any:
        replica, prefix, now_ms = self.shared.replica, self.config.key_prefix, wall_clock_ms()
        match request:
            case wasi.SetMany() | wasi.DeleteMany():
                return [change_result(change, self._tried(change)) for change in single_changes(request)]
            case kv.KeysRequest():
                values = [replica.read(_checked(prefix, key), now_ms) for key in request.keys]
                return READS_OF_MANY[type(request)](request, values)
            case wasi.ListKeys():
                return list_keys(replica, request, prefix, now_ms)
        assert isinstance(request, kv.SingleKeyRequest)
        return self._perform_single(request)

    def _perform_single(self, request: kv.SingleKeyRequest) -> Any:
        replica, now_ms = self.shared.replica, wall_clock_ms()
        key = _checked(self.config.key_prefix, request.key)
        read = READS.get(type(request))
        if read is not None:
            return read(request, replica.read(key, now_ms))
        if isinstance(request, wasi.GetEntry):
            return entry_response(request.key, replica.read(key, now_ms), replica.revision(key), now_ms)
        self._limits.event_bytes = self.shared.event_bytes
        return EVENTS[type(request)](Change(replica, self._limits, key, now_ms), request)

    def _tried(self, change: kv.SingleKeyRequest) -> Any:
        try:
            return self._perform_single(change)
        except errors.StoreError as error:
            return error


class Cache(SharedStore):
    """A replica and its connection.

    Args:
        connections: Where its connection comes from.
        settings: Of that connection.
        config: Of the cache; may be replaced by `configure`.
        tasks: Owner of the tasks of calls that wait.
        on_idle: Called when no link and no call holds it any more.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        settings: ConnectionSettings,
        config: CacheConfig,
        tasks: TaskOwner,
        on_idle: Callable[[], None],
    ) -> None:
        super().__init__(on_idle)
        self.tasks = tasks
        self.event_bytes = 0
        """How large a key and a value together may be."""
        self._connections = connections
        self._settings = settings
        self._replication = Replication(config, self._on_expiry)
        self._reason = ""
        self._may_wait_until = asyncio.get_running_loop().time() + config.join_wait_seconds
        self._expiry_queue = ExpiryQueue(self._replication.replica)
        self._keeper: asyncio.Task[None] | None = None
        self.configure(config)

    @property
    def replica(self) -> Replica:
        return self._replication.replica

    @property
    def unhealthy(self) -> str | None:
        """Why it cannot talk to the others; `None` while it can."""
        if self._replication.is_cut_off:
            return f"cache {self._config.state_subject!r}: connection to NATS lost, it serves alone"
        if self._reason:
            return f"cache {self._config.state_subject!r}: {self._reason}, it serves alone"
        ahead_ms = self.replica.clock.ahead_ms(wall_clock_ms())
        if ahead_ms > MAX_DRIFT_MS:
            seconds = (ahead_ms - MAX_DRIFT_MS) // 1000
            return (
                f"cache {self._config.state_subject!r}: its clock was ahead, so that the other replicas take nothing "
                f"from it for {seconds} s; a restart ends that, and loses what they have not taken"
            )
        return None

    @property
    def notice(self) -> str | None:
        """Whether it has still to catch up with the others."""
        if self._replication.joined.is_set():
            return None
        return f"cache {self._config.state_subject!r}: catching up with the other replicas"

    @property
    def is_awaited(self) -> bool:
        """Whether calls wait for the first exchange."""
        return self._config.join_wait_seconds > 0 and not self._replication.joined.is_set()

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
                await self._replication.joined.wait()
        except TimeoutError:
            if until == deadline:
                raise errors.LinkUnavailableError("its cache has still to catch up with the other replicas") from None

    def configure(self, config: CacheConfig) -> None:
        """Follow a link's settings."""
        self._config = config
        self._replication.configure(config)
        self._expiry_queue.grace_ms = max(2000 * config.heartbeat_seconds, MAX_DRIFT_MS)
        self.event_bytes = self._replication.event_bytes

    # --- life

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"keep cache {self._config.state_subject}")
        self._keeper.add_done_callback(self._on_kept)

    def _on_kept(self, keeper: asyncio.Task[None]) -> None:
        """Make a defect of the keeper visible: it ends in no other way than being cancelled."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._reason = f"internal error ({type(error).__name__})"
            self._replication.joined.set()
            _log.error("cache_keeper_failed", extra={"subject": self._config.state_subject}, exc_info=error)

    async def close(self) -> None:
        """Leave the others and disconnect."""
        await self._replication.leave()
        if self._keeper is not None:
            await cancel(self._keeper)

    async def _keep(self) -> None:
        """Connect, talk to the others, and expire what has expired; for as long as some link uses it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expire())
            pause = _FIRST_RETRY_SECONDS
            while True:
                try:
                    async with AsyncExitStack() as stack:
                        await self._connect(stack)
                        pause = _FIRST_RETRY_SECONDS
                        await self._replication.run()
                except (errors.NatsError, TimeoutError) as error:
                    reason = str(link_error(error, self._settings))
                    if reason != self._reason:
                        fields = {"subject": self._config.state_subject, "reason": reason}
                        _log.warning("cache_cut_off", extra=fields)
                    self._reason = reason
                    self._replication.joined.set()  # with whom there is no talking, there is nothing to wait for
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, _LAST_RETRY_SECONDS)

    async def _connect(self, stack: AsyncExitStack) -> None:
        connection = await self._connections.connect(self._settings)
        stack.push_async_callback(self._connections.disconnect, self._settings)
        await self._replication.subscribe(connection, stack)
        self._reason = ""
        self.event_bytes = self._replication.event_bytes
        _log.info("cache_opened", extra={"subject": self._config.state_subject, "replica": self.replica.id})

    # --- expiry

    def _on_expiry(self, key: str, item: Item) -> None:
        self._expiry_queue.add(key, item)

    async def _expire(self) -> None:
        """Remove what has expired, so that it takes no room."""
        while True:
            has_more = self._expiry_queue.remove_due(wall_clock_ms())
            await asyncio.sleep(0 if has_more else _EXPIRE_SECONDS)


def _checked(prefix: str, key: str) -> str:
    """Return a key as kept, or raise `errors.StoreError` when it is none; the limit is a bucket's."""
    if not key:
        raise errors.EmptyKeyError
    whole = prefix + key
    if len(whole) * 4 > MAX_BUCKET_KEY_BYTES and size_of(whole) > MAX_BUCKET_KEY_BYTES:
        raise errors.KeyTooLongError(size_of(whole), MAX_BUCKET_KEY_BYTES)
    return whole
