"""Durations and sizes as a person types and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.units import format_bytes, format_seconds, parse_seconds, parse_size, parse_whole_seconds

LIMIT = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1H30M", 5400),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        (" 7d ", 604_800),
        ("2w", 1_209_600),
    ],
)
def test_a_duration_is_seconds_or_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "-5s", "1x", "1h 30m", "1e3", "1,5h", "\u0661s", "999y", "h1"])
def test_another_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_seconds(text)


def test_servers_count_whole_seconds() -> None:
    assert parse_whole_seconds("1.5m") == 90
    with pytest.raises(ValueError, match="whole seconds"):
        parse_whole_seconds("1500ms")


def test_a_duration_or_a_size_beyond_its_limit_is_refused_with_the_limit() -> None:
    assert parse_whole_seconds("1m", 60, 60) == 60
    with pytest.raises(ValueError, match="at least 1m"):
        parse_whole_seconds("59s", 60)
    with pytest.raises(ValueError, match="at most 3600 seconds, which is 1h"):
        parse_whole_seconds("1h1s", 0, 3600)
    with pytest.raises(ValueError, match="at most 1024 bytes"):
        parse_size("1025", 1024)


@given(st.integers(0, 10**11))
def test_a_duration_as_shown_reads_back_to_the_millisecond(milliseconds: int) -> None:
    assert round(parse_seconds(format_seconds(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", -1),
        ("-1", -1),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("1kib", 1024),
        ("1.5MB", 1_572_864),
        ("64MiB", 2**26),
        ("9007199254740993", 2**53 + 1),
        ("2g", 2**31),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit_of_1024(text: str, size: int) -> None:
    assert parse_size(text, LIMIT) == size


@pytest.mark.parametrize("text", ["", "K", "-2", "1X", "1KK", "1 2", "0x10"])
def test_another_text_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text, LIMIT)


@given(st.integers(1, 2**50))
def test_a_size_as_shown_is_right_to_five_percent(size: int) -> None:
    assert parse_size(format_bytes(size), LIMIT) == pytest.approx(size, rel=0.05)


def test_sizes_are_short() -> None:
    assert [format_bytes(size) for size in (0, 1023, 1024, 1536, 10 * 2**20, 2**50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "10 MiB",
        "1024 TiB",
    ]
