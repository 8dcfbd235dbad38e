"""The paged values of one open bucket: the stream of the pages, and what reads and changes need of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.page_store import StreamPageStore
from provider.keyvalue.bucket.pages.paged_value import Head, Operation, PageId, Result
from provider.keyvalue.bucket.pages.pages_stream import PagesStream
from provider.keyvalue.bucket.pages.runner import PageRunner
from provider.keyvalue.bucket.pages.settling import page_sizes
from provider.keyvalue.bucket.pages.tree_reads import reachable_pages
from provider.keyvalue.bucket.pages.value_reader import ValueReader
from provider.keyvalue.bucket.pages.value_writer import PagingLimits, ValueWriter
from provider.keyvalue.bucket.stream import BucketStream
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.link_values import Paged
from provider.keyvalue.values import MAX_ANSWER_BYTES
from provider.tasks import TaskOwner

PAGE_GRACE_SECONDS = 60.0
"""Time for which pages stay after they were replaced, unless the caller sets it: far above the longest caller's deadline."""


class PagingSettings(NamedTuple):
    """The settings of paged values.

    Attributes:
        paged: Whether large values get pages.
        is_created: Whether the stream of pages may be made.
        max_answer_bytes: Size of the largest answer.
        grace_seconds: Time for which pages stay after they were replaced.
        cache: The pages that the process has used last; `None`: the bucket has a cache of its own.
    """

    paged: Paged = Paged.AUTO
    is_created: bool = True
    max_answer_bytes: int = MAX_ANSWER_BYTES
    grace_seconds: float = PAGE_GRACE_SECONDS
    cache: PageCache | None = None


class Paging:
    """The paged values of one open bucket.

    Args:
        stream: The bucket's stream.
        read_latest: Reads the entry under a key with strong consistency.
        clock: The server's clock.
        tasks: Owner of the work in the background.
        settings: The settings.

    Attributes:
        stream: The stream of the pages.
        store: The pages.
        reader: Reads of paged values.
        writer: Changes of paged values.
    """

    def __init__(
        self,
        stream: BucketStream,
        read_latest: Callable[[str, float], Awaitable[Entry]],
        clock: ServerClock,
        tasks: TaskOwner,
        settings: PagingSettings,
    ) -> None:
        self._bucket = stream
        self._settings = settings
        self.stream = PagesStream(stream, tasks, is_created=settings.is_created)
        self.store = StreamPageStore(self.stream, settings.cache or PageCache(), clock, tasks, settings.grace_seconds)
        runner = PageRunner(self.store)
        self._runner, self._read_latest = runner, read_latest
        self.reader = ValueReader(runner, read_latest, settings.max_answer_bytes)
        self.writer = ValueWriter(runner, self.reader, self.limits)

    @property
    def grace_seconds(self) -> float:
        """Time for which pages stay after they were replaced."""
        return self._settings.grace_seconds

    @property
    def unhealthy(self) -> str:
        """The reason why some values cannot be read or changed, or ""."""
        return self.stream.reason or self.reader.damaged.reason

    async def look(self, deadline: float) -> None:
        """Compare the stream of the pages with the bucket's, if there is one; look again at the keys that were damaged.

        Raises:
            errors.StoreError: They could not be read in time.
        """
        if self.stream.incarnation:
            await self.stream.look(deadline)
        for bucket_key in self.reader.damaged.keys:
            entry = await self._read_latest(bucket_key, deadline)
            self.reader.damaged.drop(bucket_key, entry.revision)

    async def reachable(self, bucket_key: str, head: Head, deadline: float) -> set[PageId]:
        """Return the pages that a head reaches; see `run`."""
        return await self.run(bucket_key, reachable_pages(head), deadline)

    async def run(self, bucket_key: str, operation: Operation[Result], deadline: float) -> Result:
        """Carry out an operation on the pages of a key.

        Raises:
            errors.StoreError, AbsentPageError, DamagedPageError: The pages could not be read, or are not there.
        """
        return await self._runner.run([bucket_key], operation, deadline)

    def limits(self) -> PagingLimits:
        """Return the limits of values, which may change while the bucket is open."""
        traits = self._bucket.traits
        max_payload_bytes = self._bucket.jetstream.connection.max_payload_bytes
        # In a bucket with history, or one that is sealed, heads of the past can be read whose pages are gone.
        allows_new = self._settings.paged is Paged.ALWAYS or (
            self._settings.paged is Paged.AUTO and not traits.has_history and not traits.is_sealed
        )
        return PagingLimits(
            page_sizes(max_payload_bytes),
            traits.max_value_bytes,
            allows_new,
            max_payload_bytes // 2,
            is_replicated=traits.replicas > 1,
        )
