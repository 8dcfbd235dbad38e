"""One bucket, opened for a person: the entries of it, through the engine that the provider has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from contracts.extensions import SwapResponse
from contracts.keyvalue import SingleKeyRequest
from provider.commands.connect import deadline_in, explained
from provider.commands.errors import BucketGoneError, KeyNotFoundError, NotRevertibleError, WrongRevisionError
from provider.commands.kv.bucket_admin import check_is_bucket
from provider.commands.kv.stored_revision import PUT, Revision, decode_revision
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.follow import SILENCE_SECONDS, Follower, GoneError, Selection, Start, Update
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.keyvalue.bucket.stream import look_at_stream, traits_of
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.conditional import Delete, Put
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import Kind
from provider.keyvalue.watch.patterns import matches
from provider.nats import jetstream as js
from provider.nats.buckets import key_subject, stream_name
from provider.tasks import TaskOwner


@contextlib.asynccontextmanager
async def opened(jetstream: js.JetStream, name: str, timeout_seconds: float) -> AsyncIterator[OpenBucket]:
    """Open a bucket that is there, and let go of it at the end.

    Args:
        jetstream: Where it lives.
        name: Its name.
        timeout_seconds: How long opening, and each operation, may take.

    Raises:
        BucketNotFoundError: There is none.
        CommandError: The server refuses, or does not answer.
    """
    clock, tasks = ServerClock(), TaskOwner()
    deadline = deadline_in(timeout_seconds)
    with explained(name):
        level = await jetstream.level(deadline)
        info = await look_at_stream(jetstream, stream_name(name), clock, deadline)
    check_is_bucket(name, info)
    bucket = Bucket(jetstream, name, traits_of(info, level), clock, tasks, lambda: None)
    engine = Engine(bucket, tasks)
    try:
        yield OpenBucket(jetstream, bucket, engine, timeout_seconds)
    finally:
        engine.close()
        await tasks.close()


class OpenBucket:
    """The entries of a bucket. Keys are the bucket's own, as `nats kv` knows them.

    Every method raises `CommandError` or `errors.StoreError` with what a person reads.
    """

    def __init__(self, jetstream: js.JetStream, bucket: Bucket, engine: Engine, timeout_seconds: float) -> None:
        self.name = bucket.name
        self._jetstream = jetstream
        self._bucket = bucket
        self._engine = engine
        self._timeout_seconds = timeout_seconds

    @property
    def expires_by_itself(self) -> bool:
        """Whether the server removes a value whose time has come."""
        return self._bucket.traits.expires_by_itself

    def now_ms(self) -> int:
        """Return the time by the server's clock, in milliseconds since 1970."""
        return self._bucket.now_ms()

    # --- reading

    async def get(self, key: str, consistency: Consistency) -> Revision:
        """Return what stands under a key, or raise `KeyNotFoundError`."""
        deadline = self._deadline()
        entry = await self._bucket.read_entry(key, consistency, deadline)
        if entry.value is None:
            raise KeyNotFoundError(key)
        found = await self._message(key, entry.revision, deadline)
        if found is not None:
            return decode_revision(*found)
        # It was overwritten or deleted since, so that when it was stored cannot be learnt any more.
        return Revision(
            bucket_key=key,
            revision=entry.revision,
            operation=PUT,
            time_ms=0,
            payload=encode_payload(entry.value),
            kind="binary" if entry.value.kind is Kind.BINARY else entry.value.kind.value,
            expires_at_ms=entry.value.expires_at_ms,
            operation_id=entry.operation_id.decode(errors="replace"),
        )

    async def at_revision(self, key: str, revision: int) -> Revision:
        """Return an old value of a key, or raise `KeyNotFoundError`: also for a marker, and for what has expired."""
        message = await self._message(key, revision, self._deadline())
        found = decode_revision(*message) if message is not None else None
        if found is None or found.operation != PUT or found.is_expired(self.now_ms()):
            raise KeyNotFoundError(key, revision)
        return found

    async def keys(self, pattern: str) -> AsyncIterator[KeyHeader]:
        """Yield the keys that have a value, each once, in the order in which they were last written."""
        told: set[str] = set()
        with explained(self.name):
            async with contextlib.aclosing(scan(self._jetstream, self._bucket)) as found:
                async for head in found:
                    is_wanted = head.bucket_key != RESERVED_KEY and matches(pattern, head.bucket_key)
                    if is_wanted and head.is_live(self.now_ms()) and head.bucket_key not in told:
                        told.add(head.bucket_key)  # one that is written meanwhile comes again
                        yield head

    async def history(self, key: str) -> list[Revision]:
        """Return all revisions of a key that are still there, the oldest first, or raise `KeyNotFoundError`."""
        revisions: list[Revision] = []
        patience_seconds = self._timeout_seconds + SILENCE_SECONDS  # the second is what a follower needs to know why
        async with self.following(Selection(key, Start.ALL)) as follower:
            while True:
                async with asyncio.timeout(patience_seconds):
                    revision = await follower.next()
                if revision is None:
                    break
                revisions.append(revision)
        if not revisions:
            raise KeyNotFoundError(key)
        return revisions

    @contextlib.asynccontextmanager
    async def following(
        self, selection: Selection, on_state: Callable[[str | None], None] = lambda _: None
    ) -> AsyncIterator[Updates]:
        """Follow the bucket; `on_state` as for `following.Follower`."""
        with explained(self.name):
            async with Follower(self._jetstream, self.name, selection, self._deadline(), on_state) as follower:
                yield Updates(self.name, follower)

    # --- writing

    async def put(self, key: str, payload: bytes, expires_seconds: int = 0) -> int:
        """Put a value and return its revision."""
        response = await self._change(Put(key, payload, expires_seconds))
        return response.revision

    async def create(self, key: str, payload: bytes, expires_seconds: int = 0) -> int:
        """Put a value where none is and return its revision, or raise `WrongRevisionError`."""
        response = await self._change(Put(key, payload, expires_seconds, 0))
        if not response.success:
            raise WrongRevisionError(response.revision, is_create=True)
        return response.revision

    async def update(self, key: str, payload: bytes, revision: int, expires_seconds: int = 0) -> int:
        """Put a value where a revision stands and return the new one, or raise `WrongRevisionError`.

        The engine knows revisions of values only; to a person a marker has one as well.
        """
        response = await self._change(Put(key, payload, expires_seconds, revision))
        if not response.success and not response.revision:
            standing = (await self._bucket.read_latest(key, self._deadline())).revision
            if standing != revision:
                raise WrongRevisionError(standing)
            response = await self._change(Put(key, payload, expires_seconds, 0))
        if not response.success:
            raise WrongRevisionError(response.revision)
        return response.revision

    async def delete(self, key: str) -> bool:
        """Mark a key as deleted, its history stays; returns whether there was a value."""
        return (await self._change(Delete(key, True))).success

    async def purge(self, key: str) -> bool:
        """Mark a key as deleted and remove its history; returns whether there was a value."""
        if (await self._change(Delete(key, False))).success:
            return True
        deadline = self._deadline()
        latest = await self._bucket.read_latest(key, deadline)
        if latest.revision and self._bucket.traits.has_history:  # a marker, with what it marks still behind it
            with explained(self.name):
                subject = key_subject(self.name, key)
                await self._jetstream.purge(self._bucket.stream, subject, deadline, below_sequence=latest.revision)
        return False

    async def revert(self, key: str, revision: int) -> int:
        """Put an old value again, if nobody writes the key meanwhile, and return the new revision."""
        old = await self.at_revision(key, revision)
        if old.kind not in ("text", "binary"):
            raise NotRevertibleError(f"revision {revision} of {key} is a {old.kind}, which only an actor can write")
        latest = await self._bucket.read_latest(key, self._deadline())
        return await self.update(key, old.payload, latest.revision)

    async def _change(self, request: SingleKeyRequest) -> SwapResponse:
        response: Any = await self._engine.change(request, request.key, self._deadline())
        assert isinstance(response, SwapResponse)
        return response

    async def _message(self, key: str, revision: int, deadline: float) -> Update | None:
        with explained(self.name):
            found = await self._jetstream.next_message(
                self._bucket.stream, key_subject(self.name, key), revision, deadline
            )
        if found is None or found.sequence != revision:
            return None
        return Update(key, revision, found.time_ms, found.header, found.payload)

    def _deadline(self) -> float:
        return deadline_in(self._timeout_seconds)


class Updates:
    """The revisions that a follower tells of, decoded."""

    def __init__(self, bucket: str, follower: Follower) -> None:
        self._bucket = bucket
        self._follower = follower

    async def next(self) -> Revision | None:
        """Return the next revision; `None` comes once, when all that stood there at first was told."""
        try:
            update = await self._follower.next()
        except GoneError:
            raise BucketGoneError(self._bucket) from None
        return decode_revision(*update) if update is not None else None
