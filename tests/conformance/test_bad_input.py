"""Invalid arguments: each is an error, and nothing changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.actor import Actor, fresh, packed
from tests.conformance.stored import StoredBucket

KEY = "the key of the test"
MALFORMED: list[tuple[str, Any]] = [
    ("Set", {"key": KEY, "value": "v"}),
    ("Set", {"key": KEY, "expires": 0}),
    ("Set", {"value": "v", "expires": 0}),
    ("Set", {"Key": KEY, "value": "v", "expires": 0}),
    ("Set", {"key": KEY, "val": "v", "expires": 0}),
    ("Set", {"key": KEY, "value": "v", "expiry": 0}),
    ("Set", {"key": KEY, "value": "v", "expires": -1}),
    ("Set", {"key": KEY, "value": "v", "expires": 2**32}),
    ("Set", {"key": KEY, "value": "v", "expires": 2**63}),
    ("Set", {"key": KEY, "value": "v", "expires": "0"}),
    ("Set", {"key": KEY, "value": "v", "expires": 1.5}),
    ("Set", {"key": KEY, "value": "v", "expires": None}),
    ("Set", {"key": KEY, "value": "v", "expires": True}),
    ("Set", {"key": KEY, "value": 5, "expires": 0}),
    ("Set", {"key": KEY, "value": None, "expires": 0}),
    ("Set", {"key": KEY, "value": b"v", "expires": 0}),
    ("Set", {"key": KEY, "value": ["v"], "expires": 0}),
    ("Set", {"key": 5, "value": "v", "expires": 0}),
    ("Set", {}),
    ("Set", KEY),
    ("Set", None),
    ("Increment", {"key": KEY}),
    ("Increment", {"key": KEY, "by": 1}),
    ("Increment", {"key": KEY, "value": "1"}),
    ("Increment", {"key": KEY, "value": 1.5}),
    ("Increment", {"key": KEY, "value": None}),
    ("Increment", {"key": KEY, "value": 2**31}),
    ("Increment", {"key": KEY, "value": -(2**31) - 1}),
    ("Increment", KEY),
    ("ListAdd", {"key": KEY, "value": "v"}),
    ("ListAdd", {"list_name": KEY, "value": "v"}),
    ("ListAdd", {"listName": KEY}),
    ("ListAdd", {"listName": KEY, "value": 1}),
    ("ListDel", {"key": KEY, "value": "x"}),
    ("ListDel", {"listName": KEY}),
    ("ListRange", {"listName": KEY, "start": 0}),
    ("ListRange", {"listName": KEY, "stop": 0}),
    ("ListRange", {"listName": KEY, "start": 0, "end": 1}),
    ("ListRange", {"listName": KEY, "start": 2**31, "stop": 0}),
    ("ListRange", {"key": KEY, "start": 0, "stop": 0}),
    ("ListRange", KEY),
    ("ListClear", {"listName": KEY}),
    ("SetAdd", {"key": KEY, "value": "v"}),
    ("SetAdd", {"setName": KEY}),
    ("SetAdd", {"setName": KEY, "value": None}),
    ("SetDel", {"key": KEY, "value": "x"}),
    ("SetDel", {"listName": KEY, "value": "x"}),
    ("SetClear", {"setName": KEY}),
    ("SetQuery", {"setName": KEY}),
    ("SetUnion", KEY),
    ("SetUnion", {"keys": [KEY]}),
    ("SetUnion", [KEY, 1]),
    ("SetUnion", [KEY, None]),
    ("SetUnion", None),
    ("SetIntersection", KEY),
    ("SetIntersection", [[KEY]]),
    ("Del", {"key": KEY}),
    ("Del", [KEY]),
    ("Get", {"key": KEY}),
    ("Get", None),
    ("Contains", True),
]
FILLS = ("text", "list", "set", "nothing")


async def fill(actor: Actor, kind: str, key: str) -> None:
    match kind:
        case "text":
            await actor.set(key, "1")
        case "list":
            await actor.list_add(key, "x")
        case "set":
            await actor.set_add(key, "x")


def named(argument: Any, key: str) -> Any:
    if isinstance(argument, dict):
        return {name: key if value == KEY else value for name, value in argument.items()}
    if isinstance(argument, list):
        return [key if value == KEY else value for value in argument]
    return key if argument == KEY else argument


@pytest.mark.parametrize("kind", FILLS)
async def test_a_missing_or_misnamed_field_or_a_wrong_type_is_an_error_and_changes_nothing(
    actor: Actor, stored: StoredBucket, kind: str
) -> None:
    key = fresh()
    await fill(actor, kind, key)
    before = await stored.revision(key), await actor.read_all(key)
    for operation, argument in MALFORMED:
        error = await actor.error(operation, named(argument, key))
        assert operation in error
        assert "internal error" not in error, (operation, argument, error)
        assert "outcome unknown" not in error, (operation, argument, error)
        assert (await stored.revision(key), await actor.read_all(key)) == before, (operation, argument)


async def test_an_error_names_the_field_at_fault(actor: Actor) -> None:
    assert "expires" in await actor.error("Set", {"key": "k", "value": "v"})
    assert "expires" in await actor.error("Set", {"key": "k", "value": "v", "expires": -1})
    assert "value" in await actor.error("Increment", {"key": "k", "value": 2**31})
    assert "listName" in await actor.error("ListAdd", {"key": "k", "value": "v"})
    assert "setName" in await actor.error("SetDel", {"key": "k", "value": "v"})
    assert "stop" in await actor.error("ListRange", {"listName": "k", "start": 0})


@pytest.mark.parametrize(
    "operation",
    [
        "KeyValue.Nope",
        "KeyValue.get",
        "Get",
        "",
        "KeyValue.",
        ".Get",
        "keyvalue.Get",
        "KeyValue.Get ",
        "KeyValue.Get\n",
        "X" * 5000,
    ],
    ids=lambda text: ascii(text)[:20],
)
async def test_an_unknown_operation_is_an_error_that_names_it(actor: Actor, operation: str) -> None:
    error = await actor.raw_error(operation, packed("k"))
    assert "operation" in error
    assert operation.strip()[:50] in error
    assert len(error) < 1000


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xa5ab",
        b"\x81\xa3key",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\x81" * 5000,
        b"\xa1k\xa1k",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\xc7\x04\x01abcd",
        b"\x83\xa3key\xa1k\xa3key\xa1j\xa5value",
        bytes(range(256)),
    ],
    ids=lambda payload: payload[:6].hex() or "empty",
)
async def test_a_garbage_argument_is_an_error_for_every_operation(actor: Actor, payload: bytes) -> None:
    for operation in ("Get", "Set", "Increment", "ListAdd", "ListRange", "SetAdd", "SetUnion", "Del"):
        error = await actor.raw_error(f"KeyValue.{operation}", payload)
        assert "internal error" not in error
        assert len(error) < 1000
    assert await actor.increment(fresh()) == 1
