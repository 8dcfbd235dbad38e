"""The replacement of expired values by markers, where the server may not remove them by itself; see `ttl`.

Reads never show an expired value. The marker shows its end to other clients, tells watchers, and frees the room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.keyvalue.bucket.ttl import SERVER_GRACE_MS, Due
from provider.nats.jetstream import JetStream

_log = logging.getLogger(__name__)

_SCAN_SECONDS = 55.0
"""Time between two scans for values that other processes have written: less than `SERVER_GRACE_MS`, by which such a value is
removed if the process that has written it is gone."""

_FIRST_SCAN_SECONDS = 5.0
"""Time until the first scan at most, which reads the headers of all keys. Instances that start together take turns."""

_TICK_SECONDS = 1.0
"""Time between two looks for values that are due: the unit in which the server ends them too."""

_HEADERS_PER_PAUSE, _PAUSE_SECONDS = 256, 0.02
"""Headers between two pauses of a scan, which take this process about a fifth as long as the pause."""

_MARKERS_AT_ONCE = 64
"""Markers that are under way together. With a pause after each group there are at most 3,000 a second."""

_MARKERS_PER_TICK = 1024
"""Most markers of one look. The rest follows in the next one."""


class Sweeper:
    """The sweeper of one open bucket. Several providers may sweep at once: a marker replaces one revision only.

    Args:
        jetstream: The JetStream that has the bucket.
        bucket: The bucket.
        under: Beginning of the keys to look after, as stored: whole tokens, each with its dot. "": all keys.
    """

    def __init__(self, jetstream: JetStream, bucket: Bucket, under: str = "") -> None:
        self._jetstream = jetstream
        self._bucket = bucket
        self._under = under
        self._loop = asyncio.get_running_loop()
        self._honors_ttl = bucket.traits.lifetimes.honors_ttl
        self._reason = ""
        self._has_warned = False

    async def run(self) -> None:
        """Look after the bucket for ever. A failure only delays the markers: expired values are never read."""
        scan_at = self._loop.time() + random.random() * _FIRST_SCAN_SECONDS
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                if self._loop.time() >= scan_at:
                    scan_at = self._loop.time() + _SCAN_SECONDS
                    await self.scan()
                    self._reason = ""
                await self._bucket.place_owed_markers()
                await self.mark_due()
            except (errors.NatsError, errors.StoreError, TimeoutError) as error:
                self._log_once(str(error) or "no answer in time")
            except Exception:  # noqa: BLE001  (a defect must not leave the expired values of a bucket for good)
                _log.exception("bucket_sweep_failed", extra={"bucket": self._bucket.name})
                await asyncio.sleep(_SCAN_SECONDS)

    async def scan(self) -> None:
        """Find the values that a provider has to remove, among those written since the last scan."""
        expirations, traits = self._bucket.expirations, self._bucket.traits
        if traits.lifetimes.honors_ttl != self._honors_ttl:
            # The end of earlier messages means something else now.
            self._honors_ttl = traits.lifetimes.honors_ttl
            expirations.start_over()
        after = expirations.begin_scan(self._bucket.now_ms())
        deadline = self._loop.time() + _SCAN_SECONDS
        if (await self._jetstream.stream_info(self._bucket.stream, deadline)).state.last_seq <= after:
            return
        found = scan(self._jetstream, self._bucket, after, self._under, has_earlier=after > 0)
        count = 0
        async with contextlib.aclosing(found):
            async for head in found:
                self._note(head)
                expirations.scanned = head.revision
                count += 1
                if not count % _HEADERS_PER_PAUSE:
                    await asyncio.sleep(_PAUSE_SECONDS)

    def _note(self, head: KeyHeader) -> None:
        expirations, end = self._bucket.expirations, head.end
        if end.is_servers and not end.is_safe and not self._has_warned:
            # Another client's, or one that an earlier version has written.
            self._has_warned = True
            _log.warning("bucket_values_may_return", extra={"bucket": self._bucket.name})
        due_ms = end.at_ms + SERVER_GRACE_MS
        is_left = end.at_ms <= 0 or head.is_marker or (end.is_servers and self._bucket.now_ms() < due_ms)
        if is_left:
            expirations.drop(head.bucket_key, head.revision)
        else:
            expirations.note(head.bucket_key, head.revision, due_ms)

    async def mark_due(self) -> int:
        """Replace the values that are due by markers; return the number of the markers."""
        due = self._bucket.expirations.take_due(self._bucket.now_ms(), _MARKERS_PER_TICK)
        marked = 0
        for start in range(0, len(due), _MARKERS_AT_ONCE):
            marked += sum(await asyncio.gather(*map(self._mark, due[start : start + _MARKERS_AT_ONCE])))
            await asyncio.sleep(_PAUSE_SECONDS)
        self._bucket.expirations.marked += marked
        if marked:
            _log.debug("bucket_swept", extra={"bucket": self._bucket.name, "marked": marked})
        return marked

    async def _mark(self, due: Due) -> bool:
        try:
            return await self._bucket.mark_expired(due.bucket_key, due.revision)
        except errors.StoreRefusedError as error:  # no permission, as for the keys of others: not ours to remove
            self._log_once(str(error))
        except (errors.NatsError, errors.StoreError, TimeoutError) as error:
            self._log_once(str(error) or "no answer in time")
            self._bucket.expirations.note(due.bucket_key, due.revision, self._bucket.now_ms() + SERVER_GRACE_MS)
        return False

    def _log_once(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            _log.warning("bucket_not_swept", extra={"bucket": self._bucket.name, "reason": reason})
