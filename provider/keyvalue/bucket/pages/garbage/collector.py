"""The collector of a bucket: pages that no head reaches are removed, in rounds.

Crashes leave such pages, and so do other clients that overwrite a head, and heads that end. `suspects` has the rules by which a
page may go, `fence` the write that keeps paused writers out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.pages.garbage.fence import fence_header
from provider.keyvalue.bucket.pages.garbage.page_list import Part, pages_by_key
from provider.keyvalue.bucket.pages.garbage.suspects import HeadSeen, PageSeen, Round, Suspects
from provider.keyvalue.bucket.pages.garbage.turn import Turn
from provider.keyvalue.bucket.pages.head import decode_head
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, DamagedPageError, Head, PageId
from provider.keyvalue.bucket.pages.pages_stream import OpenPages, PagesStream
from provider.keyvalue.bucket.reading.stored_form import KIND, PAGED
from provider.keyvalue.kinds import Kind
from provider.nats.frames import header_value
from provider.nats.headers import is_deletion
from provider.nats.jetstream import StoredMessage

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
"""Time between two rounds that look for new suspects. Garbage of crashes is rare, and a round reads all heads with pages."""

_GROWTH_BYTES = 256 * 1024 * 1024
"""Growth of the stream after which a round comes early, or twice the stream as the last round left it if that is more. It may be
garbage: of large values that other instances overwrite with small ones, or that end."""

_CHECK_SECONDS = 10.0
"""Time between two looks at the growth: as often as the stream is looked at."""

_FULL_SECONDS = 60.0
"""Time between two rounds while there is no room for pages: there may be garbage of a process that has ended."""

_TURN_FACTOR = 1.5
"""Length of a turn in intervals: it does not end between two rounds, and passes on soon after its process has ended."""

_FIRST_SECONDS = 60.0
"""Time until the first round at most. Instances that start together take turns."""

_REQUEST_SECONDS = 5.0
"""Time for one step of a round. No caller waits for it."""

_KEYS_AT_ONCE = 4
"""Keys that are looked at together: some 2,000 reads a second."""

_PAGES_PER_PART = 50_000
"""Pages that are listed together, some 10 MB. A stream with more is listed in parts."""

_REMOVALS_AT_ONCE = 16
"""Removals of pages that are under way together."""

_SMALL_KINDS = frozenset({None, *(kind.value.encode() for kind in Kind if kind is not Kind.BINARY)})
"""The kinds of messages that certainly reach no pages. One of a later version may reach some."""

Walk = Callable[[str, Head, float], Awaitable[set[PageId]]]
"""Returns all pages that a head under a key reaches, before a deadline."""


class _Last(NamedTuple):
    """The last message of a key, and the pages that it reaches.

    Attributes:
        message: The message; `None` if the key has no message.
        reachable: The pages.
        is_expired: Whether the message is a value after its end.
    """

    message: StoredMessage | None
    reachable: set[PageId]
    is_expired: bool = False

    @property
    def head(self) -> HeadSeen:
        return HeadSeen(self.message.sequence, self.message.time_ms) if self.message is not None else HeadSeen(0, 0)


class _StreamsChangedError(Exception):
    """One of the streams was made anew or restored during a round."""


class Collector:
    """The collector of one open bucket.

    Args:
        bucket: The bucket.
        pages: The stream of its pages.
        walk: Finds the pages that a head reaches.
        grace_seconds: Time between the two rounds that have to find a page unreachable.
        interval_seconds: Time between two rounds that look for new suspects.

    Attributes:
        removed: Number of pages that were removed so far.
    """

    def __init__(
        self,
        bucket: Bucket,
        pages: PagesStream,
        walk: Walk,
        grace_seconds: float,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self.removed = 0
        self._bucket = bucket
        self._jetstream = bucket.bucket_stream.jetstream
        self._pages = pages
        self._remover = bucket.paging.store.remover
        self._walk = walk
        self._grace_seconds = grace_seconds
        self._interval_seconds = interval_seconds
        self._loop = asyncio.get_running_loop()
        self._suspects = Suspects(grace_seconds)
        self._turn = Turn(interval_seconds * _TURN_FACTOR)
        self._incarnation: int | None = None
        self._quiet_until = 0.0
        self._reason = ""
        self._is_refused = False
        """True if the user has no permission to ask for the stream of pages."""
        self._bytes_left = 0
        """Size of the stream after the last round."""

    async def run(self) -> None:
        """Collect for ever. A failure only delays the collection."""
        with contextlib.suppress(errors.StoreError):
            await self._has_pages()
        await asyncio.sleep(random.random() * min(_FIRST_SECONDS, self._interval_seconds))
        while True:
            began = self._loop.time()
            await self._try_round()
            if self._suspects.count:
                # The second round, which may remove what the first one has found.
                await asyncio.sleep(self._grace_seconds)
                await self._try_round()
            self._remover.lacks_room = False
            await self._pause(began + self._interval_seconds)

    async def _pause(self, until: float) -> None:
        """Wait for the next round: for its time, or until the stream is full or has grown by much."""
        full_at = self._loop.time() + _FULL_SECONDS
        for _ in range(math.ceil((until - self._loop.time()) / _CHECK_SECONDS)):
            if self._pages.state.size > self._bytes_left + max(self._bytes_left, _GROWTH_BYTES):
                return
            if self._remover.lacks_room and self._loop.time() >= full_at:
                return
            await asyncio.sleep(max(0.0, min(until - self._loop.time(), _CHECK_SECONDS)))

    async def _try_round(self) -> None:
        try:
            await self.round()
            if self._pages.incarnation:
                await self._pages.look(self._deadline())
            self._bytes_left = self._pages.state.size
            self._reason = ""
        except (errors.NatsError, errors.StoreError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            if reason != self._reason:
                self._reason = reason
                _log.warning("pages_not_collected", extra={"bucket": self._bucket.name, "reason": reason})
        except Exception:  # noqa: BLE001  (a defect must not leave the garbage of a bucket for good)
            _log.exception("pages_collector_failed", extra={"bucket": self._bucket.name})

    async def round(self) -> bool:
        """Compare all pages with the heads, and remove the pages that may go; return false if it is not the time for it.

        Raises:
            errors.NatsError, errors.StoreError, TimeoutError: The streams could not be read.
        """
        if not await self._has_pages():
            return False
        pages = await self._pages.look(self._deadline())
        if pages is None or self._is_quiet(pages):
            return False
        is_urgent = self._remover.lacks_room
        if not await self._turn.take(pages, self._bucket.now_ms(), self._deadline(), is_urgent=is_urgent):
            return False
        info = await self._jetstream.stream_info(pages.stream.name, self._deadline())
        parts = 1 + info.state.messages // _PAGES_PER_PART
        keys: set[str] = set()
        before = self.removed
        try:
            for number in range(parts):
                # The pages first, the heads after: a head that is read reaches every page that was listed and is in use.
                found = await pages_by_key(pages, Part(number, parts))
                keys.update(found)
                await self._judge_all(pages, found)
        except _StreamsChangedError:
            return False
        self._suspects.keep(keys)
        if self.removed > before:
            _log.info("pages_collected", extra={"bucket": self._bucket.name, "count": self.removed - before})
        return True

    async def _has_pages(self) -> bool:
        """Tell whether the bucket has, or has had, a stream of pages.

        Processes that have ended may have left some, be there heads or not, so it is asked for until it is found. The user of
        a bucket without large values may have no permission to ask. Then one refusal is enough.

        Raises:
            errors.StoreError: The server could not be asked in time.
        """
        if not self._pages.incarnation and not self._is_refused:
            try:
                await self._pages.look(self._deadline())
            except errors.StoreForbiddenError:
                self._is_refused = True
        return self._pages.incarnation > 0

    def _is_quiet(self, pages: OpenPages) -> bool:
        """Tell whether nothing may be collected, since a stream was made anew or restored a short time ago.

        The other stream may still have to be restored, from an older copy: heads that come back reach pages that no head
        reaches now.
        """
        if pages.incarnation != self._incarnation:
            if self._incarnation is not None:
                self._quiet_until = self._loop.time() + self._grace_seconds
            self._incarnation = pages.incarnation
            self._suspects.forget()
        return self._loop.time() < self._quiet_until

    async def _judge_all(self, pages: OpenPages, found: dict[str, list[PageSeen]]) -> None:
        rest = iter(found.items())

        async def judge_some() -> None:
            for bucket_key, listed in rest:
                await self._judge(pages, bucket_key, listed)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_KEYS_AT_ONCE, len(found))):
                group.create_task(judge_some())

    async def _judge(self, pages: OpenPages, bucket_key: str, listed: list[PageSeen]) -> None:
        """Remove the pages of a key that may go. An error ends the round for this key only."""
        began = self._loop.time()
        try:
            last = await self._last(bucket_key)
            if last is None:
                return
            found = Round(listed, last.reachable, last.head, began, pages.has_one_clock)
            verdict = self._suspects.judge(bucket_key, found)
            if not verdict.removable:
                return
            # Only a fence that is certainly there counts.
            if verdict.needs_fence and not await self._fence(bucket_key, last):
                return
            await self._remove(pages, verdict.removable)
        except (errors.NatsError, errors.StoreError, AbsentPageError, DamagedPageError, TimeoutError) as error:
            _log.debug("pages_of_key_left", extra={"bucket": self._bucket.name, "reason": str(error)})

    async def _last(self, bucket_key: str) -> _Last | None:
        """Read the last message of a key and the pages that it reaches; `None`: that cannot be told now.

        Raises:
            errors.StoreError, errors.NatsError, AbsentPageError, DamagedPageError: Likewise.
        """
        bucket, deadline = self._bucket, self._deadline()
        # The strong read proves which message is the last one. Its headers and payload are read beside it.
        entry = await bucket.read_latest(bucket_key, deadline)
        if not entry.is_checked:
            return None
        if not entry.revision:
            return _Last(None, set())
        subject = bucket.bucket_stream.subject_prefix + bucket_key
        message = await self._jetstream.last_message(bucket.stream, subject, deadline)
        if message is None or message.sequence != entry.revision:
            return None
        kind = header_value(message.header, KIND)
        if is_deletion(message.header) or kind in _SMALL_KINDS:
            return _Last(message, set())
        head = decode_head(message.payload) if kind == PAGED else None
        if head is None:
            return None  # of a later version, perhaps: its pages are not known
        if 0 < entry.end.at_ms < bucket.now_ms() - self._grace_seconds * 1000:
            return _Last(message, set(), is_expired=True)
        return _Last(message, await self._walk(bucket_key, head, deadline))

    async def _fence(self, bucket_key: str, last: _Last) -> bool:
        """Replace the last message of a key by itself; return whether it certainly was.

        Raises:
            errors.NatsError, errors.StoreError: It was not, or that is not known.
        """
        message, bucket, stream = last.message, self._bucket, self._bucket.bucket_stream
        assert message is not None, "an empty subject needs no fence"
        if last.is_expired:  # a marker in its place is a fence, too
            return await bucket.mark_expired(bucket_key, message.sequence)
        header = fence_header(message, stream.traits.lifetimes, bucket.now_ms())
        if header is None:
            return False
        revision = await self._jetstream.publish(message.subject, message.payload, header, self._deadline())
        stream.note_revision(bucket_key, revision)
        return revision > message.sequence

    async def _remove(self, pages: OpenPages, page_ids: tuple[PageId, ...]) -> None:
        """Remove pages.

        Raises:
            _StreamsChangedError: A stream is another one than at the beginning of the round. Heads that were read while a
                backup was still to be restored tell nothing.
        """
        now = await self._pages.look(self._deadline())
        if now is None or now.incarnation != pages.incarnation:
            raise _StreamsChangedError
        stream = pages.stream
        for start in range(0, len(page_ids), _REMOVALS_AT_ONCE):
            removals = [
                self._jetstream.purge(stream.name, stream.subject_prefix + page_id, self._deadline())
                for page_id in page_ids[start : start + _REMOVALS_AT_ONCE]
            ]
            self.removed += sum(await asyncio.gather(*removals))

    def _deadline(self) -> float:
        return self._loop.time() + _REQUEST_SECONDS
