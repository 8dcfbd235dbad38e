"""Keys: any text except the empty one, and different texts are different keys."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.actor import Actor, fresh, packed
from tests.conformance.conftest import MakeActor
from tests.conformance.stored import StoredBucket, listed

ODD_KEYS = [
    *(".", "..", "...", ".a", "a.", "a..b", "a.b", "a", "A", "a.b.c", "*", ">", "a.*", "a.>", "*.*", "a.>.b"),
    *("=", "==", "=4", "=41", "=3D41", "=3D", "=3d", "a=b", "a=20b", "a b", "=2A", "a=", "=2E", "=2Ea"),
    *("=_", "=_.", ".=_", "=_=_", "=_a", "=_a b", "=_a=20b", "=_=3D_", "=_=2A", "=_lease", "=_lease.a", "a.=_lease"),
    *(" ", "  ", " a", "a ", "\t", "\n", "\r", "\r\n", "\0", "\x00a", "\x7f", "\x1b[0m", "a\nb"),
    *(
        "é",
        "e\u0301",
        "É",
        "ключ",
        "鍵",
        "🔑",
        "👩‍👩‍👧",
        "\ufeff",
        "\ufeffa",
        "\u200b",
        "\u2028",
        "\U0010ffff",
        "ﬁ",
        "fi",
    ),
    *("/", "//", "\\", "%", "%20", "a%20b", "$KV.x", "$JS.API.>", "_INBOX.x", "_", "__", "=5Flease", "_lease", "lease"),
    *("-", "--", "user:1", "user.1", "user/1", "user_1", "user-1", '"', "'", "{}", "[]", "null", "0", "00", "ß", "ẞ"),
    *("\u202eabc", "K", "\u212a", "a" * 200, "." * 200, "é" * 200),
]
LEGAL = re.compile(r"[-/_=.a-zA-Z0-9]+")
MAX_STORED_BYTES = 3500


async def test_unusual_keys_are_distinguished(make_actor: MakeActor, backend: str) -> None:
    actor = await make_actor(BACKEND=backend)
    assert len(set(ODD_KEYS)) == len(ODD_KEYS)
    for number, key in enumerate(ODD_KEYS):
        await actor.set(key, str(number))
    assert [await actor.get(key) for key in ODD_KEYS] == [str(number) for number in range(len(ODD_KEYS))]
    for number, key in enumerate(ODD_KEYS):
        assert await actor.increment(key) == number + 1
    for number, key in enumerate(ODD_KEYS):
        assert await actor.delete(key) is True, ascii(key)
        assert await actor.get(key) is None
        later = ODD_KEYS[number + 1 :][:3]
        assert await asyncio.gather(*map(actor.contains, later)) == [True] * len(later)


async def test_unusual_keys_hold_lists_and_sets(make_actor: MakeActor, backend: str) -> None:
    actor = await make_actor(BACKEND=backend)
    for number, key in enumerate(ODD_KEYS):
        if number % 2:
            assert await actor.list_add(key, key) == 1
        else:
            assert await actor.set_add(key, key) == 1
    for number, key in enumerate(ODD_KEYS):
        if number % 2:
            assert await actor.list_range(key) == [key]
        else:
            assert await actor.set_query(key) == {key}
    assert await actor.set_union(*ODD_KEYS[::2]) == set(ODD_KEYS[::2])
    assert await actor.set_intersection(*ODD_KEYS[::2]) == set()


@pytest.mark.both_families
@settings(max_examples=30, deadline=None)
@given(keys=st.sets(st.text(min_size=1, max_size=30), min_size=2, max_size=5))
async def test_any_two_keys_are_distinguished(actor: Actor, keys: set[str]) -> None:
    for number, key in enumerate(sorted(keys)):
        await actor.set(key, str(number))
    for number, key in enumerate(sorted(keys)):
        assert await actor.get(key) == str(number)
    for key in keys:
        assert await actor.delete(key) is True


async def test_keys_of_the_bucket_are_legal_for_every_client(make_actor: MakeActor) -> None:
    actor = await make_actor(BACKEND="bucket")
    for key in ODD_KEYS:
        await actor.set(key, "x")
    bucket = await actor.host.client.jetstream().key_value(actor.bucket)
    keys = await listed(bucket)
    assert len(keys) == len(ODD_KEYS)
    for key in keys:
        assert LEGAL.fullmatch(key), key
        assert not key.startswith(".")
        assert not key.endswith(".")
        assert ".." not in key


@pytest.mark.both_families
@pytest.mark.parametrize("backend", ["bucket"], indirect=True)
@pytest.mark.parametrize("key", ["a b", "é", "*", "=_=41"], ids=ascii)
async def test_the_longest_key_as_stored_works_and_a_longer_one_is_refused(actor: Actor, key: str) -> None:
    unit = {"a b": 5, "é": 6, "*": 3, "=_=41": 9}[key]
    stem = fresh() + "."
    longest = stem + key + "a" * (MAX_STORED_BYTES - len("=_") - unit - len(stem))
    await actor.set(longest, "x")
    assert await actor.get(longest) == "x"
    assert await actor.delete(longest) is True
    assert await actor.increment(longest, 0) == 0
    error = await actor.error("Set", {"key": longest + "a", "value": "x", "expires": 0})
    assert str(MAX_STORED_BYTES + 1) in error
    assert str(MAX_STORED_BYTES) in error
    assert "key" in error
    assert await actor.get(longest) == "0"


@pytest.mark.parametrize("length", [3501, 4000, 4096, 5000, 100_000])
async def test_a_key_that_is_too_long_is_refused_by_every_operation_and_the_link_stays_usable(
    actor: Actor, length: int
) -> None:
    key = "k" * length
    for operation, argument in every_operation(key):
        error = await actor.error(operation, argument)
        assert str(length) in error
        assert str(MAX_STORED_BYTES) in error
        assert len(error) < 1000
    other = fresh()
    assert await actor.increment(other) == 1


async def test_an_empty_key_is_refused_by_every_operation(actor: Actor) -> None:
    for operation, argument in every_operation(""):
        error = await actor.error(operation, argument)
        assert "key" in error
        assert "empty" in error
    assert "empty" in await actor.error("SetUnion", [fresh(), ""])


async def test_a_key_that_is_not_a_text_is_refused(actor: Actor) -> None:
    for payload in (packed(5), packed(None), packed(b"bytes"), packed(["a"]), packed({"key": "a"}), b"\xa1\xff", b""):
        for operation in ("Get", "Del", "Contains", "ListClear", "SetClear", "SetQuery"):
            await actor.raw_error(f"KeyValue.{operation}", payload)


@pytest.mark.parametrize("backend", ["bucket"], indirect=True)
async def test_the_reserved_key_of_the_bucket_cannot_be_used(actor: Actor, stored: StoredBucket) -> None:
    for key in ("=_lease", "lease"):
        await actor.set(key, "mine")
    assert await stored.payload("lease") == b"mine"
    assert await stored.payload("=_=3D_lease") == b"mine"
    assert await stored.payload("=_lease") is None
    for key in ("=_lease", "lease"):
        assert await actor.delete(key) is True


def every_operation(key: str) -> list[tuple[str, object]]:
    return [
        *((operation, key) for operation in ("Get", "Contains", "Del", "ListClear", "SetClear", "SetQuery")),
        ("Set", {"key": key, "value": "x", "expires": 0}),
        ("Increment", {"key": key, "value": 1}),
        *((operation, {"listName": key, "value": "x"}) for operation in ("ListAdd", "ListDel")),
        ("ListRange", {"listName": key, "start": 0, "stop": -1}),
        *((operation, {"setName": key, "value": "x"}) for operation in ("SetAdd", "SetDel")),
        *((operation, [key]) for operation in ("SetUnion", "SetIntersection")),
    ]
