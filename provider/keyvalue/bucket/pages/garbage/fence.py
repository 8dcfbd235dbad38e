"""The fence: the last message of a key once more, under a new revision.

A writer that was paused between its pages and its head expects the revision before. Once that is gone the writer cannot commit,
and its pages may be removed. Nothing else may change: readers see the same value with the same end, a writer that looks for its
operation id finds it, and watches take no notice.
"""

from __future__ import annotations

from provider.keyvalue.bucket.entries import EXPECTED_REVISION, FENCE, MESSAGE_ID
from provider.keyvalue.bucket.ttl import NEVER, Lifetimes
from provider.nats.frames import CRLF, header_block, header_value
from provider.nats.headers import TTL, ttl_seconds
from provider.nats.jetstream import StoredMessage

_EXPECTED = b"Nats-Expected-"
"""Beginning of the headers that were conditions of the original."""


def fence_header(message: StoredMessage, lifetimes: Lifetimes, now_ms: int) -> bytes | None:
    """Return the headers of the fence for a message, whose payload it repeats.

    Args:
        message: The last message of the key.
        lifetimes: The ends that the bucket gives its messages.
        now_ms: The time by the server's clock.

    Returns:
        The header block, or `None` if the fence could not keep the end of the message. That message goes by itself, and then
        no fence is needed.
    """
    original = header_value(message.header, FENCE) or b"%d" % message.sequence
    pairs = [pair for pair in _pairs(message.header) if _is_kept(pair[0])]
    pairs += [(EXPECTED_REVISION, b"%d" % message.sequence), (FENCE, original)]
    ttl = header_value(message.header, TTL)
    if ttl is not None and ttl.lower() == NEVER:
        return header_block(*pairs, (TTL, NEVER))
    if not lifetimes.honors_ttl:
        # The age of the bucket is the only end that this server keeps, and it would begin anew.
        return None if lifetimes.max_age_ms else header_block(*pairs, *([(TTL, ttl)] if ttl else []))
    ends = [message.time_ms + ttl_seconds(ttl) * 1000] if ttl else []
    if lifetimes.max_age_ms:
        ends.append(message.time_ms + lifetimes.max_age_ms)
    if not ends:
        return header_block(*pairs)
    left_ms = min(ends) - now_ms
    if left_ms <= 0:
        return None
    # Rounded up, as every end is: the value's own end, in a header of its own, is the one that readers go by.
    return header_block(*pairs, (TTL, b"%ds" % -(-left_ms // 1000)))


def _pairs(header: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of a block, in order."""
    lines = header.split(CRLF)[1:]
    return [(name, value.strip()) for name, colon, value in (line.partition(b":") for line in lines) if colon]


def _is_kept(name: bytes) -> bool:
    """Tell whether a header of the original belongs to the fence.

    With the message id of the original, the stream would take the fence for a duplicate, and nothing would be fenced.
    """
    return name not in (MESSAGE_ID, TTL, FENCE) and not name.startswith(_EXPECTED)
