"""The nine functions that components call, on both backends, and the values that components and actors share."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import NO_SUCH_STORE, ComponentError
from tests.conformance.actor import fresh
from tests.conformance.component import Component
from tests.conformance.conftest import MakeActor, MakeComponent
from tests.conformance.stored import StoredBucket

U64_MAX = 2**64 - 1
BINARY = bytes(range(256))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def component(make_component: MakeComponent, backend: str) -> Component:
    return await make_component(BACKEND=backend, BUCKET=f"components-{backend}")


@pytest.mark.parametrize("value", [b"", b"text", b"\xff", b"\0", BINARY, "é".encode()[:1]], ids=repr)
async def test_bytes_are_read_as_they_were_set(component: Component, value: bytes) -> None:
    key = fresh()
    assert await component.function("get", key) is None
    assert await component.function("exists", key) is False
    assert await component.function("set", key, value) is None
    assert await component.function("get", key) == value
    assert await component.function("exists", key) is True
    assert await component.function("delete", key) is None
    assert await component.function("delete", key) is None
    assert await component.function("get", key) is None


async def test_a_binary_value_is_replaced_and_counted_like_any_other(component: Component) -> None:
    key = fresh()
    await component.function("set", key, b"\xff")
    with pytest.raises(ComponentError, match="binary value"):
        await component.function("increment", key, 1)
    await component.function("set", key, b"41")
    assert await component.function("increment", key, 1) == 42
    await component.function("set", key, b"\xfe")
    assert await component.function("get", key) == b"\xfe"


async def test_an_answer_larger_than_a_message_is_sent_in_pieces(component: Component) -> None:
    keys = [fresh() for _ in range(3)]
    half = BINARY * 2000
    for key in keys:
        await component.function("set", key, half)
    assert await component.function("get-many", keys) == [(key, half) for key in keys]
    await component.function("delete-many", keys)
    assert await component.function("get-many", keys) == [None, None, None]


@pytest.mark.parametrize("large", [BINARY * 6000, "é".encode() * 800_000], ids=["binary", "text"])
async def test_a_value_larger_than_a_message_is_kept_like_any_other(component: Component, large: bytes) -> None:
    key = fresh()
    await component.function("set", key, b"small")
    await component.function("set", key, large)
    assert await component.function("get", key) == large
    assert await component.function("get-many", [key, "absent"]) == [(key, large), None]
    assert await component.function("exists", key) is True
    with pytest.raises(ComponentError, match="the operation is for a counter"):
        await component.function("increment", key, 1)
    await component.function("set", key, b"41")
    assert await component.function("increment", key, 1) == 42
    await component.function("set", key, large)
    await component.function("delete", key)
    assert await component.function("get", key) is None


async def test_numbers_of_64_bits_are_counted_and_larger_ones_refused(component: Component) -> None:
    key = fresh()
    assert await component.function("increment", key, 0) == 0
    assert await component.function("increment", key, 2**31 - 1) == 2**31 - 1
    assert await component.function("increment", key, 1) == 2**31
    assert await component.function("increment", key, U64_MAX - 2**31) == U64_MAX
    with pytest.raises(ComponentError, match=f"outside of 0 to {U64_MAX}"):
        await component.function("increment", key, 1)
    assert await component.function("increment", key, 0) == U64_MAX
    assert await component.function("get", key) == str(U64_MAX).encode()


async def test_totals_across_32_bits_are_answered_exactly_once(component: Component) -> None:
    key = fresh()
    await component.function("increment", key, 2**31 - 101)
    totals = await asyncio.gather(*(component.function("increment", key, 1) for _ in range(200)))
    assert sorted(totals) == list(range(2**31 - 100, 2**31 + 100))


async def test_many_values_are_set_read_and_deleted(component: Component) -> None:
    pairs = [(fresh(), b"\xff%d" % number) for number in range(50)]
    assert await component.function("set-many", pairs) is None
    keys = [key for key, _ in pairs]
    assert await component.function("get-many", [*keys, "absent", keys[0]]) == [*pairs, None, pairs[0]]
    assert await component.function("delete-many", [*keys, "absent"]) is None
    assert await component.function("get-many", keys) == [None] * 50
    for function in ("set-many", "delete-many"):
        assert await component.function(function, []) is None
    assert await component.function("get-many", []) == []


async def test_an_error_of_one_key_names_how_many_were_not_set(component: Component) -> None:
    key = fresh()
    with pytest.raises(ComponentError, match="1 of 2 keys were not set; the first: key is empty"):
        await component.function("set-many", [("", b"v"), (key, b"v")])
    assert await component.function("get", key) == b"v"
    with pytest.raises(ComponentError, match="key is empty"):
        await component.function("get-many", [key, ""])


@pytest.mark.parametrize("opened_as", ["", "default"])
async def test_a_store_is_opened_by_its_own_names_and_no_other(component: Component, opened_as: str) -> None:
    key = fresh()
    await component.function("set", key, b"v", opened_as=opened_as)
    assert await component.function("get", key) == b"v"
    with pytest.raises(ComponentError) as error:
        await component.function("get", key, opened_as="other")
    assert error.value.case == NO_SUCH_STORE


async def test_a_store_that_is_opened_by_the_name_of_another_link_is_the_store_of_that_link(
    component_host: Wasmcloud1Host, make_component: MakeComponent, backend: str
) -> None:
    component = await make_component(BACKEND=backend)
    values = {"BACKEND": backend, "BUCKET": fresh("other")}
    await component_host.put_link(component_host.link(component.public_key, values, "second"))
    await component.function("set", "k", b"first")
    await component.function("set", "k", b"second", opened_as="second")
    assert await component.function("get", "k") == b"first"
    assert await component.function("get", "k", opened_as="second") == b"second"
    with pytest.raises(ComponentError):
        await component.function("get", "k", opened_as="third")


async def test_a_link_may_ignore_the_name(make_component: MakeComponent, backend: str) -> None:
    component = await make_component(BACKEND=backend, BUCKET_ARGUMENT="ignore")
    await component.function("set", "k", b"v", opened_as="any")
    assert await component.function("get", "k", opened_as="other") == b"v"


async def test_all_keys_are_listed_in_pages(make_component: MakeComponent, backend: str) -> None:
    component = await make_component(BACKEND=backend)
    # Caches of one link name are one, so other tests may have left keys.
    prefix = fresh()
    keys = {f"{prefix}-{number}-" + "k" * 3000 for number in range(300)}
    await component.function("set-many", [(key, b"") for key in sorted(keys)])
    first, cursor = await component.function("list-keys", None)
    assert cursor is not None
    assert 400_000 < sum(map(len, first)) < 600_000
    assert (await component.function("list-keys", 0))[0] == first
    rest, end = await component.function("list-keys", cursor)
    assert end is None
    assert sorted(key for key in first + rest if key.startswith(prefix)) == sorted(keys)
    assert (await component.function("list-keys", U64_MAX)) == ([], None)


async def test_actors_and_components_share_a_bucket(
    make_component: MakeComponent, make_actor: MakeActor, component_host: Wasmcloud1Host
) -> None:
    bucket = fresh("both")
    component, actor = await make_component(BUCKET=bucket), await make_actor(BUCKET=bucket)
    stored = StoredBucket(component_host.client, bucket)
    await component.function("set", "user:1", "é".encode())
    assert await actor.get("user:1") == "é"
    await actor.set("user:1", "Ann", expires=60)
    assert await component.function("get", "user:1") == b"Ann"
    await component.function("set", "user:1", b"Bob")
    assert (await actor.call("KeyValueAtomics.GetEntry", "user:1"))["expires"] == 0
    # A number beyond 32 bits is an error for the actor alone.
    assert await actor.increment("n", 5) == 5
    assert await component.function("increment", "n", 2**40) == 2**40 + 5
    assert await actor.get("n") == str(2**40 + 5)
    assert "outside" in await actor.error("Increment", {"key": "n", "value": 1})
    assert await component.function("increment", "n", 1) == 2**40 + 6
    assert await stored.payload("n") == str(2**40 + 6).encode()
    # Bytes that are no text, and values that are more than one.
    await component.function("set", "b", BINARY)
    assert await stored.payload("b") == BINARY
    assert "binary value" in await actor.error("Get", "b")
    assert await actor.contains("b") is True
    await actor.list_add("l", "é")
    assert await component.function("get", "l") == '["é"]'.encode()
    assert sorted((await component.function("list-keys", None))[0]) == ["b", "l", "n", "user:1"]
