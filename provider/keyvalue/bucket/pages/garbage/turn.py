"""The election of the process that collects a bucket's garbage: a key with an end in the stream of the pages.

Two collectors at once would do no harm, but the work twice.
"""

from __future__ import annotations

import math
import secrets

from provider import errors
from provider.keyvalue.bucket.entries import EXPECTED_REVISION
from provider.keyvalue.bucket.pages.pages_stream import OpenPages
from provider.keyvalue.bucket.ttl import EXPIRES_AT, time_of
from provider.nats.buckets import NO_SPACE, WRONG_LAST_SEQUENCE
from provider.nats.frames import header_block, header_value
from provider.nats.headers import TTL

TURN_KEY = "=_collector"
"""Key of the turn. A page's name has three tokens, so no listing of pages has it."""

_MOST_TURNS = 2
"""Turns that another process's end may be away: one, and as much again for two clocks that differ."""


class Turn:
    """The turn of one process. It ends by itself unless it is taken again.

    Args:
        seconds: Time for which the turn is this process's.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._own = secrets.token_hex(8).encode()

    async def take(self, pages: OpenPages, now_ms: int, deadline: float, *, is_urgent: bool = False) -> bool:
        """Take the turn, or keep it; return false while it is another process's.

        Args:
            pages: The stream of the pages.
            now_ms: The time by the server's clock: the end counts by it where the server ends nothing.
            deadline: On the event loop's clock.
            is_urgent: Whether another process's turn does not count.

        Raises:
            errors.NatsError: The server could not be asked, or refused.
        """
        stream = pages.stream
        subject = stream.subject_prefix + TURN_KEY
        found = await stream.jetstream.last_message(stream.name, subject, deadline)
        turn_ms = int(self._seconds * 1000)
        if found is not None and found.payload != self._own and not is_urgent:
            ends_at_ms = time_of(header_value(found.header, EXPIRES_AT) or b"") or 0
            # An end that is further away is of a clock that was put back, or of another client.
            if now_ms < ends_at_ms <= now_ms + _MOST_TURNS * turn_ms:
                return False
        header = [
            (EXPECTED_REVISION, b"%d" % (found.sequence if found is not None else 0)),
            (EXPIRES_AT, b"%d" % (now_ms + turn_ms)),
        ]
        if stream.traits.expires_by_itself:
            header.append((TTL, b"%ds" % max(1, math.ceil(self._seconds))))
        try:
            await stream.jetstream.publish(subject, self._own, header_block(*header), deadline)
        except errors.ApiError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                return False
            # In a full stream nothing is more urgent than the garbage.
            if error.err_code not in NO_SPACE:
                raise
        return True
