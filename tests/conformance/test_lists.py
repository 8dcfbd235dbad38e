"""Lists: order, ranges, deleting."""

from __future__ import annotations

import pytest

from tests.conformance.actor import Actor, fresh

ABCDE = list("abcde")
I32_MIN, I32_MAX = -(2**31), 2**31 - 1


async def filled(actor: Actor, elements: list[str]) -> str:
    key = fresh("list")
    for length, element in enumerate(elements, 1):
        assert await actor.list_add(key, element) == length
    return key


async def test_elements_keep_the_order_in_which_they_were_added(actor: Actor) -> None:
    elements = [str(number * 7 % 50) for number in range(50)]
    assert await actor.list_range(await filled(actor, elements)) == elements


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, -1, "abcde"),
        (0, 0, "a"),
        (1, 3, "bcd"),
        (-2, -1, "de"),
        (-3, 3, "cd"),
        (1, -2, "bcd"),
        (-5, -5, "a"),
        (-100, 100, "abcde"),
        (-100, -5, "a"),
        (I32_MIN, I32_MAX, "abcde"),
        (4, 100, "e"),
        (5, 9, ""),
        (100, 200, ""),
        (3, 1, ""),
        (-1, -2, ""),
        (-100, -6, ""),
        (I32_MAX, I32_MIN, ""),
        (0, -6, ""),
    ],
)
async def test_ranges_are_inclusive_and_clipped(actor: Actor, start: int, stop: int, expected: str) -> None:
    assert await actor.list_range(await filled(actor, ABCDE), start, stop) == list(expected)


async def test_a_missing_list_is_empty(actor: Actor) -> None:
    key = fresh()
    assert await actor.list_range(key) == []
    assert await actor.list_del(key, "a") is False
    assert await actor.list_clear(key) is False
    assert await actor.contains(key) is False


async def test_only_the_first_match_is_deleted(actor: Actor) -> None:
    key = await filled(actor, list("abab"))
    assert await actor.list_del(key, "b") is True
    assert await actor.list_range(key) == list("aab")
    assert await actor.list_del(key, "x") is False
    assert await actor.list_del(key, "a") is True
    assert await actor.list_range(key) == list("ab")


async def test_an_emptied_list_is_absent_and_its_key_may_have_any_kind(actor: Actor) -> None:
    key = await filled(actor, ["only"])
    assert await actor.list_del(key, "only") is True
    assert await actor.contains(key) is False
    assert await actor.delete(key) is False
    assert await actor.set_add(key, "member") == 1


async def test_a_cleared_list_is_absent_and_starts_again(actor: Actor) -> None:
    key = await filled(actor, ABCDE)
    assert await actor.list_clear(key) is True
    assert await actor.list_range(key) == []
    assert await actor.contains(key) is False
    assert await actor.list_clear(key) is False
    assert await actor.list_add(key, "z") == 1


async def test_a_list_is_deleted_whole(actor: Actor) -> None:
    key = await filled(actor, ABCDE)
    assert await actor.contains(key) is True
    assert await actor.delete(key) is True
    assert await actor.list_range(key) == []
