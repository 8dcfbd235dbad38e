"""A bucket as a store: opened in the background, watched, and opened again after every fault."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from msgspec import structs

from contracts import extensions
from contracts import keyvalue as kv
from contracts.long_values import LONG_BYTES
from contracts.statistics import MOST_NAME_CHARACTERS, BucketStatistics
from provider import errors
from provider.keyvalue.batch import change_many
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.engine import CACHED_BYTES, Engine
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.paged_value import is_paged
from provider.keyvalue.bucket.pages.paging import PAGE_GRACE_SECONDS, PagingSettings
from provider.keyvalue.bucket.pages.value_reader import ValueChangedError
from provider.keyvalue.bucket.scan import list_keys, list_page
from provider.keyvalue.bucket.stream import (
    Traits,
    check_requirements,
    open_stream,
    refresh_stream,
    stream_differences,
)
from provider.keyvalue.bucket.sweep import Sweeper
from provider.keyvalue.byte_values import ListPage, SetBytesMany
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.conditional import CONDITIONS, entry_response
from provider.keyvalue.connections import OPEN_SECONDS, ConnectionPool
from provider.keyvalue.given_values import Remark
from provider.keyvalue.keys import RESERVED_KEY, encode_key
from provider.keyvalue.kinds import Value
from provider.keyvalue.link_config import BucketConfig, LinkConfig
from provider.keyvalue.payloads import encoding_payload
from provider.keyvalue.store import Call, SharedStore, complete
from provider.keyvalue.tables import CHANGES, READS, READS_OF_MANY, Read
from provider.keyvalue.values import MAX_ANSWER_BYTES
from provider.nats import jetstream as js
from provider.nats.buckets import STREAM_NOT_FOUND
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.plain_text import cut
from provider.tasks import TaskOwner, cancel, in_turns

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.25
"""The pause after a first failure, doubled after each further one. Most restarts of a server are over by then."""

_LAST_RETRY_SECONDS = 5.0
"""The longest pause between attempts: a healed server is in use again within five seconds."""

_REFRESH_SECONDS = 10.0
"""The time between two looks at the stream: a bucket that was deleted and made anew is noticed this fast."""


class BucketLink:
    """One link's view of its bucket; a `provider.keyvalue.store.Store`."""

    def __init__(self, config: LinkConfig, shared: BucketStore) -> None:
        self.config = config
        self.shared = shared

    @property
    def backend(self) -> str:
        return self.config.backend.value

    @property
    def unhealthy(self) -> str | None:
        return self.shared.unhealthy

    @property
    def notice(self) -> str | None:
        """Nothing to remark: a bucket works or it does not."""
        return None

    @property
    def remarks(self) -> list[Remark]:
        return self.shared.contradictions(self.config.bucket) + self.shared.differences(self.config.bucket)

    def unlink(self) -> None:
        self.shared.unlink(self.config.bucket)

    def submit(self, request: kv.Request, call: Call) -> None:
        """Carry out an operation: that of one key without a task, which would cost a tenth of the operation."""
        if self.shared.opened is None or not self._begin(request, call, *self.shared.opened):
            self._start(request, call)

    def _begin(self, request: kv.Request, call: Call, bucket: Bucket, engine: Engine) -> bool:
        """Begin a change or a direct get whose outcome answers the call; return whether the call needs nothing more."""
        kind = type(request)
        read = READS.get(kind)
        if read is None and kind not in CHANGES and kind not in CONDITIONS:
            return False
        assert isinstance(request, kv.SingleKeyRequest)
        try:
            bucket_key = encode_key(request.key, self.config.key_prefix)
        except errors.StoreError as error:  # the key is not valid
            call.fail(error)
            return True
        if read is not None:
            return bucket.begin_read(bucket_key, call.deadline, functools.partial(self._use, request, read, call))
        engine.submit(request, bucket_key, call)
        return True

    def _use(self, request: kv.Request, read: Read, call: Call, value: Value | None, is_read: bool) -> None:
        """Answer a call by the value that its direct get has found."""
        # No reply, or one that is not an entry: the long way tells the reason. It also reads pages.
        if not is_read or is_paged(value):
            self._start(request, call)
            return
        try:
            result = read(request, value)
        except errors.StoreError as error:  # the value is of another kind
            call.fail(error)
        else:
            call.answer(result)

    def _start(self, request: kv.Request, call: Call) -> None:
        if not call.is_done:
            self.shared.tasks.start(complete(call, self._perform(request, call), call.answer), "serve a call")

    async def _perform(self, request: kv.Request, call: Call) -> Any:
        deadline = call.deadline
        bucket, engine = self.shared.opened or await self.shared.wait_open(deadline)
        prefix = self.config.key_prefix
        match request:
            case extensions.SetMany() | extensions.DeleteMany() | SetBytesMany():
                return await change_many(request, lambda change: self._perform(change, call))
            case kv.KeysRequest():
                return await self._read_many(request, bucket, call)
            case extensions.ListKeys():
                return await list_keys(self.shared.jetstream, bucket, request, prefix, deadline)
            case ListPage():
                return await list_page(self.shared.jetstream, bucket, request, prefix, deadline)
        assert isinstance(request, kv.SingleKeyRequest)
        bucket_key = encode_key(request.key, prefix)
        read = READS.get(type(request))
        if read is not None:
            return await self._read(request, read, bucket, bucket_key, call)
        if isinstance(request, extensions.GetEntry):
            entry = await bucket.read_entry(bucket_key, self.config.consistency, deadline)
            entry = await bucket.paging.reader.whole("GetEntry", request.key, bucket_key, entry, deadline, call)
            if entry.value is not None and entry.size >= LONG_BYTES:
                entry.value.data = await in_turns(encoding_payload(entry.value))
            return entry_response(request.key, entry.value, entry.revision, bucket.now_ms(), entry.end.age_ms)
        return await engine.change(request, bucket_key, deadline)

    async def _read(self, request: kv.SingleKeyRequest, read: Read, bucket: Bucket, bucket_key: str, call: Call) -> Any:
        entry = await bucket.read_entry(bucket_key, self.config.consistency, call.deadline)
        if is_paged(entry.value):
            return await bucket.paging.reader.read(request, read, bucket_key, entry, call)
        return read(request, entry.value)

    async def _read_many(self, request: kv.KeysRequest, bucket: Bucket, call: Call) -> Any:
        read = READS_OF_MANY[type(request)]
        bucket_keys = [encode_key(key, self.config.key_prefix) for key in request.keys]
        while True:
            entries = await bucket.read_many(bucket_keys, self.config.consistency, call.deadline)
            if not any(is_paged(entry.value) for entry in entries):
                return read(request, [entry.value for entry in entries])
            with contextlib.suppress(ValueChangedError):  # read them all anew, as of one moment
                return await bucket.paging.reader.read_many(request, read, bucket_keys, entries, call)


class Upkeep(NamedTuple):
    """The share of a process in the work on a bucket.

    Attributes:
        cached_bytes: Bound on the entries that the engine remembers.
        under: Beginning of the keys whose expired values are removed, as stored: whole tokens, each with its dot. "": all.
        max_answer_bytes: Size of the largest answer with a paged value.
        page_grace_seconds: Time for which pages stay after they were replaced.
        page_cache: Pages that the process has used last; `None`: the bucket has a cache of its own.
        creates_pages: Whether the stream of pages is made for a bucket that is never made.
    """

    cached_bytes: int = CACHED_BYTES
    under: str = ""
    max_answer_bytes: int = MAX_ANSWER_BYTES
    page_grace_seconds: float = PAGE_GRACE_SECONDS
    page_cache: PageCache | None = None
    creates_pages: bool = False

    def paging(self, config: BucketConfig) -> PagingSettings:
        """Return the settings of the paged values of a bucket."""
        is_created = config.is_created or self.creates_pages
        return PagingSettings(config.paged, is_created, self.max_answer_bytes, self.page_grace_seconds, self.page_cache)


WHOLE_BUCKET = Upkeep()
"""The share of a provider."""


class BucketStore(SharedStore[BucketConfig]):
    """A bucket that is opened, kept open and healed in the background.

    Args:
        connections: Pool of the connections that stores share.
        settings: Settings of the connection to the bucket's server.
        config: Settings of the bucket; may be replaced by `configure`.
        tasks: Owner of the tasks of calls and of the engine.
        on_idle: Called when no link and no call holds the store any more.
        upkeep: The memory and the sweeping of this process.

    Attributes:
        opened: The bucket and its engine, or `None` while it is not open.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        settings: ConnectionSettings,
        config: BucketConfig,
        tasks: TaskOwner,
        on_idle: Callable[[], None],
        upkeep: Upkeep = WHOLE_BUCKET,
    ) -> None:
        super().__init__(on_idle)
        self.tasks = tasks
        self.opened: tuple[Bucket, Engine] | None = None
        self._connections = connections
        self._settings = settings
        self._config = config
        self._upkeep = upkeep
        self._reason = ""
        self._was_tried = asyncio.Event()
        self._is_reconfigured = asyncio.Event()
        self._is_missed = asyncio.Event()
        """Set when the server has no responder for the bucket, which may have been deleted, and after a reconnect."""
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._created = ""
        self._collector: Collector | None = None

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def statistics(self) -> BucketStatistics:
        """The state of the bucket and the counts of its changes."""
        statistics = BucketStatistics(
            bucket=cut(self.name, MOST_NAME_CHARACTERS),
            links=self.link_count,
            is_open=self.opened is not None,
            is_healthy=self.unhealthy is None,
        )
        if self.opened is None:
            return statistics
        bucket, engine = self.opened
        lease, counts, is_replicated = bucket.lease, engine.counts, bucket.traits.replicas > 1
        return structs.replace(
            statistics,
            replicas=bucket.traits.replicas,
            messages=self._state.messages,
            size_bytes=self._state.size,
            max_bytes=max(self._stream_config.max_bytes, 0),
            changes=counts.changes,
            writes=counts.writes,
            conflicts=counts.conflicts,
            failed_in_a_row=engine.failures.count,
            has_lease=lease.is_running() if is_replicated else None,
            lease_renewals=lease.renewals,
            lease_misses=lease.misses,
            expired=bucket.expirations.marked,
            pages=bucket.paging.stream.state.messages,
            pages_bytes=bucket.paging.stream.state.size,
            pages_removed=self._collector.removed if self._collector is not None else 0,
        )

    @property
    def unhealthy(self) -> str | None:
        if self._connection is not None and not self._connection.is_connected:
            return f"bucket {self._config.name!r}: connection to NATS lost"
        reason = self._reason
        if not reason and self.opened is not None:
            bucket, engine = self.opened
            reason = engine.failures.reason or bucket.read_failures.reason or bucket.paging.unhealthy
            if bucket.traits.is_sealed:
                reason = f"stream {bucket.stream!r} is sealed, so it takes no writes"
        return f"bucket {self._config.name!r}: {reason}" if reason else None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_open(), name=f"keep bucket {self._config.name}")

    def configure(self, config: BucketConfig) -> None:
        """Take over the settings of the links. They count for a bucket that is not open yet; that one is tried again at once."""
        if config != self._config:
            self._config = config
            if self.opened is None:
                self._reason = ""
                self._was_tried.clear()
                self._is_reconfigured.set()

    def differences(self, config: BucketConfig) -> list[Remark]:
        """Return a remark for each setting of a link that the bucket, which is used as it is, does not have."""
        return [] if self.opened is None else stream_differences(config, self._stream_config)

    async def close(self) -> None:
        if self._keeper is not None:
            await cancel(self._keeper)

    async def wait_open(self, deadline: float) -> tuple[Bucket, Engine]:
        """Return the open bucket; wait for the first attempt to open it.

        Raises:
            errors.LinkUnavailableError: It could not be opened, or not by the deadline (on the event loop's clock).
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._was_tried.wait()
        except TimeoutError:
            raise errors.LinkUnavailableError("its store is still being opened") from None
        if self.opened is None:
            raise errors.LinkUnavailableError(f"bucket {self._config.name!r}: {self._reason}")
        return self.opened

    async def _keep_open(self) -> None:
        """Open the bucket, look after it, and start over after every fault, until the store is closed."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                self._is_reconfigured.clear()
                async with AsyncExitStack() as stack:
                    await self._open(stack)
                    pause = _FIRST_RETRY_SECONDS
                    await self._look_after()
            except (errors.LinkError, errors.NatsError, TimeoutError) as error:
                reason = str(self._connections.link_error(error, self._settings))
                if reason != self._reason:
                    _log.warning("bucket_unavailable", extra={"bucket": self._config.name, "reason": reason})
                self._failed(reason)
            except Exception as defect:  # noqa: BLE001  (a defect must not take the bucket's links down for good)
                _log.exception("bucket_keeper_failed", extra={"bucket": self._config.name})
                self._failed(f"internal error ({type(defect).__name__})")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * (0.5 + random.random() / 2)):
                    await self._is_reconfigured.wait()
            pause = min(pause * 2, _LAST_RETRY_SECONDS)

    def _failed(self, reason: str) -> None:
        """Record the reason for a failure, unless it concerns settings that have been replaced meanwhile."""
        if not self._is_reconfigured.is_set():
            self._reason = reason
            self._was_tried.set()

    async def _open(self, stack: AsyncExitStack) -> None:
        """Connect and open the bucket; everything that this acquires is given back with the stack."""
        self._connection = connection = await self._connections.connect(self._settings)
        stack.push_async_callback(self._connections.disconnect, self._settings)
        stack.callback(setattr, self, "_connection", None)
        jetstream = js.JetStream(connection, self._settings.js_domain)
        deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
        info, level = await open_stream(jetstream, self._config, deadline)
        clock = ServerClock()
        await refresh_stream(jetstream, info.config.name, clock, deadline)
        bucket = Bucket(
            jetstream, self._config.name, Traits.from_info(info, level), clock, self.tasks, self._is_missed.set
        )
        bucket.paging_settings = self._upkeep.paging(self._config)
        engine = Engine(bucket, self.tasks, bucket.paging.writer, self._upkeep.cached_bytes)
        stack.callback(engine.close)
        # The state of before the reconnect is forgotten, and the stream is looked at.
        for forget in (engine.forget, engine.failures.succeeded, bucket.read_failures.succeeded, self._is_missed.set):
            stack.callback(connection.on_reconnect(forget))
        self._created, self._stream_config, self._state = info.created, info.config, info.state
        self.jetstream, self._clock = jetstream, clock
        self.opened = bucket, engine
        stack.callback(setattr, self, "opened", None)
        sweeping = asyncio.create_task(
            Sweeper(jetstream, bucket, self._upkeep.under).run(), name=f"sweep {bucket.name}"
        )
        stack.push_async_callback(cancel, sweeping)
        # Pages are named by a hash of their key, so only a process that may read all keys can collect them.
        if not self._upkeep.under:
            paging = bucket.paging
            self._collector = Collector(bucket, paging.stream, paging.reachable, paging.grace_seconds)
            collecting = asyncio.create_task(self._collector.run(), name=f"collect pages of {bucket.name}")
            stack.push_async_callback(cancel, collecting)
        if self._reason:
            _log.info("bucket_healed", extra={"bucket": self._config.name})
        self._reason = ""
        self._was_tried.set()
        _log.info(
            "bucket_opened",
            extra={"bucket": self._config.name, "replicas": info.config.num_replicas, "api_level": level},
        )

    async def _look_after(self) -> None:
        """Follow changes of the stream and of the server's clock.

        Raises:
            errors.ApiError: The bucket was deleted or made anew; it must be opened again.
            errors.LinkError: The stream was edited, and does not keep values any more. There is no other end.
        """
        while self.opened is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await self._is_missed.wait()
            await asyncio.sleep(_FIRST_RETRY_SECONDS)  # a stream that is being made anew needs a moment
            self._is_missed.clear()
            bucket, engine = self.opened
            try:
                await self._refresh(bucket)
                await self._try_failing(bucket, engine)
            except errors.ApiError as error:
                if error.err_code == STREAM_NOT_FOUND:
                    raise
                self._reason = str(error)
            except (errors.NatsError, TimeoutError) as error:
                self._reason = str(error) or "no answer in time"

    async def _try_failing(self, bucket: Bucket, engine: Engine) -> None:
        """Find out whether reads and writes that have failed work again, so that health does not wait for the next call.

        A write that the server refused is not tried: a full bucket refuses values and takes the reserved key.
        """
        deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
        with contextlib.suppress(errors.NatsError, errors.StoreError):
            if engine.failures.reason and not engine.failures.is_refused:
                await bucket.write_reserved(deadline)
                engine.failures.succeeded()
            if bucket.read_failures.reason and not bucket.read_failures.is_refused:
                await bucket.read_latest(RESERVED_KEY, deadline)
                bucket.read_failures.succeeded()

    async def _refresh(self, bucket: Bucket) -> None:
        deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
        info = await refresh_stream(self.jetstream, bucket.stream, self._clock, deadline)
        if info.created != self._created:
            raise errors.ApiError(404, STREAM_NOT_FOUND, "stream was made anew")
        check_requirements(info.config)
        self._stream_config, self._state = info.config, info.state
        bucket.traits = Traits.from_info(info, await self.jetstream.level(deadline))
        with contextlib.suppress(errors.StoreError):  # small values go on
            await bucket.paging.look(deadline)
        self._reason = ""
