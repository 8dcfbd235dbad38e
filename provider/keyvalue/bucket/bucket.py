"""One open bucket: its reads, its writes, and the lease that makes replicated reads strong.

Knows NATS and entries; operations of the contract are the business of `store` and `engine`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from provider.keyvalue.bucket.pages.paging import Paging, PagingSettings
from provider.keyvalue.bucket.reading.reads import Reads
from provider.keyvalue.bucket.stream import BucketStream, Traits
from provider.keyvalue.bucket.writes import Writes
from provider.keyvalue.clock import ServerClock
from provider.nats.jetstream import JetStream
from provider.tasks import TaskOwner


class Bucket:
    """One open bucket, and the store that the engine changes (`cas.CompareAndSetStore`).

    Its operations are methods of its parts. They are bound here, not forwarded: every call of an actor goes through one.

    Args:
        jetstream: The JetStream that has the bucket.
        name: Name of the bucket, without the `KV_` of its stream.
        traits: The stream's traits now; they may be replaced while the bucket is open.
        clock: The server's clock.
        tasks: Owner of the work in the background.
        on_missed: Called when no server answers for the stream, as when it was deleted.

    Attributes:
        paging_settings: Settings of the values that have pages; they count from the first use of `paging`.
    """

    def __init__(
        self,
        jetstream: JetStream,
        name: str,
        traits: Traits,
        clock: ServerClock,
        tasks: TaskOwner,
        on_missed: Callable[[], None],
    ) -> None:
        self.bucket_stream = BucketStream(jetstream, name, traits, clock, on_missed)
        self.name = name
        self.stream = self.bucket_stream.name
        self.now_ms = clock.now_ms

        writes = Writes(self.bucket_stream, tasks)
        self.write = writes.write
        self.fence = writes.fence
        self.write_reserved = writes.write_reserved
        self.mark_expired = writes.mark_expired
        self.place_owed_markers = writes.place_owed_markers
        self.expirations = writes.expirations
        self.lease = writes.lease

        reads = Reads(self.bucket_stream, writes)
        self.read_failures = reads.failures
        self.begin_read = reads.begin_read
        self.read = reads.read
        self.read_entry = reads.read_entry
        self.read_many = reads.read_many
        self.read_latest = reads.read_latest
        self.paging_settings = PagingSettings()
        self._clock, self._tasks = clock, tasks

    @functools.cached_property
    def paging(self) -> Paging:
        """The values that have pages."""
        return Paging(self.bucket_stream, self.read_latest, self._clock, self._tasks, self.paging_settings)

    @property
    def expires_by_itself(self) -> bool:
        """True if the server may be told when a value ends."""
        return self.bucket_stream.traits.expires_by_itself

    @property
    def traits(self) -> Traits:
        return self.bucket_stream.traits

    @traits.setter
    def traits(self, traits: Traits) -> None:
        self.bucket_stream.learn(traits)
