"""A list of the pages in a stream, by the keys that they name, through a short-lived consumer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from provider import errors
from provider.keyvalue.bucket.pages.garbage.suspects import PageSeen
from provider.keyvalue.bucket.pages.page_reader import PAGE_OF
from provider.keyvalue.bucket.pages.paged_value import PageId, key_hash
from provider.keyvalue.bucket.pages.pages_stream import OpenPages
from provider.nats.buckets import CONSUMER_NOT_FOUND, NANOSECONDS
from provider.nats.consumer import Delivery, PullConsumer, PullOptions, Status
from provider.nats.frames import header_value

_REQUEST_SECONDS = 5.0
"""Time for each step of the server. No caller waits for a list."""

_SILENCE_SECONDS = 1.0
"""Time without an answer after which a list begins anew: nats-server 2.9 sometimes gives none when pages are removed meanwhile."""

_LISTS = 5
"""Lists that are begun before a server counts as silent."""

_PULL = PullOptions(batch=256, silence_seconds=_SILENCE_SECONDS)
"""Requests that do not wait: the end of one shows that there are no more pages. 256 headers cost little beside the request."""

_INACTIVE_SECONDS = 30
"""When the server deletes the consumer by itself. No batch takes that long."""

_PER_PAUSE, _PAUSE_SECONDS = 256, 0.01
"""Headers between two pauses of a list, which take this process about half as long as the pause."""


class Part(NamedTuple):
    """A part of the keys: those whose hash leaves `number` when divided by `of`. So the memory of a list is bounded."""

    number: int
    of: int

    def has(self, page_hash: str) -> bool:
        return int(page_hash[:8], 16) % self.of == self.number


async def pages_by_key(pages: OpenPages, part: Part) -> dict[str, list[PageSeen]]:
    """Return the pages of a part of the keys, by key. A replica that lags behind may lack the newest.

    Raises:
        errors.NatsError, TimeoutError: The stream cannot be read to its end.
    """
    for _ in range(_LISTS - 1):
        with contextlib.suppress(TimeoutError):
            return await _listed(pages, part)
    return await _listed(pages, part)


async def _listed(pages: OpenPages, part: Part) -> dict[str, list[PageSeen]]:
    found: dict[str, list[PageSeen]] = {}
    count = 0
    loop = asyncio.get_running_loop()
    async with PullConsumer(pages.stream.jetstream, pages.stream.name, _PULL, _REQUEST_SECONDS) as consumer:
        config = {
            "deliver_policy": "all",
            "filter_subject": f"{pages.stream.subject_prefix}*.*.*",
            "ack_policy": "none",
            "headers_only": True,
            "inactive_threshold": _INACTIVE_SECONDS * NANOSECONDS,
        }
        await consumer.create(config, loop.time() + _REQUEST_SECONDS)
        give_up_at = loop.time() + _REQUEST_SECONDS
        while True:
            message = await consumer.next()
            if isinstance(message, Status):
                # In a cluster, a request may be faster than the news of the consumer that was just created.
                if message is Status.UNSERVED and not count and loop.time() < give_up_at:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if message is not Status.EXPIRED:
                    raise errors.ApiError(503, CONSUMER_NOT_FOUND, "consumer lost while the pages were listed")
                return found
            _note(found, message, pages.stream.subject_prefix, part)
            count += 1
            if not count % _PER_PAUSE:
                await asyncio.sleep(_PAUSE_SECONDS)


def _note(found: dict[str, list[PageSeen]], message: Delivery, prefix: str, part: Part) -> None:
    """Add a message to a list, if it is a page of the part: others may have put anything into the stream."""
    try:
        page_id = PageId(message.subject.decode().removeprefix(prefix))
        bucket_key = (header_value(message.header, PAGE_OF) or b"").decode()
    except UnicodeDecodeError:
        return
    page_hash = page_id.partition(".")[0]
    if page_hash == key_hash(bucket_key) and part.has(page_hash):
        found.setdefault(bucket_key, []).append(PageSeen(page_id, message.time_ms))
