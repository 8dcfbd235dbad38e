"""The end of a message, the forms of a TTL, and the rule about the values that a server may remove."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.bucket.entries import Entry, Write, decode_entry, encode_headers, may_tell_ttl
from provider.keyvalue.bucket.scan import decode_head
from provider.keyvalue.bucket.ttl import End, Lifetimes, end_of
from provider.keyvalue.kinds import NEVER_MS, Kind, Value
from provider.nats.frames import header_block, header_value
from provider.nats.headers import ttl_seconds

NOW_MS = 1_767_355_200_000
HONORED = Lifetimes(honors_ttl=True)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (b"60", 60), (b"60s", 60), (b"1m30s", 90), (b"1.5h", 5400), (b"1500ms", 1), (b"2500000us", 2), (b".5m", 30),
        (b"1h1m1s", 3661), (b"", 0), (b"0", 0), (b"1d", 0), (b"s", 0), (b"1S", 0), (b"-5s", 0), (b"soon", 0),
        (b"1s, or so", 0), (b"9" * 400, 0), (b"+5s", 5), (b"+7", 7), (b"++7", 0), ("2000000µs".encode(), 2),
        ("2000000μs".encode(), 2),
    ],
)  # fmt: skip
def test_a_time_to_live_is_read_as_a_server_reads_it(ttl: bytes, seconds: int) -> None:
    assert ttl_seconds(ttl) == seconds


@pytest.mark.parametrize(
    ("ttl", "max_age_seconds", "honors_ttl", "own_end_after_ms", "age_end_after_ms"),
    [
        (None, 0, True, 0, 0),
        (None, 60, False, 0, 60_000),
        (b"30s", 0, True, 30_000, 0),
        (b"30s", 60, True, 30_000, 60_000),
        (b"90s", 60, True, 90_000, 60_000),
        (b"Never", 60, True, NEVER_MS, 0),
        (b"30s", 0, False, 0, 0),
        (b"never", 60, False, 0, 60_000),
        (b"soon", 60, True, 0, 60_000),
        (b"9" * 18, 0, True, 10**13 - 1 - NOW_MS, 0),
    ],
)
def test_a_value_of_another_client_ends_at_its_own_time_and_that_of_its_bucket(
    ttl: bytes | None, max_age_seconds: int, honors_ttl: bool, own_end_after_ms: int, age_end_after_ms: int
) -> None:
    header = header_block((b"Nats-TTL", ttl)) if ttl is not None else b""
    entry = decode_entry(1, header, b"v", Lifetimes(honors_ttl, max_age_seconds * 1000), NOW_MS)
    assert entry.value is not None
    assert entry.value.expires_at_ms == (NOW_MS + own_end_after_ms if own_end_after_ms > 0 else own_end_after_ms)
    assert entry.end.age_ms == (NOW_MS + age_end_after_ms if age_end_after_ms else 0)
    assert entry.end.is_servers is (own_end_after_ms > 0)
    assert not entry.end.is_safe, "what stood under the key before is not known"


def test_the_end_of_a_provider_counts_before_the_ttl_that_was_rounded_from_it() -> None:
    header = header_block((b"Expires-At", b"%d" % (NOW_MS + 1)), (b"Nats-TTL", b"1s"))
    assert end_of({b"Expires-At": b"%d" % (NOW_MS + 1), b"Nats-TTL": b"1s"}, NOW_MS, HONORED).at_ms == NOW_MS + 1
    assert decode_head("k", 1, NOW_MS, header, HONORED).end.at_ms == NOW_MS + 1


@pytest.mark.parametrize(
    "expires_at", [b"0", b"1", b"1000", b"1001", b"-1", b"soon", b"", b"9" * 13, b"9" * 14, b"9" * 5000]
)
def test_an_expiry_header_means_the_same_to_a_read_and_to_a_listing(expires_at: bytes) -> None:
    header = header_block((b"Expires-At", expires_at))
    is_live = decode_head("k", 1, 1000, header, HONORED).is_live(1000)
    assert is_live is not decode_entry(1, header, b"v").is_expired(1000)
    assert is_live is (expires_at not in (b"1", b"1000"))


@pytest.mark.parametrize("value", [None, Value(Kind.TEXT, "v"), Value(Kind.TEXT, "v", NOW_MS + 9_000)])
def test_an_end_is_told_to_the_server_where_no_message_stood_and_nowhere_else(value: Value | None) -> None:
    new = Value(Kind.TEXT, "new", NOW_MS + 9_000)
    assert may_tell_ttl(new, Entry(0, None))
    assert not may_tell_ttl(new, Entry(7, value))
    assert not may_tell_ttl(Value(Kind.TEXT, "new"), Entry(0, None)), "it has no end"
    assert not may_tell_ttl(new, Entry(7, value, end=End(NEVER_MS, is_servers=True, is_safe=True))), "it stays"


@pytest.mark.parametrize(("end_after_ms", "is_told"), [(8_999, False), (9_000, True), (60_000, True)])
def test_an_end_is_told_over_a_value_that_the_server_removes_no_later(end_after_ms: int, is_told: bool) -> None:
    write = Write("k", "k", Value(Kind.TEXT, "v", NOW_MS + 9_000), b"v", b"op", 0, tells_ttl=True)
    stood = decode_entry(7, encode_headers(write, NOW_MS), b"v", HONORED, NOW_MS)
    assert may_tell_ttl(Value(Kind.TEXT, "new", NOW_MS + end_after_ms), stood) is is_told


@dataclass
class KilledServer:
    """One key of a server that forgets, when it is killed, which messages were overwritten.

    Of every message that was ever written, the ones that a TTL has removed do not return: the server removes them again.
    """

    messages: list[tuple[Value | None, int]] = field(default_factory=list)
    """Each message with the time at which the server removes it; 0: never."""

    def last(self, now_ms: int) -> tuple[Value | None, int]:
        return next((found for found in reversed(self.messages) if not 0 < found[1] <= now_ms), (None, 0))


writes = st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 1, 3, 9, None])), max_size=12)


@given(writes, st.integers(0, 30))
def test_no_older_value_can_show_after_the_server_has_removed_a_newer_one(
    steps: list[tuple[int, int | None]], later: int
) -> None:
    server, now_ms, base, newest = KilledServer(), 0, Entry(0, None), Value(Kind.TEXT, "")
    for number, (pause, seconds) in enumerate(steps):
        now_ms += pause * 1000
        # 1. The server removes the last message at its end.
        if server.messages and 0 < server.messages[-1][1] <= now_ms:
            base = Entry(0, None)
        # 2. A provider writes a value, with or without an end, or a marker.
        end_ms = now_ms + seconds * 1000 if seconds else 0
        newest = Value(Kind.TEXT, str(number), end_ms)
        is_told = seconds is not None and may_tell_ttl(newest, base)
        server.messages.append((None if seconds is None else newest, end_ms if is_told else 0))
        base = Entry(number + 1, newest, end=End(end_ms, is_told, is_told))
    now_ms += later * 1000
    # 3. The server is killed: every message that has no end of the server's is possibly back.
    value, _ = server.last(now_ms)
    if value is not None and not value.is_expired(now_ms):
        assert value is newest


@pytest.mark.parametrize("ttl", [b"never", b"NEVER"])
def test_a_change_of_a_value_that_outlives_its_bucket_keeps_it(ttl: bytes) -> None:
    found = decode_entry(1, header_block((b"Nats-TTL", ttl)), b"7", Lifetimes(True, 60_000), NOW_MS)
    assert found.value is not None
    changed = Value(Kind.COUNTER, 8, found.value.expires_at_ms)
    write = Write("k", "k", changed, b"8", b"op", 1, tells_ttl=may_tell_ttl(changed, found))
    assert header_value(encode_headers(write, NOW_MS), b"Nats-TTL") == b"never"
