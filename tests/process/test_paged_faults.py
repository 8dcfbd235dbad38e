"""Large values whose pages are lost, damaged, or have no room: the caller hears which, health tells, and other keys go on."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.blackbox.host_families import RUST, HostFamily
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.conformance.stored import StoredBucket
from tests.process.conftest import Hosts

MEMBERS = [f"member:{number:04}:{'x' * 200}" for number in range(500)]
"""100 KiB: a set with some pages."""

pytestmark = pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)


async def filled(host: LatticeHost, actor: str, key: str, members: list[str] = MEMBERS) -> None:
    await asyncio.gather(*(host.call(actor, "SetAdd", {"setName": key, "value": member}) for member in members))


async def pages_of(host: LatticeHost, key: str) -> tuple[str, dict[str, object]]:
    """Return the prefix of the subjects of a key's pages, and its head."""
    head = json.loads(await StoredBucket(host.client, host.default_bucket).payload(key) or b"")
    return f"$KV.{host.default_bucket}=pages.{head['root'].partition('.')[0]}", head


@pytest.mark.parametrize("fault", ["missing", "damaged"])
async def test_a_value_without_a_sound_page_is_an_error_that_names_key_and_page_and_other_keys_go_on(
    hosts: Hosts, family: HostFamily, fault: str
) -> None:
    before, host = await hosts(family), await hosts(family)
    actor = before.actor()
    await before.start_provider([before.link(actor)])
    await filled(before, actor, "lost")
    await filled(before, actor, "kept")
    prefix, head = await pages_of(before, "lost")
    stream, root = f"KV_{before.default_bucket}=pages", f"{prefix.rpartition('.')[0]}.{head['root']}"
    if fault == "missing":
        await host.client.request(f"$JS.API.STREAM.PURGE.{stream}", json.dumps({"filter": f"{prefix}.>"}).encode())
    else:
        await host.client.request(root, b"\xc1", headers={"Kv-Page-Of": "lost"})
    # Another instance, which has no page in its cache.
    actor = host.actor()
    provider = await host.start_provider([host.link(actor, {"BUCKET": before.default_bucket})])
    errors = [await host.error(actor, "SetQuery", "lost") for _ in range(3)]
    errors.append(await host.error(actor, "SetAdd", {"setName": "lost", "value": "new"}))
    for error in errors:
        assert "value of key 'lost' is damaged" in error
        assert str(head["root"]) in error
        assert ("is missing" in error) == (fault == "missing")
        assert "can be deleted or set anew" in error
    health = await host.health()
    assert not health.is_healthy
    assert "value of key 'lost' is damaged" in health.message
    assert provider.stderr.count("value_damaged") == 1
    # Whatever needs no pages works, and so do other keys.
    assert await host.call(actor, "Contains", "lost") is True
    assert set(await host.call(actor, "SetQuery", "kept")) == set(MEMBERS)
    assert await host.call(actor, "SetAdd", {"setName": "kept", "value": "new"}) == 1
    assert await host.call(actor, "SetClear", "lost") is True
    assert await host.call(actor, "SetAdd", {"setName": "lost", "value": "new"}) == 1
    assert await host.call(actor, "SetQuery", "lost") == ["new"]


@pytest.mark.parametrize("head", [b"", b"{}", b'{"kind":"set"}', b"[" * 100_000, bytes(range(256))], ids=len)
async def test_a_head_with_nonsense_in_it_is_a_binary_value(host: LatticeHost, family: HostFamily, head: bytes) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "other", "x")
    await host.client.request(f"$KV.{host.default_bucket}.forged", head, headers={"Kv-Kind": "paged"})
    for operation, argument in (
        ("Get", "forged"),
        ("SetQuery", "forged"),
        ("ListRange", {"listName": "forged", "start": 0, "stop": -1}),
        ("SetAdd", {"setName": "forged", "value": "x"}),
        ("Increment", {"key": "forged", "value": 1}),
    ):
        assert "binary value" in await host.error(actor, operation, argument)
    assert await host.call(actor, "Contains", "forged") is True
    assert (await host.health()).is_healthy
    assert await host.call(actor, "Del", "forged") is True
    await host.set(actor, "forged", "text")
    assert await host.get(actor, "forged") == "text"


async def test_without_room_for_pages_nothing_is_changed_and_small_values_go_on(
    host: LatticeHost, family: HostFamily
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"MAX_BYTES": "300000"})])
    await host.set(actor, "small", "x")
    await filled(host, actor, "set")
    await host.set(actor, "text", "short")
    text = "y" * 1_200_000
    error = await host.error(actor, "Set", {"key": "text", "value": text, "expires": 0})
    assert "store is full" in error
    assert "nothing was changed" in error
    assert await host.get(actor, "text") == "short"
    added: list[str] = []
    refused: list[str] = []
    for number in range(0, 1000, 100):
        more = [f"more:{number + index:04}:{'z' * 300}" for index in range(100)]
        calls = [host.call(actor, "SetAdd", {"setName": "set", "value": member}) for member in more]
        for member, outcome in zip(more, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            (refused if isinstance(outcome, CallFailedError) else added).append(member)
            assert outcome == 1 or "store is full" in str(outcome)
    assert refused
    assert set(await host.call(actor, "SetQuery", "set")) == {*MEMBERS, *added}
    await host.set(actor, "small", "z")
    assert await host.get(actor, "small") == "z"
    # To clear needs no room, and makes some.
    assert await host.call(actor, "SetClear", "set") is True
    await filled(host, actor, "set", refused)
    assert set(await host.call(actor, "SetQuery", "set")) == set(refused)
