"""The open stream of a bucket's pages: made when it is first needed, compared with the bucket's at every look."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any, NamedTuple

from provider import errors
from provider.keyvalue.bucket.failures import store_error
from provider.keyvalue.bucket.pages.pages_settings import (
    pages_bucket,
    pages_config,
    reason_not_to_use,
    reason_not_to_write,
)
from provider.keyvalue.bucket.reading.consistency import KeyReader
from provider.keyvalue.bucket.stream import BucketStream, Traits, repeated
from provider.keyvalue.bucket.writes import Writes
from provider.nats import jetstream as js
from provider.nats.buckets import NO_SPACE, STREAM_NAME_IN_USE, STREAM_NOT_FOUND, stream_name
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_RECENT_SECONDS = 1.0
"""Age up to which a look counts for the removal of pages: far below the time that it takes to restore a stream."""


class OpenPages(NamedTuple):
    """The stream of pages as it was found. It is opened again when it was made anew.

    Attributes:
        stream: The stream and its traits.
        writes: Its read lease, and the reserved key by which the lease is renewed.
        reader: Reads of single pages, also under the lease.
        created: When the server made the stream: by this, a stream that was made anew is told from the one before.
        last_sequence: The stream's last sequence when it was found.
        incarnation: A number that changes when this stream or the bucket's was made anew or restored.
        has_one_clock: Whether one server has given both streams their times.
    """

    stream: BucketStream
    writes: Writes
    reader: KeyReader
    created: str
    last_sequence: int
    incarnation: int
    has_one_clock: bool


class Look(NamedTuple):
    """The marks of both streams by which one that was made anew or restored is told from the one before."""

    created: str
    bucket_created: str
    last_sequence: int
    bucket_last_sequence: int

    def follows(self, before: Look) -> bool:
        """Tell whether the streams are those of an earlier look. A restored one may have its time of creation, but is behind."""
        return (
            (self.created, self.bucket_created) == (before.created, before.bucket_created)
            and self.last_sequence >= before.last_sequence
            and self.bucket_last_sequence >= before.bucket_last_sequence
        )


class PagesStream:
    """The stream of one bucket's pages.

    Args:
        bucket: The stream of the bucket.
        tasks: Owner of the work in the background.
        is_created: Whether the stream may be made.

    Attributes:
        found: The stream; `None` before the first use, and after it was missed.
        reason: The reason why no page may be written, or ""; for health.
        state: The state of the stream as of the last look.
        incarnation: That of the stream found last; 0: no stream was found yet.
    """

    def __init__(self, bucket: BucketStream, tasks: TaskOwner, *, is_created: bool = True) -> None:
        self.name = stream_name(pages_bucket(bucket.bucket))
        self.found: OpenPages | None = None
        self.reason = ""
        self.state = js.StreamState()
        self._bucket = bucket
        self._jetstream = bucket.jetstream
        self._tasks = tasks
        self._is_created = is_created
        self._last: tuple[Look, OpenPages] | None = None
        """The streams at the last look, also after they were missed."""
        self.incarnation = 0
        self._looked_at = float("-inf")
        self._opening = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def to_read(self, deadline: float) -> OpenPages | None:
        """Return the stream; `None` if it does not exist.

        Raises:
            errors.StoreError: It could not be asked in time, or is not a stream of this bucket's pages.
        """
        return self.found or await self._open(deadline, may_create=False)

    async def to_write(self, deadline: float) -> OpenPages:
        """Return the stream; make it if it does not exist.

        Raises:
            errors.StoreError: It could not be made in time, or must not be written to; the error has the reason.
        """
        found = self.found or await self._open(deadline, may_create=True)
        if found is None:
            raise errors.StoreRefusedError(f"stream {self.name!r} does not exist, and CREATE is never")
        if self.reason:
            raise errors.StoreRefusedError(self.reason)
        return found

    def missed(self) -> None:
        """Look for the stream again at its next use: no server has answered for it."""
        self.found = None

    async def recent(self, deadline: float) -> OpenPages | None:
        """Return the stream as it was a moment ago, or `look` at it.

        Raises:
            errors.StoreError: As for `look`.
        """
        is_recent = self._loop.time() - self._looked_at < _RECENT_SECONDS
        return self.found if is_recent and self.found is not None else await self.look(deadline)

    async def look(self, deadline: float) -> OpenPages | None:
        """Compare the stream with the bucket's again; return it, or `None` if it does not exist.

        Raises:
            errors.StoreError: It could not be asked in time, or is not a stream of this bucket's pages.
        """
        return await self._open(deadline, may_create=False, is_anew=True)

    async def _open(self, deadline: float, *, may_create: bool, is_anew: bool = False) -> OpenPages | None:
        began = self._loop.time()
        async with self._opening:
            if self.found is not None and not is_anew:
                return self.found  # another caller has opened it meanwhile
            try:
                pages = await self._info(self.name, deadline)
                bucket = await self._info(self._bucket.name, deadline)
                if pages is None and bucket is not None and may_create and self._is_created:
                    pages = await self._create(bucket.config, deadline)
                level = await self._jetstream.level(deadline)
            except (errors.NatsError, TimeoutError) as error:
                raise store_error(error, self._loop.time() - began) from None
            if pages is None or bucket is None:
                # Whatever is found under this name later is another stream, even if a restore gives it its time of creation.
                self.found, self.reason, self._last, self.state = None, "", None, js.StreamState()
                return None
            return self._take(bucket, pages, level)

    def _take(self, bucket: js.StreamInfo, pages: js.StreamInfo, level: int) -> OpenPages:
        if reason := reason_not_to_use(self._bucket.bucket, pages.config):
            self.found, self.reason = None, reason
            raise errors.StoreRefusedError(reason)
        reason = reason_not_to_write(bucket.config, pages.config)
        if reason and reason != self.reason:
            _log.warning("pages_weaker_than_bucket", extra={"bucket": self._bucket.bucket, "reason": reason})
        self.reason, self.state = reason, pages.state
        look = Look(pages.created, bucket.created, pages.state.last_seq, bucket.state.last_seq)
        known = self._last[1] if self._last is not None and look.follows(self._last[0]) else None
        traits = Traits.from_info(pages, level)
        if known is None:
            known = self._opened(traits, pages, bucket)
        known.stream.learn(traits)
        self.found = known._replace(last_sequence=look.last_sequence)
        self._last = look, self.found
        self._looked_at = self._loop.time()
        return self.found

    def _opened(self, traits: Traits, pages: js.StreamInfo, bucket: js.StreamInfo) -> OpenPages:
        name = pages_bucket(self._bucket.bucket)
        stream = BucketStream(self._jetstream, name, traits, self._bucket.clock, self.missed)
        writes = Writes(stream, self._tasks)
        self.incarnation += 1
        has_one_clock = not any(info.cluster is not None and info.cluster.name for info in (pages, bucket))
        return OpenPages(
            stream,
            writes,
            KeyReader(stream, writes),
            pages.created,
            pages.state.last_seq,
            self.incarnation,
            has_one_clock,
        )

    async def _info(self, stream: str, deadline: float) -> js.StreamInfo | None:
        try:
            return await repeated(functools.partial(self._jetstream.stream_info, stream), deadline)
        except errors.ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return None

    async def _create(self, bucket: js.StreamConfig, deadline: float) -> js.StreamInfo | None:
        level = await self._jetstream.level(deadline)
        config: dict[str, Any] = pages_config(self._bucket.bucket, bucket, level)
        try:
            info = await repeated(functools.partial(self._jetstream.create_stream, config), deadline)
        except errors.ApiError as error:
            if error.err_code in NO_SPACE:  # such as for another MAX_BYTES, of which the account has not that much left
                raise errors.StoreRefusedError(f"stream {self.name!r} cannot be made: {error}") from None
            if error.err_code != STREAM_NAME_IN_USE:
                raise
            return await self._info(self.name, deadline)  # another provider has made it in the meantime
        _log.info("pages_stream_created", extra={"bucket": self._bucket.bucket, "replicas": bucket.num_replicas})
        return info
