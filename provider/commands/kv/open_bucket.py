"""One open bucket: reads, writes, listings and watches of its keys, through the provider's own engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from contracts.extensions import SwapResponse
from contracts.keyvalue import SingleKeyRequest
from provider.commands.connect import deadline_in, explained
from provider.commands.errors import (
    BucketGoneError,
    BucketUnusableError,
    KeyNotFoundError,
    NotRevertibleError,
    ServerRefusedError,
    WrongRevisionError,
)
from provider.commands.kv.bucket_admin import check_is_bucket
from provider.commands.kv.name_rules import noted_key
from provider.commands.kv.stored_revision import PUT, Revision, decode_revision
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.follow import SILENCE_SECONDS, Follower, GoneError, Selection, Start, Update
from provider.keyvalue.bucket.pages.paged_value import is_paged
from provider.keyvalue.bucket.pages.value_reader import head_of
from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.keyvalue.bucket.stream import Traits, refresh_stream
from provider.keyvalue.bucket.streams.payload_pieces import payload_pieces
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.conditional import Delete, Put, PutValue
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import MAX_ANSWER_BYTES, Answer
from provider.keyvalue.watch.patterns import matches
from provider.nats import jetstream as js
from provider.nats.buckets import key_subject, stream_name
from provider.tasks import TaskOwner


@contextlib.asynccontextmanager
async def opened(jetstream: js.JetStream, name: str, timeout_seconds: float) -> AsyncIterator[OpenBucket]:
    """Open an existing bucket, and close it at the end.

    Args:
        jetstream: Connection to the server.
        name: Name of the bucket.
        timeout_seconds: Limit for opening it, and for each operation.

    Raises:
        BucketNotFoundError: There is no such bucket.
        BucketUnusableError: The bucket loses acknowledged values.
        CommandError: The server refused, or did not answer.
    """
    clock, tasks = ServerClock(), TaskOwner()
    deadline = deadline_in(timeout_seconds)
    with explained(name):
        level, info = await asyncio.gather(  # one round trip
            jetstream.level(deadline), refresh_stream(jetstream, stream_name(name), clock, deadline)
        )
    check_is_bucket(name, info)
    if reason := unmet_requirement(info.config):
        raise BucketUnusableError(name, reason)
    bucket = Bucket(jetstream, name, Traits.from_info(info, level), clock, tasks, lambda: None)
    engine = Engine(bucket, tasks, bucket.paging.writer)
    try:
        yield OpenBucket(jetstream, bucket, engine, timeout_seconds)
    finally:
        engine.close()
        with contextlib.suppress(TimeoutError):  # the pages of a put that was broken off
            async with asyncio.timeout(timeout_seconds):
                await bucket.paging.store.remover.finish()
        await tasks.close()


class OpenBucket:
    """The entries of a bucket. Keys are in their stored form, as in `nats kv`.

    Every method raises `CommandError` or `StoreError`, whose text is for people.
    """

    def __init__(self, jetstream: js.JetStream, bucket: Bucket, engine: Engine, timeout_seconds: float) -> None:
        self.name = bucket.name
        self.jetstream = jetstream
        self.bucket = bucket
        self._engine = engine
        self._timeout_seconds = timeout_seconds

    def is_left_by_server(self, key: str) -> bool:
        """Tell whether the server does not remove the value, just put, at its end."""
        return self.bucket.expirations.has(key)

    def now_ms(self) -> int:
        """Return the time by the server's clock, in milliseconds since 1970."""
        return self.bucket.now_ms()

    # --- reading

    async def get(self, key: str, consistency: Consistency) -> Revision:
        """Return the current value of a key, or raise `KeyNotFoundError`."""
        entry = await self.bucket.read_entry(key, consistency, self._deadline())
        if entry.value is None:
            raise KeyNotFoundError(noted_key(key))
        payload = await self._whole(key, entry) if is_paged(entry.value) else encode_payload(entry.value)
        found = await self._message(key, entry.revision, self._deadline())
        if found is not None:
            revision = decode_revision(*found, self.bucket.traits.lifetimes)
            if not is_paged(entry.value):
                return revision
            return revision._replace(payload=payload, kind=revision.kind.removeprefix("paged "))
        # The entry was overwritten or deleted since, so its time cannot be read any more.
        return Revision(
            bucket_key=key,
            revision=entry.revision,
            operation=PUT,
            time_ms=0,
            payload=payload,
            kind="binary" if entry.value.kind is Kind.BINARY else entry.value.kind.value,
            expires_at_ms=max(entry.value.expires_at_ms, 0),
            operation_id=entry.operation_id.decode(errors="replace"),
        )

    async def _whole(self, key: str, entry: Entry) -> bytes:
        """Return the payload of a value with pages. Each page has the time of an answer."""
        answer = Answer("kv get", MAX_ANSWER_BYTES, "; --raw prints a value of any size")
        answer.check(head_of(entry).size)
        pieces, size = [], 0
        async for piece in payload_pieces(self.bucket.paging, key, entry, self._deadline):
            pieces.append(piece)
            size += len(piece)
            answer.check(size)
        return b"".join(pieces)

    async def value(self, key: str, consistency: Consistency) -> Value:
        """Return the current value of a key, of one with pages its head, or raise `KeyNotFoundError`."""
        entry = await self.bucket.read_entry(key, consistency, self._deadline())
        if entry.value is None:
            raise KeyNotFoundError(noted_key(key))
        return entry.value

    async def payload(self, key: str, consistency: Consistency) -> AsyncIterator[bytes]:
        """Yield the current value of a key in pieces, or raise `KeyNotFoundError`; one with pages may have any size."""
        entry = await self.bucket.read_entry(key, consistency, self._deadline())
        if is_paged(entry.value):
            async for piece in payload_pieces(self.bucket.paging, key, entry, self._deadline):
                yield piece
        else:
            yield (await self.get(key, consistency)).payload

    async def at_revision(self, key: str, revision: int) -> Revision:
        """Return an old value of a key, or raise `KeyNotFoundError`, also for markers and expired values."""
        message = await self._message(key, revision, self._deadline())
        found = decode_revision(*message, self.bucket.traits.lifetimes) if message is not None else None
        if found is None or found.operation != PUT or found.is_expired(self.now_ms()):
            raise KeyNotFoundError(noted_key(key), revision)
        return found

    async def keys(self, pattern: str) -> AsyncIterator[KeyHeader]:
        """Yield the keys that have a value, each once, in the order in which they were last written."""
        seen: set[str] = set()
        with explained(self.name):
            async with contextlib.aclosing(scan(self.jetstream, self.bucket)) as found:
                async for head in found:
                    is_wanted = head.bucket_key != RESERVED_KEY and matches(pattern, head.bucket_key)
                    if is_wanted and head.is_live(self.now_ms()) and head.bucket_key not in seen:
                        seen.add(head.bucket_key)  # a key written during the listing arrives again
                        yield head

    async def history(self, key: str) -> list[Revision]:
        """Return the stored revisions of a key, oldest first, or raise `KeyNotFoundError`."""
        revisions: list[Revision] = []
        # The follower notices a silent server after SILENCE_SECONDS and then raises the more precise error.
        limit_seconds = self._timeout_seconds + SILENCE_SECONDS
        async with self.following(Selection(key, Start.ALL)) as follower:
            while True:
                async with asyncio.timeout(limit_seconds):
                    revision = await follower.next()
                if revision is None:
                    break
                revisions.append(revision)
        if not revisions:
            raise KeyNotFoundError(noted_key(key))
        return revisions

    @contextlib.asynccontextmanager
    async def following(
        self, selection: Selection, on_state: Callable[[str | None], None] = lambda _: None
    ) -> AsyncIterator[Updates]:
        """Follow the bucket. `on_state` is called with a reason when the server is gone, and with None when it is back."""
        with explained(self.name):
            async with Follower(self.jetstream, self.name, selection, self._deadline(), on_state) as follower:
                yield Updates(self.name, follower)

    # --- writing

    async def put(self, key: str, payload: bytes, expires_seconds: int = 0) -> int:
        """Put a value and return its revision."""
        response = await self._change(Put(key, payload, expires_seconds))
        return response.revision

    async def put_parts(
        self, key: str, parts: AsyncIterator[bytes], expires_seconds: int, wanted_revision: int | None
    ) -> tuple[int, bytes | None]:
        """Put a value that arrives in parts, in the memory of one message.

        Args:
            key: Name of the key.
            parts: The bytes.
            expires_seconds: Time until the value ends; 0: never.
            wanted_revision: 0: only if the key has no value; `None`: in any case.

        Returns:
            The value's revision, and its bytes if they fit into one message.

        Raises:
            WrongRevisionError: The key has a value.
        """
        begun, most_bytes = bytearray(), self.jetstream.connection.max_payload_bytes
        async for part in parts:
            begun += part
            if len(begun) > most_bytes:
                break
        payload: bytes | None = None
        if len(begun) <= most_bytes:
            payload = bytes(begun)
            response = await self._change(Put(key, payload, expires_seconds, wanted_revision))
        else:
            from provider.keyvalue.bucket.streams.streamed_put import StreamedPut

            put = Put(key, b"", expires_seconds, wanted_revision)
            streamed = StreamedPut(self.bucket, self._engine, put, key, self._deadline)
            response = await streamed.run(_joined(begun, parts))
        if not response.success:
            raise WrongRevisionError(response.revision, is_create=True)
        return response.revision, payload

    async def put_value(self, key: str, value: Value, expires_ms: int, *, is_forced: bool) -> bool:
        """Put a value of any kind if the key has none, or in any case if forced; return whether it was put."""
        request = PutValue(key, value, expires_ms, None if is_forced else 0)
        return (await self._change(request)).success

    async def create(self, key: str, payload: bytes, expires_seconds: int = 0) -> int:
        """Put a value if the key has none and return its revision, or raise `WrongRevisionError`."""
        response = await self._change(Put(key, payload, expires_seconds, 0))
        if not response.success:
            raise WrongRevisionError(response.revision, is_create=True)
        return response.revision

    async def update(self, key: str, payload: bytes, revision: int, expires_seconds: int = 0) -> int:
        """Put a value if the key has the given revision and return the new one, or raise `WrongRevisionError`.

        In `nats kv` the revision may be that of a marker. The engine compares only revisions of values; for it, a key
        with a marker has revision 0.
        """
        response = await self._change(Put(key, payload, expires_seconds, revision))
        if not response.success and not response.revision:
            # The key has no value. If its marker has the given revision, create the value. The engine creates only over
            # a marker, so a value written in between still makes the change fail.
            current = (await self.bucket.read_latest(key, self._deadline())).revision
            if current != revision:
                raise WrongRevisionError(current)
            response = await self._change(Put(key, payload, expires_seconds, 0))
        if not response.success:
            raise WrongRevisionError(response.revision)
        return response.revision

    async def delete(self, key: str) -> bool:
        """Mark a key as deleted and keep its history; return whether it had a value."""
        return (await self._change(Delete(key, True))).success

    async def purge(self, key: str) -> bool:
        """Mark a key as deleted and remove its history; return whether it had a value."""
        traits = self.bucket.traits
        if traits.has_history and traits.denies_purge and not traits.is_sealed:
            raise ServerRefusedError(f"stream {self.bucket.stream} has deny_purge: history stays, only del is possible")
        is_deleted = (await self._change(Delete(key, False))).success
        if is_deleted and (traits.rolls_up or not traits.has_history):
            return True
        deadline = self._deadline()
        latest = await self.bucket.read_latest(key, deadline)
        if latest.revision and traits.has_history:  # a marker, with old revisions before it
            with explained(self.name):
                subject = key_subject(self.name, key)
                await self.jetstream.purge(self.bucket.stream, subject, deadline, below_sequence=latest.revision)
        return is_deleted

    async def revert(self, key: str, revision: int) -> int:
        """Put an old value again and return the new revision. A concurrent write makes it fail."""
        old = await self.at_revision(key, revision)
        if old.kind not in ("text", "binary"):
            reason = "pages may be gone" if old.kind.startswith("paged ") else "kind only an actor can write"
            raise NotRevertibleError(f"revision {revision} of {key} is a {old.kind}, whose {reason}")
        latest = await self.bucket.read_latest(key, self._deadline())
        return await self.update(key, old.payload, latest.revision)

    async def _change(self, request: SingleKeyRequest) -> SwapResponse:
        response: Any = await self._engine.change(request, request.key, self._deadline())
        assert isinstance(response, SwapResponse)
        return response

    async def _message(self, key: str, revision: int, deadline: float) -> Update | None:
        with explained(self.name):
            found = await self.jetstream.next_message(
                self.bucket.stream, key_subject(self.name, key), revision, deadline
            )
        if found is None or found.sequence != revision:
            return None
        return Update(key, revision, found.time_ms, found.header, found.payload)

    def _deadline(self) -> float:
        return deadline_in(self._timeout_seconds)


class Updates:
    """The revisions of a follower, decoded."""

    def __init__(self, bucket: str, follower: Follower) -> None:
        self._bucket = bucket
        self._follower = follower

    async def next(self) -> Revision | None:
        """Return the next revision. None is returned once, after the revisions that existed at the start."""
        try:
            update = await self._follower.next()
        except GoneError:
            raise BucketGoneError(self._bucket) from None
        return decode_revision(*update) if update is not None else None


async def _joined(begun: bytearray, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield bytes(begun)
    begun.clear()
    async for part in parts:
        yield part
