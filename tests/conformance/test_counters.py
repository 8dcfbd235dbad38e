"""Increment: of absent keys, of texts, and beyond the range of i32."""

from __future__ import annotations

import pytest

from tests.conformance.actor import Actor, fresh

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
NO_DECIMALS = [
    "",
    " ",
    "five",
    "007",
    "+5",
    "-0",
    "--1",
    "-",
    " 5",
    "5 ",
    "5\n",
    "1e3",
    "5.0",
    "0x10",
    "1_000",
    "٣",
    "५",
]


async def test_a_missing_counter_starts_at_zero(actor: Actor) -> None:
    key = fresh()
    assert await actor.increment(key, 5) == 5
    assert await actor.increment(key, -7) == -2
    assert await actor.increment(key, 0) == -2
    assert await actor.get(key) == "-2"


@pytest.mark.both_families
async def test_adding_zero_to_an_absent_key_creates_a_counter(actor: Actor) -> None:
    key = fresh()
    assert await actor.increment(key, 0) == 0
    assert await actor.contains(key) is True
    assert await actor.get(key) == "0"


@pytest.mark.parametrize("text", ["0", "-5", "41", str(I32_MAX - 1), str(I32_MIN)])
async def test_a_decimal_text_counts(actor: Actor, text: str) -> None:
    key = fresh()
    await actor.set(key, text)
    assert await actor.increment(key, 1) == int(text) + 1
    assert await actor.get(key) == str(int(text) + 1)


@pytest.mark.both_families
@pytest.mark.parametrize("text", NO_DECIMALS, ids=ascii)
async def test_a_text_that_is_not_a_decimal_is_refused_and_stays(actor: Actor, text: str) -> None:
    key = fresh()
    await actor.set(key, text)
    error = await actor.error("Increment", {"key": key, "value": 1})
    assert key in error
    assert "text" in error
    assert "counter" in error
    assert await actor.get(key) == text


@pytest.mark.parametrize(("total", "step"), [(I32_MAX, 1), (I32_MIN, -1), (1, I32_MAX), (-2, I32_MIN), (I32_MAX, 2)])
async def test_a_total_that_does_not_fit_in_32_bits_is_refused_and_nothing_changes(
    actor: Actor, total: int, step: int
) -> None:
    key = fresh()
    assert await actor.increment(key, total) == total
    error = await actor.error("Increment", {"key": key, "value": step})
    assert key in error
    assert str(total + step) in error
    assert str(I32_MIN) in error
    assert str(I32_MAX) in error
    assert await actor.get(key) == str(total)
    assert await actor.increment(key, -1 if step > 0 else 1) == total + (-1 if step > 0 else 1)


@pytest.mark.parametrize("text", [str(I32_MAX), "2147483648", "9" * 25, "9" * 400], ids=len)
async def test_a_text_beyond_32_bits_is_refused_and_stays(actor: Actor, text: str) -> None:
    key = fresh()
    await actor.set(key, text)
    error = await actor.error("Increment", {"key": key, "value": 1})
    assert key in error
    assert await actor.get(key) == text


async def test_both_ends_of_the_range_are_reached(actor: Actor) -> None:
    key = fresh()
    assert await actor.increment(key, I32_MAX) == I32_MAX
    assert await actor.increment(key, I32_MIN) == -1
    assert await actor.increment(key, I32_MIN + 1) == I32_MIN


@pytest.mark.both_families
async def test_a_deleted_counter_starts_again(actor: Actor) -> None:
    key = fresh()
    await actor.increment(key, 9)
    assert await actor.delete(key) is True
    assert await actor.increment(key) == 1


@pytest.mark.both_families
async def test_a_counter_that_was_set_continues_from_that_value(actor: Actor) -> None:
    key = fresh()
    await actor.increment(key, 9)
    await actor.set(key, "100")
    assert await actor.increment(key) == 101
