"""The operations of the protocol, carried out on the bucket by the provider's engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
from msgspec import structs

from contracts.extensions import SwapResponse
from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.cas import MAX_PAYLOAD
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.failures import store_error
from provider.keyvalue.bucket.pages.head import MOST_BYTES
from provider.keyvalue.bucket.pages.paged_value import is_paged
from provider.keyvalue.bucket.scan import scan
from provider.keyvalue.bucket.store import BucketStore
from provider.keyvalue.bucket.streams.payload_pieces import payload_pieces, payload_size
from provider.keyvalue.bucket.streams.streamed_put import StreamedPut
from provider.keyvalue.conditional import Delete, Expire, Put, seconds_left
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.payloads import encode_payload
from provider.nats.connection import Connection
from provider.state_proxy import file_operations as ops
from provider.state_proxy.conversation import BodyLimits
from provider.state_proxy.http1 import Response, StreamedBody
from provider.state_proxy.key_memory import UnansweredReads
from provider.state_proxy.keyspace import FolderFilter, Keyspace, Listing
from provider.state_proxy.refusals import (
    CONFLICT,
    KEY_NOT_FOUND,
    NOT_IMPLEMENTED,
    UNAVAILABLE,
    RequestRefusedError,
    refusal_of,
)
from provider.state_proxy.seen_revisions import SeenRevisions

CHANGE_SECONDS = 3.0
"""Time limit of a change. The actor's runtime has none of its own, so this bounds how long a file operation blocks."""

READ_SECONDS = 15.0
"""Time limit of a read. It covers the restart of a server and the election of a leader, because a handler may take a read that
fails for a missing file."""

STEP_SECONDS = 15.0
"""Time limit of each page of a large file, and of its head: a file that is read or written for minutes outlasts the restart of a
server, too."""

_PAUSE_SECONDS = 0.1
"""Time between two attempts at a read while the bucket is not open."""

LISTING_SECONDS = 30.0
"""Time limit of a scan, which transfers the header of every key."""

_MAX_AT_ONCE = 32
"""Operations that run at the same time. Each holds an entry in memory; the others wait without one."""

_PASSING = frozenset({503, 504})
"""Statuses of failures that pass by themselves."""

Body = bytes | AsyncIterator[bytes]
"""The body of a request, or the parts of one that is larger than a message."""

_DONE = Response(204)
_IS_FILE = b"X-Is-File: true\r\nContent-Length: %d\r\n"
_IS_FOLDER = Response(204, headers=b"X-Is-File: false\r\nContent-Length: 0\r\n")
_READY = Response(200, b'{"status":"ready"}')
_ATTRIBUTES = Response(200, msgspec.json.encode({"attrs": list(ops.ATTRIBUTES)}))
_OCTETS = b"application/octet-stream"


class Connector:
    """The files of one actor in a bucket, and the revisions of them that the actor has seen.

    Args:
        store: The bucket.
        connection: The store's connection.
        keyspace: The actor's keys.
        unanswered: The keys that may not be written until they have been read.
    """

    def __init__(
        self, store: BucketStore, connection: Connection, keyspace: Keyspace, unanswered: UnansweredReads
    ) -> None:
        self._store = store
        self._connection = connection
        self._keyspace = keyspace
        self._unanswered = unanswered
        self._seen = SeenRevisions()
        self._folders = FolderFilter()
        self._bucket: Bucket | None = None
        self._folder_scan = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(_MAX_AT_ONCE)
        self._actions: dict[type[ops.FileOperation], Callable[[Any, Body, float], Awaitable[Response]]] = {
            ops.ReadFile: self._read,
            ops.WriteFile: self._write,
            ops.StatFile: self._stat,
            ops.DeleteFile: self._delete,
            ops.ListFiles: self._list_files,
            ops.ListAttributes: self._list_attributes,
            ops.ReadAttribute: self._read_attribute,
            ops.WriteTtl: self._write_ttl,
            ops.QueryFiles: self._query,
            ops.CheckHealth: self._health,
        }

    @property
    def file_limits(self) -> BodyLimits:
        """The limits of a file: of one that is a message, by the server, and of any other, by the bucket."""
        message_bytes = self._connection.max_payload_bytes
        if self._store.opened is None:
            return BodyLimits(message_bytes, message_bytes, MAX_PAYLOAD)
        limits = self._store.opened[0].paging.limits()
        most_bytes, name = (MOST_BYTES, "the largest value") if limits.allows_new else (message_bytes, MAX_PAYLOAD)
        if 0 <= limits.max_value_bytes < most_bytes:
            most_bytes, name = limits.max_value_bytes, "the bucket's MAX_VALUE_SIZE"
        return BodyLimits(min(message_bytes, most_bytes), most_bytes, name)

    async def perform(self, operation: ops.FileOperation, body: Body) -> Response:
        """Carry out an operation. Errors become answers, those of reads only after further attempts."""
        now = self._loop.time()
        deadline = now + seconds_of(operation)
        last_attempt_at = now + READ_SECONDS - _PAUSE_SECONDS if isinstance(operation, ops.READS) else now
        while True:
            answer = await self._attempt(operation, body, deadline)
            if answer.status not in _PASSING or self._loop.time() >= last_attempt_at:
                return answer
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _attempt(self, operation: ops.FileOperation, body: Body, deadline: float) -> Response:
        try:
            if self._turns.locked():
                await self._wait_for_turn(deadline)
            else:
                await self._turns.acquire()
            try:
                return await self._actions[type(operation)](operation, body, deadline)
            finally:
                self._turns.release()
        except (RequestRefusedError, errors.StoreError, errors.InvocationError) as error:
            return refusal_of(error, is_connected=self._connection.is_connected)

    async def _wait_for_turn(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise RequestRefusedError(UNAVAILABLE, f"{_MAX_AT_ONCE} requests are under way") from None

    async def _opened(self, deadline: float) -> tuple[Bucket, Engine]:
        """Return the open bucket. If it was recreated since the last call, forget the revisions seen in the old one."""
        opened = self._store.opened or await self._store.wait_open(deadline)
        if opened[0] is not self._bucket:
            self._bucket = opened[0]
            self._folders = FolderFilter()
            self._seen.outdate()
        return opened

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise errors of the connection as store errors."""
        began = self._loop.time()
        try:
            yield
        except (errors.NatsError, TimeoutError) as error:
            raise store_error(error, self._loop.time() - began) from None

    def _step_deadline(self) -> float:
        return self._loop.time() + STEP_SECONDS

    # --- values

    async def _entry(self, bucket_key: str, deadline: float) -> Entry:
        bucket, _ = await self._opened(deadline)
        return await bucket.read_entry(bucket_key, Consistency.STRONG, deadline)

    async def _live_entry(self, key: str, deadline: float) -> Entry:
        entry = await self._entry(self._keyspace.bucket_key(key), deadline)
        if entry.value is None:
            raise _not_found(key)
        return entry

    async def _read(self, operation: ops.ReadFile, body: Body, deadline: float) -> Response:
        bucket_key = self._keyspace.bucket_key(operation.key)
        entry = await self._entry(bucket_key, deadline)
        self._unanswered.answered(bucket_key, is_read=True)
        if entry.value is None:
            raise _not_found(operation.key)
        self._seen.read(bucket_key, entry.revision)
        if not is_paged(entry.value):
            return Response(200, encode_payload(entry.value), _OCTETS)
        bucket, _ = await self._opened(deadline)
        size = await self._size(bucket_key, entry, deadline)
        pieces = payload_pieces(bucket.paging, bucket_key, entry, self._step_deadline, reads_ahead=False)
        return Response(200, content_type=_OCTETS, stream=StreamedBody(size, pieces))

    async def _write(self, operation: ops.WriteFile, body: Body, deadline: float) -> Response:
        bucket_key = self._keyspace.bucket_key(operation.key)
        if bucket_key in self._unanswered and not operation.is_exclusive:
            reason = (
                f"the last read of key {errors.shown(operation.key)} failed, so it must be read before it is written"
            )
            raise RequestRefusedError(CONFLICT, reason)
        bucket, engine = await self._opened(deadline)
        seen = self._seen.expected(bucket_key, self._loop.time())
        put = Put(operation.key, b"", revision=0 if operation.is_exclusive else seen)
        swap: SwapResponse
        if isinstance(body, bytes):
            swap = await engine.change(structs.replace(put, payload=body), bucket_key, deadline)
        else:
            swap = await StreamedPut(bucket, engine, put, bucket_key, self._step_deadline).run(body)
        if swap.success:
            self._seen.written(bucket_key, seen, swap.revision)
            self._unanswered.answered(bucket_key, is_read=True)
            return _DONE
        if operation.is_exclusive:
            raise RequestRefusedError(CONFLICT, f"key {errors.shown(operation.key)} exists")
        self._seen.conflicted(bucket_key, swap.revision, self._loop.time())
        raise RequestRefusedError(
            CONFLICT, f"key {errors.shown(operation.key)} has changed since it was read or written"
        )

    async def _delete(self, operation: ops.DeleteFile, body: Body, deadline: float) -> Response:
        bucket_key = self._keyspace.bucket_key(operation.key)
        _, engine = await self._opened(deadline)
        swap: SwapResponse = await engine.change(Delete(operation.key), bucket_key, deadline)
        if not swap.success:
            raise _not_found(operation.key)
        self._seen.forget(bucket_key)
        self._unanswered.answered(bucket_key, is_read=True)
        return _DONE

    # --- folders

    async def _stat(self, operation: ops.StatFile, body: Body, deadline: float) -> Response:
        if not operation.key:
            return _IS_FOLDER
        bucket_key = self._keyspace.bucket_key(operation.key)
        entry = await self._entry(bucket_key, deadline)
        if entry.value is not None:
            self._unanswered.answered(bucket_key, is_read=False)
            return Response(204, headers=_IS_FILE % await self._size(bucket_key, entry, deadline))
        is_folder = await self._is_folder(operation.key.removesuffix("/") + "/", self._loop.time() + LISTING_SECONDS)
        self._unanswered.answered(bucket_key, is_read=False)
        if is_folder:
            return _IS_FOLDER
        raise _not_found(operation.key)

    async def _size(self, bucket_key: str, entry: Entry, deadline: float) -> int:
        assert entry.value is not None, "the entry is live"
        if not is_paged(entry.value):
            return len(encode_payload(entry.value))
        bucket, _ = await self._opened(deadline)
        return await payload_size(bucket.paging, bucket_key, entry, self._step_deadline)

    async def _is_folder(self, folder: str, deadline: float) -> bool:
        """Return whether a key lies in a folder.

        If the filter excludes the folder, it first takes in the keys written since its last update. If it still does, no
        key lies there. Else all keys are scanned: those of the folder may have been deleted, or the filter is wrong.
        """
        async with self._folder_scan:
            await self._opened(deadline)
            folders = self._folders
            if not folders.may_have(folder):
                await self._scan(folders.add, deadline, folders)
        return folders.may_have(folder) and await self._scan(lambda key: key.startswith(folder), deadline)

    async def _list_files(self, operation: ops.ListFiles, body: Body, deadline: float) -> Response:
        listing = Listing(operation.prefix, operation.delimiter)
        await self._scan(listing.add, deadline)
        found = {"keys": sorted(listing.keys), "prefixes": sorted(listing.prefixes)}
        return Response(200, msgspec.json.encode(found))

    async def _scan(self, is_last: Callable[[str], object], deadline: float, since: FolderFilter | None = None) -> bool:
        """Call a function with every live key until it returns true. Return whether it has.

        A subject has no wildcard for the beginning of a token, so the headers of all keys below the STATE_PREFIX are
        fetched and the keys compared here.

        Args:
            is_last: The function.
            deadline: Time on the event loop's clock.
            since: Limits the scan to keys written after its revision, and moves the revision on. In a bucket with
                history, these may be keys that were deleted later.
        """
        bucket, _ = await self._opened(deadline)
        now_ms = bucket.now_ms()
        after = since.revision if since is not None else 0
        found = scan(self._store.jetstream, bucket, after, self._keyspace.under, has_earlier=since is not None)
        with self._store_errors():
            async with asyncio.timeout_at(deadline), contextlib.aclosing(found):
                async for head in found:
                    if since is not None:
                        since.revision = head.revision
                    key = self._keyspace.key(head.bucket_key)
                    if key is not None and head.is_live(now_ms) and is_last(key):
                        return True
        return False

    # --- attributes

    async def _list_attributes(self, operation: ops.ListAttributes, body: Body, deadline: float) -> Response:
        await self._live_entry(operation.key, deadline)
        return _ATTRIBUTES

    async def _read_attribute(self, operation: ops.ReadAttribute, body: Body, deadline: float) -> Response:
        entry = await self._live_entry(operation.key, deadline)
        number = entry.revision
        if operation.name == ops.TTL:
            bucket, _ = await self._opened(deadline)
            assert entry.value is not None, "the entry is live"
            number = seconds_left(entry.value, entry.end.age_ms, bucket.now_ms()) or ops.NEVER
        return Response(200, msgspec.json.encode({"attr": operation.name, "value": str(number)}))

    async def _write_ttl(self, operation: ops.WriteTtl, body: Body, deadline: float) -> Response:
        """Set the lifetime of a value, which writes a new revision of it, or with 0 removes it.

        If the client has read the current revision, the new one counts as read. Else its next write would conflict with
        its own change of the lifetime.
        """
        assert isinstance(body, bytes), "the limit of this body lets it be whole"
        seconds = ops.ttl_of(body)
        if seconds == 0:
            return await self._delete(ops.DeleteFile(operation.key), b"", deadline)
        expires = 0 if seconds == ops.NEVER else seconds
        bucket_key = self._keyspace.bucket_key(operation.key)
        _, engine = await self._opened(deadline)
        seen = self._seen.expected(bucket_key, self._loop.time())
        if seen:
            swap: SwapResponse = await engine.change(Expire(operation.key, expires, seen), bucket_key, deadline)
            if swap.success:
                self._seen.written(bucket_key, seen, swap.revision)
                return _DONE
        swap = await engine.change(Expire(operation.key, expires), bucket_key, deadline)
        if not swap.success:
            raise _not_found(operation.key)
        return _DONE

    # --- the rest

    async def _query(self, operation: ops.QueryFiles, body: Body, deadline: float) -> Response:
        raise RequestRefusedError(NOT_IMPLEMENTED, "queries are not supported")

    async def _health(self, operation: ops.CheckHealth, body: Body, deadline: float) -> Response:
        bucket, _ = await self._opened(deadline)
        with self._store_errors():
            await self._store.jetstream.stream_info(bucket.stream, deadline)
        return _READY


def seconds_of(operation: ops.FileOperation) -> float:
    """Return the time limit of an operation."""
    if isinstance(operation, ops.ListFiles):
        return LISTING_SECONDS
    return READ_SECONDS if isinstance(operation, ops.READS) else CHANGE_SECONDS


def _not_found(key: str) -> RequestRefusedError:
    return RequestRefusedError(KEY_NOT_FOUND, f"key {errors.shown(key)} does not exist")
