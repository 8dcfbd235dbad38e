"""Get, Set, Del and Contains, and the texts that a value may be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.actor import Actor, fresh

ODD_TEXTS = [
    "",
    " ",
    "\n",
    "\r\n",
    "\0",
    "\x7f",
    "0",
    "-1",
    "42",
    "007",
    "1e3",
    "null",
    "true",
    "{}",
    "[]",
    '["a","b"]',
    '{"a": 1}',
    '"quoted"',
    "\\u0041",
    "é",
    "e\u0301",
    "Ключ",
    "値",
    "👩‍👩‍👧",
    "\ufeff",
    "\u2028",
    "\U0010ffff",
    "=41",
    "%20",
    "a\tb",
    "NATS/1.0\r\nStatus: 404\r\n\r\n",
]


@pytest.mark.both_families
async def test_a_missing_key_reads_as_absent(actor: Actor) -> None:
    key = fresh()
    assert await actor.get(key) is None
    assert await actor.contains(key) is False
    assert await actor.delete(key) is False


@pytest.mark.both_families
async def test_a_value_is_read_until_it_is_deleted(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "one")
    assert await actor.get(key) == "one"
    assert await actor.contains(key) is True
    await actor.set(key, "two")
    assert await actor.get(key) == "two"
    assert await actor.delete(key) is True
    assert await actor.get(key) is None
    assert await actor.contains(key) is False
    assert await actor.delete(key) is False
    await actor.set(key, "three")
    assert await actor.get(key) == "three"


@pytest.mark.both_families
async def test_an_empty_text_is_a_value(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "")
    assert await actor.get(key) == ""
    assert await actor.contains(key) is True
    assert await actor.delete(key) is True


@pytest.mark.both_families
@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
async def test_a_text_is_read_unchanged(actor: Actor, text: str) -> None:
    key = fresh()
    await actor.set(key, text)
    assert await actor.get(key) == text


@pytest.mark.both_families
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=200))
async def test_any_text_is_read_unchanged(actor: Actor, text: str) -> None:
    await actor.set("any-text", text)
    assert await actor.get("any-text") == text


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
async def test_any_text_can_be_an_element_and_a_member(actor: Actor, text: str) -> None:
    key, other = fresh("list"), fresh("set")
    assert await actor.list_add(key, text) == 1
    assert await actor.list_range(key) == [text]
    assert await actor.list_del(key, text) is True
    assert await actor.set_add(other, text) == 1
    assert await actor.set_add(other, text) == 0
    assert await actor.set_query(other) == {text}
    assert await actor.set_del(other, text) == 1


async def test_a_text_replaces_any_other_kind(actor: Actor) -> None:
    for number, make in enumerate((actor.list_add, actor.set_add)):
        key = fresh(str(number))
        await make(key, "x")
        await actor.set(key, "text now")
        assert await actor.get(key) == "text now"
    key = fresh()
    await actor.increment(key, 5)
    await actor.set(key, "five")
    assert await actor.get(key) == "five"


@pytest.mark.both_families
async def test_a_text_of_half_a_megabyte_is_read_unchanged(actor: Actor) -> None:
    key, text = fresh(), "ab12 é" * 80_000
    await actor.set(key, text)
    assert await actor.get(key) == text
