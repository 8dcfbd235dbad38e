"""What is asked for, carried out on the bucket by the provider's engine. Knows no HTTP but what it answers with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from contracts.extensions import SwapResponse
from provider import errors
from provider.keyvalue.bucket.bucket import Bucket, store_error
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.scan import scan
from provider.keyvalue.bucket.store import BucketStore
from provider.keyvalue.bucket.ttl import server_end_ms
from provider.keyvalue.conditional import Delete as DeleteRequest
from provider.keyvalue.conditional import Expire, Put, seconds_left
from provider.keyvalue.link_config import Consistency
from provider.keyvalue.payloads import encode_payload
from provider.nats.connection import Connection
from provider.state_proxy import operations as ops
from provider.state_proxy.errors import CONFLICT, KEY_NOT_FOUND, NOT_IMPLEMENTED, UNAVAILABLE, RefusedError, answer_of
from provider.state_proxy.http import Answer
from provider.state_proxy.names import Folders, Listing, Names
from provider.state_proxy.revisions import SeenRevisions

REQUEST_SECONDS = 3.0
"""How long the bucket may take for one request."""

LISTING_SECONDS = 30.0
"""How long it may take to look through all keys."""

_MAX_ATTRIBUTE_BYTES = 4096
_MAX_UNUSED_BYTES = 65536
_MAX_AT_ONCE = 32
_DONE = Answer(204)
_IS_FILE = b"X-Is-File: true\r\nContent-Length: %d\r\n"
_IS_FOLDER = Answer(204, headers=b"X-Is-File: false\r\nContent-Length: 0\r\n")
_READY = Answer(200, b'{"status":"ready"}')
_ATTRIBUTES = Answer(200, msgspec.json.encode({"attrs": list(ops.ATTRIBUTES)}))
_OCTETS = b"application/octet-stream"


class Connector:
    """One actor's view of a bucket, and what that actor has seen of it.

    Args:
        store: The bucket.
        connection: The store's.
        names: Which keys are the actor's.
    """

    def __init__(self, store: BucketStore, connection: Connection, names: Names) -> None:
        self._store = store
        self._connection = connection
        self._names = names
        self._seen = SeenRevisions()
        self._folders = Folders()
        self._bucket: Bucket | None = None
        self._looking = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(_MAX_AT_ONCE)
        self._actions: dict[type[ops.Operation], Callable[[Any, bytes, float], Awaitable[Answer]]] = {
            ops.Read: self._read,
            ops.Write: self._write,
            ops.Stat: self._stat,
            ops.Delete: self._delete,
            ops.ListKeys: self._list_keys,
            ops.ListAttributes: self._list_attributes,
            ops.ReadAttribute: self._read_attribute,
            ops.WriteTtl: self._write_ttl,
            ops.Query: self._query,
            ops.Health: self._health,
        }

    def max_body_bytes(self, operation: ops.Operation) -> int:
        """Return how long the body of a request may be: of a write, what the bucket and its server take at most."""
        if isinstance(operation, ops.WriteTtl):
            return _MAX_ATTRIBUTE_BYTES
        if not isinstance(operation, ops.Write):
            return _MAX_UNUSED_BYTES
        maximum = self._connection.max_payload_bytes
        if self._store.opened is not None:
            of_bucket = self._store.opened[0].traits.max_value_bytes
            maximum = min(maximum, of_bucket) if of_bucket >= 0 else maximum
        return maximum

    async def perform(self, operation: ops.Operation, body: bytes) -> Answer:
        """Carry out an operation; what goes wrong is in the answer."""
        seconds = LISTING_SECONDS if isinstance(operation, ops.ListKeys) else REQUEST_SECONDS
        deadline = self._loop.time() + seconds
        try:
            if self._turns.locked():
                await self._wait_for_turn(deadline)
            else:
                await self._turns.acquire()
            try:
                return await self._actions[type(operation)](operation, body, deadline)
            finally:
                self._turns.release()
        except (RefusedError, errors.StoreError, errors.InvocationError) as error:
            return answer_of(error, is_connected=self._connection.is_connected)

    async def _wait_for_turn(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise RefusedError(UNAVAILABLE, f"{_MAX_AT_ONCE} requests are under way") from None

    async def _opened(self, deadline: float) -> tuple[Bucket, Engine]:
        """Return the open bucket. When it is another than before, nothing that was seen of that one holds any more."""
        opened = self._store.opened or await self._store.wait_open(deadline)
        if opened[0] is not self._bucket:
            self._bucket = opened[0]
            self._folders = Folders()
            self._seen.outdate()
        return opened

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Say what went wrong on the connection as it is answered."""
        began = self._loop.time()
        try:
            yield
        except (errors.NatsError, TimeoutError) as error:
            raise store_error(error, self._loop.time() - began) from None

    # --- values

    async def _entry(self, bucket_key: str, deadline: float) -> Entry:
        bucket, _ = await self._opened(deadline)
        return await bucket.read_entry(bucket_key, Consistency.STRONG, deadline)

    async def _live_entry(self, key: str, deadline: float) -> Entry:
        entry = await self._entry(self._names.bucket_key(key), deadline)
        if entry.value is None:
            raise _missing(key)
        return entry

    async def _read(self, asked: ops.Read, body: bytes, deadline: float) -> Answer:
        bucket_key = self._names.bucket_key(asked.key)
        entry = await self._entry(bucket_key, deadline)
        self._seen.read(bucket_key, entry.revision)
        if entry.value is None:
            raise _missing(asked.key)
        return Answer(200, encode_payload(entry.value), _OCTETS)

    async def _write(self, asked: ops.Write, body: bytes, deadline: float) -> Answer:
        bucket_key = self._names.bucket_key(asked.key)
        _, engine = await self._opened(deadline)
        seen = self._seen.expected(bucket_key)
        put = Put(asked.key, body, revision=0 if asked.is_exclusive else seen)
        swap: SwapResponse = await engine.change(put, bucket_key, deadline)
        if swap.success:
            self._seen.written(bucket_key, seen, swap.revision)
            return _DONE
        self._seen.forget(bucket_key)
        if asked.is_exclusive:
            raise RefusedError(CONFLICT, f"key {errors.shown(asked.key)} exists")
        raise RefusedError(CONFLICT, f"key {errors.shown(asked.key)} has changed since it was read")

    async def _delete(self, asked: ops.Delete, body: bytes, deadline: float) -> Answer:
        bucket_key = self._names.bucket_key(asked.key)
        _, engine = await self._opened(deadline)
        seen = self._seen.expected(bucket_key)
        swap: SwapResponse = await engine.change(DeleteRequest(asked.key), bucket_key, deadline)
        if not swap.success:
            raise _missing(asked.key)
        self._seen.written(bucket_key, seen, 0)
        return _DONE

    # --- names

    async def _stat(self, asked: ops.Stat, body: bytes, deadline: float) -> Answer:
        if not asked.key:
            return _IS_FOLDER
        bucket_key = self._names.bucket_key(asked.key)
        entry = await self._entry(bucket_key, deadline)
        if entry.value is not None:
            return Answer(204, headers=_IS_FILE % len(encode_payload(entry.value)))
        self._seen.found_absent(bucket_key)
        if await self._is_folder(asked.key.removesuffix("/") + "/", self._loop.time() + LISTING_SECONDS):
            return _IS_FOLDER
        raise _missing(asked.key)

    async def _is_folder(self, folder: str, deadline: float) -> bool:
        """Tell whether a key lies in a folder; only keys new since the last time are looked through if none ever did."""
        async with self._looking:
            await self._opened(deadline)
            folders = self._folders
            if not folders.may_have(folder):
                await self._look_through(folders.add, deadline, folders)
        return folders.may_have(folder) and await self._look_through(lambda key: key.startswith(folder), deadline)

    async def _list_keys(self, asked: ops.ListKeys, body: bytes, deadline: float) -> Answer:
        listing = Listing(asked.prefix, asked.delimiter)
        await self._look_through(listing.add, deadline)
        found = {"keys": sorted(listing.keys), "prefixes": sorted(listing.prefixes)}
        return Answer(200, msgspec.json.encode(found))

    async def _look_through(
        self, is_enough: Callable[[str], object], deadline: float, since: Folders | None = None
    ) -> bool:
        """Call a function with every key until it returns something true; tells whether it has.

        With `since`, only with keys written since it was looked through, gone ones among them where the bucket has
        history, and its revision is moved on. A subject has no wildcard for the beginning of a token, so what is below
        the STATE_PREFIX has to be looked through here, without the values.
        """
        bucket, _ = await self._opened(deadline)
        now_ms = bucket.now_ms()
        after = since.revision if since is not None else 0
        found = scan(self._store.jetstream, bucket, after, self._names.under, has_earlier=since is not None)
        with self._answering():
            async with asyncio.timeout_at(deadline), contextlib.aclosing(found):
                async for head in found:
                    if since is not None:
                        since.revision = head.revision
                    key = self._names.key(head.bucket_key)
                    if key is not None and head.is_live(now_ms) and is_enough(key):
                        return True
        return False

    # --- attributes

    async def _list_attributes(self, asked: ops.ListAttributes, body: bytes, deadline: float) -> Answer:
        await self._live_entry(asked.key, deadline)
        return _ATTRIBUTES

    async def _read_attribute(self, asked: ops.ReadAttribute, body: bytes, deadline: float) -> Answer:
        entry = await self._live_entry(asked.key, deadline)
        number = await self._ttl(asked.key, entry, deadline) if asked.name == ops.TTL else entry.revision
        return Answer(200, msgspec.json.encode({"attr": asked.name, "value": str(number)}))

    async def _ttl(self, key: str, entry: Entry, deadline: float) -> int:
        """Return in how many seconds a value ends, whoever has said so: its writer, or the bucket for all of its values."""
        bucket, _ = await self._opened(deadline)
        bucket_key, value = self._names.bucket_key(key), entry.value
        assert value is not None, "the entry is a live one"
        with self._answering():
            by_server_ms = await server_end_ms(self._store.jetstream, bucket, bucket_key, entry.revision, deadline)
        value.expires_at_ms = min(filter(None, (value.expires_at_ms, by_server_ms)), default=0)
        return seconds_left(value, bucket.now_ms()) or ops.NEVER

    async def _write_ttl(self, asked: ops.WriteTtl, body: bytes, deadline: float) -> Answer:
        """Set when a value ends. That changes its revision and not what the client has read of it."""
        expires = ops.expires_of(body)
        bucket_key = self._names.bucket_key(asked.key)
        _, engine = await self._opened(deadline)
        seen = self._seen.expected(bucket_key)
        if seen:
            swap: SwapResponse = await engine.change(Expire(asked.key, expires, seen), bucket_key, deadline)
            if swap.success:
                self._seen.written(bucket_key, seen, swap.revision)
                return _DONE
        swap = await engine.change(Expire(asked.key, expires), bucket_key, deadline)
        if not swap.success:
            raise _missing(asked.key)
        return _DONE

    # --- the rest

    async def _query(self, asked: ops.Query, body: bytes, deadline: float) -> Answer:
        raise RefusedError(NOT_IMPLEMENTED, "values are not looked into")

    async def _health(self, asked: ops.Health, body: bytes, deadline: float) -> Answer:
        bucket, _ = await self._opened(deadline)
        with self._answering():
            await self._store.jetstream.stream_info(bucket.stream, deadline)
        return _READY


def _missing(key: str) -> RefusedError:
    return RefusedError(KEY_NOT_FOUND, f"key {errors.shown(key)} is not there")
