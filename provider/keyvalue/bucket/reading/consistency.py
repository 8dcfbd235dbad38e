"""One attempt to read a key, at each consistency.

One replica has the last write by definition, so a direct get is always enough there. With several replicas it depends:
`strong` asks the leader under a read lease, `leader` asks the leader, `fast` asks any replica.

Source: ADR-31 (direct get).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from provider import errors
from provider.keyvalue.bucket.entries import EXPECTED_REVISION, EXPECTED_SUBJECT, Entry, decode_entry
from provider.keyvalue.bucket.lease import LEASE_SECONDS, Proof
from provider.keyvalue.bucket.stream import BucketStream
from provider.keyvalue.bucket.writes import Writes
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_values import Consistency
from provider.nats import jetstream as js
from provider.nats.buckets import SEALED, WRONG_LAST_SEQUENCE
from provider.nats.frames import header_value, status_of, status_text

ReadEntry = Callable[[str, float], Awaitable[Entry]]
"""Reads the entry under a key before a deadline. Every failure is a `NatsError`, a `StoreError` or a `TimeoutError`."""

MULTI_GET_LEVEL = 1
"""The API level, of nats-server 2.11, since which one direct get reads the last messages of many keys."""


class KeyReader:
    """The ways to read a key of one bucket. Each makes one attempt; `reads` repeats them.

    Args:
        stream: The bucket's stream.
        writes: Used where a read has to write, and for the lease.
    """

    def __init__(self, stream: BucketStream, writes: Writes) -> None:
        self.direct_subject = f"{stream.jetstream.api_prefix}.DIRECT.GET.{stream.name}.{stream.subject_prefix}".encode()
        """Subject of a direct get, up to the key."""
        self._stream = stream
        self._writes = writes
        self._lease = writes.lease
        self._jetstream = stream.jetstream
        self._connection = stream.jetstream.connection
        self._loop = asyncio.get_running_loop()
        self._own_mark = b"\r\n%b: %b\r\n" % (js.STREAM, stream.name.encode())
        """The header by which the stream itself, and not a mirror, has answered a direct get."""
        self._by_consistency: dict[Consistency, ReadEntry] = {
            Consistency.STRONG: self.strong,
            Consistency.LEADER: self.leader,
            Consistency.FAST: self.fast,
        }

    def at(self, consistency: Consistency) -> ReadEntry:
        """Return the cheapest way to read that gives a consistency."""
        return self.direct if self._stream.has_one_copy else self._by_consistency[consistency]

    # --- any replica

    async def direct(self, bucket_key: str, deadline: float) -> Entry:
        """Read any replica; it may be behind."""
        subject = self.direct_subject + bucket_key.encode()
        return self.decode_direct(*await self._connection.request(subject, deadline=deadline))

    def decode_direct(self, header: bytes, payload: bytes) -> Entry:
        """Decode the reply to a direct get.

        Raises:
            errors.ApiError: The request failed, or a mirror has answered it. A missing key is not an error.
        """
        if not self.is_found(header):
            return Entry(0, None)
        return decode_entry(0, header, payload, self._stream.traits.lifetimes)

    def is_found(self, header: bytes) -> bool:
        """Tell from the headers of the reply to a direct get whether there is a message.

        Raises:
            errors.ApiError: The request failed, or a mirror has answered it.
        """
        if self._own_mark in header:
            return True
        status = status_of(header)
        if status == 404:
            return False
        # A mirror may be behind, and it never learns of purges: the leader is asked from now on.
        if header_value(header, js.STREAM) is not None:
            self._stream.note_mirror()
            raise errors.ApiError(503, 0, "a mirror has answered instead of the bucket")
        raise errors.ApiError(status or 500, 0, status_text(header) or "answer without a sequence")

    async def snapshot(
        self, bucket_keys: Sequence[str], deadline: float, max_bytes: int | None = None
    ) -> dict[str, Entry]:
        """Read several keys as of one moment from any replica; keys without a message are left out.

        Raises:
            errors.TooMuchAtOnceError: The payloads together exceed `max_bytes`.
        """
        prefix = self._stream.subject_prefix
        subjects = [prefix + key for key in bucket_keys]
        found = await self._jetstream.last_messages(self._stream.name, subjects, deadline, max_bytes)
        if found is None:
            raise errors.TooMuchAtOnceError(len(bucket_keys), max_bytes or 0)
        return {subject.removeprefix(prefix): self.decode_direct(*reply) for subject, reply in found.items()}

    async def fast(self, bucket_key: str, deadline: float) -> Entry:
        """Read any replica. If it is behind a revision that this process has seen, read the leader instead."""
        if not self._stream.traits.allows_direct or self._stream.is_mirrored:
            return await self.leader(bucket_key, deadline)
        entry = await self.direct(bucket_key, deadline)
        if entry.revision < self._stream.seen_revision(bucket_key):
            entry = await self.leader(bucket_key, deadline)
        self._stream.note_revision(bucket_key, entry.revision)
        return entry

    # --- the leader

    async def leader(self, bucket_key: str, deadline: float) -> Entry:
        """Read the server that considers itself the leader; a deposed one goes on answering for some seconds."""
        subject = self._stream.subject_prefix + bucket_key
        message = await self._jetstream.last_message(self._stream.name, subject, deadline)
        if message is None:
            return Entry(0, None)
        lifetimes = self._stream.traits.lifetimes
        return decode_entry(message.sequence, message.header, message.payload, lifetimes, message.time_ms)

    async def strong(self, bucket_key: str, deadline: float) -> Entry:
        """Read an entry that no write acknowledged before this call is missing from, whatever happens in the cluster."""
        if self._stream.traits.replicas == 1 or self._stream.traits.is_sealed:
            return await self.leader(bucket_key, deadline)
        while True:
            # 1. Get the lease: until it ends, there is no second leader.
            try:
                proof = await self._lease.hold(deadline)
            except errors.ApiError as error:
                if error.err_code != SEALED:
                    raise
                # The stream takes no write that could renew the lease, and has nothing newer to miss.
                return await self.leader(bucket_key, deadline)
            # There is no lease if a replica is down or behind. Then there is a write that this read can wait for.
            if not proof.until:
                return await self._after_write(bucket_key, proof, deadline)
            # 2. Ask the leader. The answer counts if it is here before the lease ends; otherwise start over.
            entry = await self.leader(bucket_key, deadline)
            if self._loop.time() < proof.until:
                return entry

    async def _after_write(self, bucket_key: str, proof: Proof, deadline: float) -> Entry:
        """Read a replica that has a write which was sent after the read began.

        That replica has everything that was acknowledged before the read began, whichever server leads.
        """
        # nats-server before 2.11 cannot read two keys at once. There the leader's answer counts if it arrives while a
        # majority, which has that write, has probably not elected another leader.
        if not self._stream.traits.allows_direct or self._stream.traits.level < MULTI_GET_LEVEL:
            entry = await self.leader(bucket_key, deadline)
            if self._loop.time() < proof.sent_at + LEASE_SECONDS:
                return entry
            raise TimeoutError
        found = await self.snapshot((bucket_key, RESERVED_KEY), deadline)
        reserved = found.get(RESERVED_KEY)
        if reserved is not None and reserved.revision >= proof.revision:
            return found.get(bucket_key) or Entry(0, None)
        # The replica that answers, the one nearest to the connection, is the one that is behind.
        return await self._verified(bucket_key, deadline)

    async def _verified(self, bucket_key: str, deadline: float) -> Entry:
        """Read the leader, and verify the answer by a write that the stream accepts only if the key has that revision."""
        subject = (self._stream.subject_prefix + bucket_key).encode()
        while True:
            entry = await self.leader(bucket_key, deadline)
            conditions = (EXPECTED_REVISION, b"%d" % entry.revision), (EXPECTED_SUBJECT, subject)
            try:
                await self._writes.write_reserved(deadline, *conditions)
            except errors.ApiError as error:
                # A conflict: the leader was deposed, or the key was written in between. Read again.
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
            else:
                return entry
