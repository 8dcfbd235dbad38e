"""The stores that links share: links on the same bucket share a store, equal connection settings a connection.

A store that cannot be opened is tried again in the background until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.bucket import Bucket
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.engine import Engine
from provider.keyvalue.keys import encode_key
from provider.keyvalue.link import BucketConfig, LinkConfig
from provider.keyvalue.opening import look_at_stream, open_stream, traits_of
from provider.keyvalue.sweeper import SWEEP_SECONDS, sweep
from provider.keyvalue.values import READS, READS_OF_MANY, Value
from provider.nats import jetstream as js
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner, cancel

_log = logging.getLogger(__name__)

_OPEN_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 5.0
_REFRESH_SECONDS = 10.0

StoreKey = tuple[ConnectionSettings, str]


class LinkStore:
    """One link's view of its store: its key prefix and its consistency.

    Who has it holds the store open: the link itself, and each call under way, also when the link has left meanwhile.
    """

    def __init__(self, config: LinkConfig, store: BucketStore) -> None:
        self.config = config
        self._store = store

    def hold(self) -> LinkStore:
        """Keep the store open until `let_go`."""
        self._store.users += 1
        return self

    def let_go(self) -> None:
        """Give the store back; with its last holder it is closed, in the background."""
        self._store.users -= 1
        if not self._store.users:
            self._store.retire()

    @property
    def unhealthy(self) -> str | None:
        """Why the store does not work; `None` while it does or is being opened for the first time."""
        return self._store.unhealthy

    def begin_read(self, request: kv.Request, deadline: float, use: Callable[[Any, bool], None]) -> bool:
        """Carry out an operation that reads one key, without a task, if the store can do that now.

        Args:
            request: Of any type of the contract.
            deadline: On the event loop's clock.
            use: Called exactly once, with the answer and whether there is one; if not, `perform` tells why.

        Returns:
            Whether it has begun; if not, `perform` is to be used.

        Raises:
            errors.StoreError: The key is none.
        """
        answer = READS.get(type(request))
        if answer is None or self._store.opened is None:
            return False
        assert isinstance(request, kv.SingleKeyRequest)

        def use_value(value: Value | None, is_read: bool) -> None:
            result = None
            if is_read:
                try:
                    result = answer(request, value)
                except errors.StoreError:
                    is_read = False
            use(result, is_read)

        return self._store.opened[0].begin_read(encode_key(request.key, self.config.key_prefix), deadline, use_value)

    async def perform(self, request: kv.Request, deadline: float) -> Any:
        """Carry out an operation and return what it answers.

        Args:
            request: Of any type of the contract.
            deadline: When the caller must have an answer, on the event loop's clock.

        Raises:
            errors.LinkUnavailableError: The store is not open.
            errors.StoreError: The store says no.
        """
        bucket, engine = self._store.opened or await self._store.wait_open(deadline)
        prefix = self.config.key_prefix
        if isinstance(request, kv.KeysRequest):
            keys = [encode_key(key, prefix) for key in request.keys]
            values = await bucket.read_many(keys, self.config.consistency, deadline)
            return READS_OF_MANY[type(request)](request, values)
        assert isinstance(request, kv.SingleKeyRequest)
        bucket_key = encode_key(request.key, prefix)
        answer = READS.get(type(request))
        if answer is not None:
            return answer(request, await bucket.read(bucket_key, self.config.consistency, deadline))
        return await engine.change(request, bucket_key, deadline)


class BucketStore:
    """A bucket that is opened, kept open and healed in the background."""

    def __init__(self, pool: StorePool, settings: ConnectionSettings, config: BucketConfig, tasks: TaskOwner) -> None:
        self.users = 0
        self.opened: tuple[Bucket, Engine] | None = None
        self._pool = pool
        self._settings = settings
        self._config = config
        self._tasks = tasks
        self._reason = ""
        self._was_tried = asyncio.Event()
        self._is_missed = asyncio.Event()
        """Set when nobody answers a request to the bucket: it may have been deleted."""
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._created = ""

    @property
    def key(self) -> StoreKey:
        return self._settings, self._config.name

    @property
    def unhealthy(self) -> str | None:
        if self._connection is not None and not self._connection.is_connected:
            return f"bucket {self._config.name!r}: connection to NATS lost"
        return f"bucket {self._config.name!r}: {self._reason}" if self._reason else None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_open(), name=f"keep bucket {self._config.name}")
        self._keeper.add_done_callback(self._on_kept)

    def retire(self) -> None:
        """Close it in the background; the pool forgets it at once."""
        self._pool.forget(self)
        self._tasks.start(self.close(), f"close bucket {self._config.name}")

    async def close(self) -> None:
        if self._keeper is not None:
            await cancel(self._keeper)

    async def wait_open(self, deadline: float) -> tuple[Bucket, Engine]:
        """Return the open bucket, waiting while it is being opened for the first time."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._was_tried.wait()
        except TimeoutError:
            raise errors.LinkUnavailableError("its store is still being opened") from None
        if self.opened is None:
            raise errors.LinkUnavailableError(f"bucket {self._config.name!r}: {self._reason}")
        return self.opened

    def _on_kept(self, keeper: asyncio.Task[None]) -> None:
        """Make a defect of the keeper visible: it ends in no other way than being cancelled."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._reason = f"internal error ({type(error).__name__})"
            self._was_tried.set()
            _log.error("bucket_keeper_failed", extra={"bucket": self._config.name}, exc_info=error)

    async def _keep_open(self) -> None:
        """Open the bucket, look after it, and open it again when it is gone; for as long as some link uses it."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                async with AsyncExitStack() as stack:
                    await self._open(stack)
                    pause = _FIRST_RETRY_SECONDS
                    await self._look_after()
            except (errors.LinkError, errors.NatsError, TimeoutError) as error:
                reason = str(link_error(error, self._settings))
                if reason != self._reason:
                    _log.warning("bucket_unavailable", extra={"bucket": self._config.name, "reason": reason})
                self._reason = reason
                self._was_tried.set()
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(pause * 2, _LAST_RETRY_SECONDS)

    async def _open(self, stack: AsyncExitStack) -> None:
        self._connection = connection = await self._pool.connect(self._settings)
        stack.push_async_callback(self._pool.disconnect, self._settings)
        stack.callback(setattr, self, "_connection", None)
        jetstream = js.JetStream(connection, self._settings.js_domain)
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        info, level = await open_stream(jetstream, self._config, deadline)
        clock = ServerClock()
        await look_at_stream(jetstream, info.config.name, clock, deadline)
        bucket = Bucket(jetstream, self._config.name, traits_of(info, level), clock, self._tasks, self._is_missed.set)
        engine = Engine(bucket, self._tasks)
        stack.callback(engine.close)
        stack.callback(connection.on_reconnect(engine.forget))
        self._created = info.created
        self._jetstream, self._clock = jetstream, clock
        self.opened = bucket, engine
        stack.callback(setattr, self, "opened", None)
        if self._reason:
            _log.info("bucket_healed", extra={"bucket": self._config.name})
        self._reason = ""
        self._was_tried.set()
        _log.info(
            "bucket_opened",
            extra={"bucket": self._config.name, "replicas": info.config.num_replicas, "api_level": level},
        )

    async def _look_after(self) -> None:
        """Follow changes of the stream and of the clock; returns never, raises when the bucket must be opened again."""
        loop = asyncio.get_running_loop()
        swept_at = loop.time()
        while self.opened is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await self._is_missed.wait()
            await asyncio.sleep(_FIRST_RETRY_SECONDS)
            self._is_missed.clear()
            bucket, _ = self.opened
            try:
                await self._refresh(bucket)
                if not bucket.traits.expires_by_itself and loop.time() - swept_at >= SWEEP_SECONDS:
                    swept_at = loop.time()
                    await self._sweep(bucket)
            except errors.ApiError as error:
                if error.err_code == js.STREAM_NOT_FOUND:
                    raise
                self._reason = str(error)
            except (errors.NatsError, TimeoutError) as error:
                self._reason = str(error) or "no answer in time"

    async def _sweep(self, bucket: Bucket) -> None:
        """Give the room of expired values back; that it cannot be done now hurts nobody."""
        try:
            removed = await sweep(self._jetstream, bucket)
            _log.debug("bucket_swept", extra={"bucket": bucket.name, "removed": removed})
        except (errors.NatsError, TimeoutError) as error:
            _log.warning("bucket_not_swept", extra={"bucket": bucket.name, "reason": str(error)})

    async def _refresh(self, bucket: Bucket) -> None:
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        info = await look_at_stream(self._jetstream, bucket.stream, self._clock, deadline)
        if info.created != self._created:
            raise errors.ApiError(404, js.STREAM_NOT_FOUND, "stream was made anew")
        bucket.traits = traits_of(info, await self._jetstream.level(deadline))
        self._reason = ""


class StorePool:
    """All stores and connections of the process, as an async context manager."""

    def __init__(self, tasks: TaskOwner, connection_name: str) -> None:
        """Make an empty pool; `connection_name` is shown in the servers' monitoring."""
        self._tasks = tasks
        self._connection_name = connection_name
        self._stores: dict[StoreKey, BucketStore] = {}
        self._connections: dict[ConnectionSettings, _SharedConnection] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every store; nothing is answered from them any more."""
        stores, self._stores = list(self._stores.values()), {}
        await asyncio.gather(*(store.close() for store in stores))

    def acquire(self, config: LinkConfig) -> LinkStore:
        """Return a link's view of its store, which is opened in the background if it is not open yet."""
        key = (config.connection, config.bucket.name)
        store = self._stores.get(key)
        if store is None:
            store = self._stores[key] = BucketStore(self, config.connection, config.bucket, self._tasks)
            store.start()
        return LinkStore(config, store).hold()

    def forget(self, store: BucketStore) -> None:
        """Give the store to no further link."""
        if self._stores.get(store.key) is store:
            del self._stores[store.key]

    async def connect(self, settings: ConnectionSettings) -> Connection:
        """Return the connection of these settings, made when it is the first use of it.

        Raises:
            errors.ConnectError: It cannot be made.
        """
        shared = self._connections.setdefault(settings, _SharedConnection())
        shared.users += 1
        is_connected = False
        try:
            async with shared.lock:
                if shared.connection is None:
                    connection = Connection(settings, self._connection_name, _OPEN_SECONDS)
                    shared.connection = await connection.__aenter__()
            is_connected = True
            return shared.connection
        finally:
            if not is_connected:
                self._leave(settings, shared)

    async def disconnect(self, settings: ConnectionSettings) -> None:
        """Give a connection back; it is closed with its last use."""
        shared = self._connections[settings]
        async with shared.lock:
            self._leave(settings, shared)
            if shared.users == 0 and shared.connection is not None:
                connection, shared.connection = shared.connection, None
                await connection.__aexit__(None, None, None)

    def _leave(self, settings: ConnectionSettings, shared: _SharedConnection) -> None:
        shared.users -= 1
        if shared.users == 0:
            self._connections.pop(settings, None)


class _SharedConnection:
    """A connection and how many use it or are about to."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.connection: Connection | None = None
        self.users = 0


def link_error(error: Exception, settings: ConnectionSettings) -> errors.LinkError:
    """Say which setting is at fault when a store cannot be opened."""
    match error:
        case errors.LinkError():
            return error
        case errors.ConnectError():
            return _connect_error(error, settings)
        case errors.PermissionsError():
            return errors.LinkError(settings.credentials_setting or "URL", error.reason)
        case errors.NoRespondersError() if settings.js_domain:
            return errors.LinkError("JS_DOMAIN", "no JetStream server of that domain answers")
        case errors.ApiError(err_code=10039):
            return errors.LinkError(settings.credentials_setting or "URL", error.description)
        case errors.ApiError():
            return errors.LinkError("BUCKET", str(error))
        case TimeoutError():
            return errors.LinkError("URL", "the server does not answer in time")
    return errors.LinkError("URL", str(error))


def _connect_error(error: errors.ConnectError, settings: ConnectionSettings) -> errors.LinkError:
    if error.is_tls:
        is_our_certificate = "ALERT" in error.reason or "client certificate" in error.reason
        authority = "TLS_CA" if settings.tls_ca else "TLS_CA_FILE"
        return errors.LinkError("TLS_CERT_FILE" if is_our_certificate else authority, error.reason)
    if error.is_dropped and settings.uses_tls:
        reason = f"{error.reason}, so the server may want another client certificate"
        return errors.LinkError("TLS_CERT_FILE", reason)
    if error.is_credentials and not settings.credentials_setting:
        return errors.LinkError("URL", f"{error.reason}, and the link gives no credentials")
    return errors.LinkError(settings.credentials_setting if error.is_credentials else "URL", error.reason)
