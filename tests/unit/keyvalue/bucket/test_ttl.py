"""The time at which a server removes a message, and the forms of a TTL that it reads."""

from __future__ import annotations

import pytest

from provider.keyvalue.bucket.ttl import end_ms
from provider.nats.frames import header_block
from provider.nats.headers import ttl_seconds
from provider.nats.jetstream import StreamConfig

NOW_MS = 1_767_355_200_000
SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (b"60", 60), (b"60s", 60), (b"1m30s", 90), (b"1.5h", 5400), (b"1500ms", 1), (b"2500000us", 2), (b".5m", 30),
        (b"1h1m1s", 3661), (b"", 0), (b"0", 0), (b"1d", 0), (b"s", 0), (b"1S", 0), (b"-5s", 0), (b"soon", 0),
        (b"1s, or so", 0), (b"9" * 400, 0),
    ],
)  # fmt: skip
def test_a_time_to_live_is_read_as_a_server_reads_it(ttl: bytes, seconds: int) -> None:
    assert ttl_seconds(ttl) == seconds


@pytest.mark.parametrize(
    ("ttl", "max_age_seconds", "takes_ttl", "ends_after_ms"),
    [
        (None, 0, True, None),
        (None, 60, False, 60_000),
        (b"30s", 0, True, 30_000),
        (b"30s", 60, True, 30_000),
        (b"90s", 60, True, 60_000),
        (b"never", 60, True, None),
        (b"Never", 60, True, None),
        (b"30s", 0, False, None),
        (b"never", 60, False, 60_000),
        (b"soon", 60, True, 60_000),
    ],
)
def test_a_message_ends_at_its_own_time_or_that_of_its_stream(
    ttl: bytes | None, max_age_seconds: int, takes_ttl: bool, ends_after_ms: int | None
) -> None:
    header = header_block((b"Nats-TTL", ttl)) if ttl is not None else b""
    config = StreamConfig("KV_a", max_age=max_age_seconds * SECOND_NS, allow_msg_ttl=takes_ttl)
    assert end_ms(header, NOW_MS, config) == (NOW_MS + ends_after_ms if ends_after_ms else 0)
