"""The cache of a link as a store. It answers from memory, whether or not there is a connection to NATS."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from msgspec import structs

from contracts import keyvalue as kv
from contracts.extensions import ChangeResult, DeleteMany, EntryResponse, GetEntry, ListKeys, SetMany
from contracts.long_values import LONG_BYTES, LongBytes
from contracts.statistics import CacheStatistics
from provider import errors
from provider.keyvalue.batch import change_result, single_changes
from provider.keyvalue.byte_values import ListPage, SetBytesMany
from provider.keyvalue.cache.causality import MAX_DRIFT_MS
from provider.keyvalue.cache.expiry import ExpiryQueue
from provider.keyvalue.cache.items.item import Item
from provider.keyvalue.cache.listing import list_keys, list_page
from provider.keyvalue.cache.long_calls import LONG_OPERATIONS, LongCalls
from provider.keyvalue.cache.operations import MUTATORS, CacheLimits, Mutation, whole_key
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.replication import Replication
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.conditional import entry_response
from provider.keyvalue.connections import ConnectionPool
from provider.keyvalue.given_values import Remark
from provider.keyvalue.link_config import CacheConfig, LinkConfig
from provider.keyvalue.store import Call, SharedStore, complete
from provider.keyvalue.tables import READS, READS_OF_MANY
from provider.keyvalue.values import MAX_ANSWER_BYTES
from provider.nats.settings import ConnectionSettings
from provider.streaks import FailureStreak
from provider.tasks import TaskOwner, cancel, in_turns

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 5.0
"""Pauses between attempts to connect: short as most interruptions, then doubled up to one that burdens no server."""

_EXPIRE_SECONDS = 0.5
"""Time that an expired item may still take room."""


class CacheLink:
    """One link's view of its cache; a `provider.keyvalue.store.Store`."""

    def __init__(self, config: LinkConfig, shared: Cache) -> None:
        self.config = config
        self.shared = shared
        self._failures = FailureStreak("changes", asyncio.get_running_loop().time)

    @property
    def backend(self) -> str:
        return self.config.backend.value

    @property
    def unhealthy(self) -> str | None:
        reason = self._failures.reason
        return self.shared.unhealthy or (f"cache {self.config.cache.state_subject!r}: {reason}" if reason else None)

    @property
    def notice(self) -> str | None:
        return self.shared.notice

    @property
    def remarks(self) -> list[Remark]:
        return self.shared.contradictions(self.config.cache)

    def unlink(self) -> None:
        self.shared.unlink(self.config.cache)

    def submit(self, request: kv.Request, call: Call) -> None:
        """Answer from memory: at once, unless the link has calls wait until the replica has joined the others."""
        if self.shared.is_joining:
            joined = self.shared.wait_until_joined(call.deadline)
            work = complete(call, joined, lambda _: self._answer(request, call))
            self.shared.tasks.start(work, "wait until joined")
        else:
            self._answer(request, call)

    def _answer(self, request: kv.Request, call: Call) -> None:
        long_calls = self.shared.long_calls
        if type(request) in LONG_OPERATIONS and long_calls.is_long(request, self.config.key_prefix):
            work = long_calls.perform(request, self.config.key_prefix, self.shared.limits, call)
            self.shared.tasks.start(complete(call, work, call.answer), "read a large set or list")
            return
        if isinstance(request, SetMany | SetBytesMany) and sum(len(item.value) for item in request.items) > LONG_BYTES:
            changes = in_turns(self._changing(single_changes(request)))
            self.shared.tasks.start(complete(call, changes, call.answer), "set large texts")
            return
        try:
            result = self._perform(request)
        except errors.StoreError as error:
            call.fail(error)
            return
        if size_bytes := _long_bytes(result):
            read = self._read_long(request, size_bytes, call)
            self.shared.tasks.start(complete(call, read, call.answer), "read a large text")
        else:
            call.answer(result)

    async def _read_long(self, request: kv.Request, size_bytes: int, call: Call) -> Any:
        """Read a large text once there is room for its answer: until that is sent the text is in memory, also if it is replaced."""
        try:
            await call.take_room(size_bytes)
        except TimeoutError:
            raise errors.StoreTimeoutError(0, "other large values are being read") from None
        return self._perform(request)

    def _changing(self, changes: Sequence[kv.SingleKeyRequest]) -> Generator[None, None, list[ChangeResult]]:
        """Make changes one after the other; other work may be done in between."""
        results = []
        for change in changes:
            results.append(change_result(change, self._try(change)))
            yield
        return results

    def _perform(self, request: kv.Request) -> Any:
        if isinstance(request, kv.SingleKeyRequest):
            return self._perform_single(request)
        replica, prefix, now_ms = self.shared.replica, self.config.key_prefix, wall_clock_ms()
        match request:
            case SetMany() | DeleteMany() | SetBytesMany():
                return [change_result(change, self._try(change)) for change in single_changes(request)]
            case kv.KeysRequest():
                values = [replica.read(whole_key(prefix, key), now_ms) for key in request.keys]
                return READS_OF_MANY[type(request)](request, values)
            case ListPage():
                return list_page(replica, request, prefix, now_ms)
        assert isinstance(request, ListKeys)
        return list_keys(replica, request, prefix, now_ms)

    def _perform_single(self, request: kv.SingleKeyRequest) -> Any:
        replica, now_ms = self.shared.replica, wall_clock_ms()
        key = whole_key(self.config.key_prefix, request.key)
        read = READS.get(type(request))
        if read is not None:
            return read(request, replica.read(key, now_ms))
        if isinstance(request, GetEntry):
            return entry_response(request.key, replica.read(key, now_ms), replica.revision(key), now_ms)
        try:
            result = MUTATORS[type(request)](Mutation(replica, self.shared.limits, key, now_ms), request)
        except errors.CacheFullError as error:
            self._failures.failed(error)
            raise
        if self._failures.count:
            self._failures.succeeded()
        return result

    def _try(self, change: kv.SingleKeyRequest) -> Any:
        """Return the result of one of many changes, or its error."""
        try:
            return self._perform_single(change)
        except errors.StoreError as error:
            return error


def _long_bytes(result: Any) -> int:
    """Return the size of an answer that is, or has, a long text or binary value; 0 for any other."""
    if type(result) in (kv.GetResponse, EntryResponse):
        result = result.value
    return len(result) if isinstance(result, LongBytes) else 0


class Cache(SharedStore[CacheConfig]):
    """A replica with its connection, shared by the links on the same subjects.

    Args:
        connections: Pool of connections.
        settings: Settings of the connection.
        config: Settings of the cache; `configure` replaces them.
        keys: Keys by which replicas know each other; None if `REPLICATION_AUTH` is off.
        tasks: Owner of the tasks of calls that wait.
        on_idle: Function called when no link and no call holds the cache any more.

    Attributes:
        tasks: Owner of the tasks of calls that wait.
        long_calls: The calls about large sets and lists.
        limits: Limits of every change.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        settings: ConnectionSettings,
        config: CacheConfig,
        keys: ClusterKeys | None,
        tasks: TaskOwner,
        on_idle: Callable[[], None],
    ) -> None:
        super().__init__(on_idle)
        self.tasks = tasks
        self._connections = connections
        self._settings = settings
        self._replication = Replication(config, keys, self._on_expiry)
        self._reason = ""
        self._join_deadline = asyncio.get_running_loop().time() + config.join_wait_seconds
        self._expiry_queue = ExpiryQueue(self._replication.replica)
        self.long_calls = LongCalls(self._replication.replica, MAX_ANSWER_BYTES)
        self._task: asyncio.Task[None] | None = None
        self.configure(config)

    @property
    def replica(self) -> Replica:
        return self._replication.replica

    @property
    def name(self) -> str:
        return self._config.state_subject

    @property
    def statistics(self) -> CacheStatistics:
        """The state of the replica, of its limits, and of its exchange with the others."""
        return structs.replace(
            self._replication.statistics,
            links=self.link_count,
            is_healthy=self.unhealthy is None,
            max_keys=self._config.max_keys,
            max_bytes=self._config.max_bytes,
        )

    @property
    def unhealthy(self) -> str | None:
        """Reason the cache cannot reach or understand the other replicas, or None if it can."""
        if self._replication.is_cut_off:
            return f"cache {self._config.state_subject!r}: connection to NATS lost, it serves alone"
        if self._reason:
            return f"cache {self._config.state_subject!r}: {self._reason}, it serves alone"
        if not self._replication.joined.is_set() and (strangers := self._replication.strangers):
            return (
                f"cache {self._config.state_subject!r}: catching up, but it can exchange nothing with the replicas that it "
                f"hears: {', '.join(strangers)}"
            )
        ahead_ms = self.replica.clock.ahead_ms(wall_clock_ms())
        if ahead_ms > MAX_DRIFT_MS:
            seconds = (ahead_ms - MAX_DRIFT_MS) // 1000
            return (
                f"cache {self._config.state_subject!r}: its clock was ahead, so the other replicas refuse its changes "
                f"for {seconds} s; a restart ends that, but loses the changes that they have refused"
            )
        return None

    @property
    def notice(self) -> str | None:
        """Remarks on the other replicas, or None: that the cache is catching up, refuses messages, or disagrees."""
        remarks = self._replication.remarks()
        if not self._replication.joined.is_set():
            remarks.insert(0, "catching up with the other replicas")
        return f"cache {self._config.state_subject!r}: {'; '.join(remarks)}" if remarks else None

    @property
    def is_joining(self) -> bool:
        """True if calls must wait until the replica has joined the others."""
        return self._config.join_wait_seconds > 0 and not self._replication.joined.is_set()

    async def wait_until_joined(self, deadline: float) -> None:
        """Wait until the replica has joined the others, or the time that the link allows for that has passed.

        Args:
            deadline: Deadline of the caller, on the event loop's clock.

        Raises:
            errors.LinkUnavailableError: The caller's deadline comes first.
        """
        if not self.is_joining:
            return
        until = min(deadline, self._join_deadline)
        try:
            async with asyncio.timeout_at(until):
                await self._replication.joined.wait()
        except TimeoutError:
            if until == deadline:
                raise errors.LinkUnavailableError("its cache has not caught up with the other replicas yet") from None

    def limit_answers(self, max_answer_bytes: int) -> None:
        """Set the size of the largest answer about a large set or list."""
        self.long_calls = LongCalls(self.replica, max_answer_bytes)

    def configure(self, config: CacheConfig) -> None:
        """Replace the settings with those of the links."""
        self._config = config
        self._replication.configure(config)
        self._expiry_queue.grace_ms = max(2000 * config.heartbeat_seconds, MAX_DRIFT_MS)
        self.limits = CacheLimits(
            config.max_keys,
            config.max_bytes,
            config.max_value_bytes,
            self._replication.event_bytes,
            lambda: self._replication.text_limit,
        )

    # --- life

    def start(self) -> None:
        """Connect and join the other replicas, in the background."""
        self._task = asyncio.create_task(self._run(), name=f"run cache {self._config.state_subject}")
        self._task.add_done_callback(self._on_ended)

    async def close(self) -> None:
        """Leave the other replicas and disconnect."""
        await self._replication.leave()
        if self._task is not None:
            await cancel(self._task)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """Show a defect in the task, which otherwise ends only by being cancelled."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reason = f"internal error ({type(error).__name__})"
            self._replication.joined.set()
            _log.error("cache_keeper_failed", extra={"subject": self._config.state_subject}, exc_info=error)

    async def _run(self) -> None:
        """Stay connected, stay in step with the others, and remove expired items, until cancelled."""
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
                    self._on_cut_off(str(self._connections.link_error(error, self._settings)))
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, _LAST_RETRY_SECONDS)

    def _on_cut_off(self, reason: str) -> None:
        if reason != self._reason:
            _log.warning("cache_cut_off", extra={"subject": self._config.state_subject, "reason": reason})
        self._reason = reason
        # The other replicas cannot be reached, so calls need not wait for them.
        self._replication.joined.set()

    async def _connect(self, stack: AsyncExitStack) -> None:
        connection = await self._connections.connect(self._settings)
        stack.push_async_callback(self._connections.disconnect, self._settings)
        await self._replication.subscribe(connection, stack)
        self._reason = ""
        self.limits.event_bytes = self._replication.event_bytes
        _log.info("cache_opened", extra={"subject": self._config.state_subject, "replica": self.replica.id})

    # --- expiry

    def _on_expiry(self, key: str, item: Item) -> None:
        self._expiry_queue.add(key, item)

    async def _expire(self) -> None:
        """Remove expired items, and take apart the large sets and lists that were removed, in slices."""
        while True:
            has_more = self._expiry_queue.remove_due(wall_clock_ms())
            has_more = self.replica.drop_blocks() or has_more
            await asyncio.sleep(0 if has_more else _EXPIRE_SECONDS)
