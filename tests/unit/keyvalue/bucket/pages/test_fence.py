"""The fence repeats a message: nothing that readers, writers or watches go by may change."""

from __future__ import annotations

import pytest

from provider.keyvalue.bucket.entries import decode_entry
from provider.keyvalue.bucket.pages.garbage.fence import fence_header
from provider.keyvalue.bucket.ttl import Lifetimes
from provider.nats.frames import header_block, header_value
from provider.nats.jetstream import StoredMessage

NOW_MS = 1_000_000_000_000
ENDS, ENDS_BY_AGE, KEEPS_ALL = Lifetimes(True, 0), Lifetimes(True, 60_000), Lifetimes(False, 0)
PAIRS = ((b"Op-Id", b"op.7"), (b"Kv-Kind", b"paged"), (b"Expires-At", b"1000000009500"))


def message(*pairs: tuple[bytes, bytes], age_ms: int = 10_000) -> StoredMessage:
    return StoredMessage("$KV.b.k", 42, NOW_MS - age_ms, header_block(*pairs) if pairs else b"", b"payload")


def test_headers_are_kept_but_for_conditions_and_the_message_id() -> None:
    original = message(*PAIRS, (b"Nats-Msg-Id", b"m"), (b"Nats-Expected-Last-Subject-Sequence", b"41"))
    fence = fence_header(original, KEEPS_ALL, NOW_MS)
    assert fence == header_block(*PAIRS, (b"Nats-Expected-Last-Subject-Sequence", b"42"), (b"Kv-Fence", b"42"))
    before, after = decode_entry(42, original.header, b"payload"), decode_entry(43, fence or b"", b"payload")
    assert (after.value, after.operation_id) == (before.value, before.operation_id)


def test_a_fence_of_a_fence_names_the_first_message() -> None:
    fence = fence_header(message((b"Kv-Fence", b"7")), KEEPS_ALL, NOW_MS) or b""
    assert header_value(fence, b"Kv-Fence") == b"7"
    assert fence.count(b"Kv-Fence") == 1


@pytest.mark.parametrize(
    ("pairs", "lifetimes", "ttl"),
    [
        ((), ENDS, None),
        (((b"Nats-TTL", b"30s"),), ENDS, b"20s"),
        (((b"Nats-TTL", b"1m0.5s"),), ENDS, b"50s"),
        (((b"Nats-TTL", b"never"),), ENDS_BY_AGE, b"never"),
        ((), ENDS_BY_AGE, b"50s"),
        (((b"Nats-TTL", b"1h"),), ENDS_BY_AGE, b"50s"),
        (((b"Nats-TTL", b"30s"),), KEEPS_ALL, b"30s"),  # it has no meaning there, and keeps it for a later server
    ],
)
def test_the_end_stays_the_same(
    pairs: tuple[tuple[bytes, bytes], ...], lifetimes: Lifetimes, ttl: bytes | None
) -> None:
    fence = fence_header(message(*pairs), lifetimes, NOW_MS)
    assert fence is not None
    assert header_value(fence, b"Nats-TTL") == ttl


@pytest.mark.parametrize(
    ("pairs", "lifetimes"),
    [(((b"Nats-TTL", b"10s"),), ENDS), ((), Lifetimes(True, 5000)), ((), Lifetimes(False, 60_000))],
    ids=["at its end", "at the greatest age", "with an age that would begin anew"],
)
def test_a_message_whose_end_a_fence_would_change_is_left_to_it(
    pairs: tuple[tuple[bytes, bytes], ...], lifetimes: Lifetimes
) -> None:
    assert fence_header(message(*pairs), lifetimes, NOW_MS) is None
