"""The lattice's own records make up for a link definition that was not delivered."""

from __future__ import annotations

import asyncio
import functools

import pytest

from tests.blackbox.host_families import OTP, RUST, HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.link_records import LatticeCache, LatticeData
from tests.blackbox.waiting import eventually

Records = LatticeData | LatticeCache

pytestmark = pytest.mark.parametrize("family", [OTP, RUST], ids=["otp", "rust"], indirect=True)


@pytest.fixture(params=[LatticeData, LatticeCache], ids=["LATTICEDATA", "LATTICECACHE"])
async def records(request: pytest.FixtureRequest, host: LatticeHost) -> Records:
    found: Records = request.param(host.client, host.who.lattice)
    return found


async def is_linked(host: LatticeHost, actor: str) -> bool:
    try:
        await host.get(actor, "k")
    except CallFailedError as failed:
        assert "unlinked actor" in str(failed)  # noqa: PT017  (the other outcome is as good)
        return False
    return True


async def is_unlinked(host: LatticeHost, actor: str) -> bool:
    return not await is_linked(host, actor)


async def test_a_record_present_before_the_start_links_its_actor(host: LatticeHost, records: Records) -> None:
    actor = host.actor()
    await records.create()
    await records.put(host.link(actor))
    await host.start_provider()
    await eventually(lambda: is_linked(host, actor), "the link of the record")


async def test_a_record_written_later_links_its_actor_and_its_deletion_unlinks_it(
    host: LatticeHost, records: Records
) -> None:
    actor = host.actor()
    await records.create()
    await host.start_provider()
    await records.put(host.link(actor))
    await eventually(lambda: is_linked(host, actor), "the link of the record")
    await records.delete(host.link(actor))
    await eventually(lambda: is_unlinked(host, actor), "the end of the link")


async def test_a_deletion_present_before_the_start_removes_a_link_of_the_host_data(
    host: LatticeHost, records: Records
) -> None:
    actor, other = host.actor(), host.actor()
    await records.create()
    await records.put(host.link(actor))
    await records.delete(host.link(actor))
    await records.put(host.link(other))
    await host.start_provider([host.link(actor)])
    await eventually(lambda: is_linked(host, other), "the link of the other record")
    await eventually(lambda: is_unlinked(host, actor), "the end of the link")


async def test_a_record_that_moves_the_link_to_another_provider_removes_it(host: LatticeHost, records: Records) -> None:
    actor, other = host.actor(), host.actor()
    await records.create()
    await host.start_provider([host.link(actor), host.link(other)])
    assert await is_linked(host, actor)
    await records.put(host.link(actor) | {"provider_id": KeyPair.generate("V").public})
    await eventually(lambda: is_unlinked(host, actor), "the end of the link")
    assert await is_linked(host, other)
    await records.put(host.link(actor))
    await eventually(lambda: is_linked(host, actor), "the link of the record")


async def test_a_record_with_changed_values_opens_another_bucket(host: LatticeHost, records: Records) -> None:
    actor = host.actor()
    await records.create()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "before")
    await records.put(host.link(actor, {"BUCKET": f"changed_{host.who.lattice}"}))

    async def is_empty() -> bool:
        return await host.get(actor, "k") is None

    await eventually(is_empty, "the other bucket")


async def test_records_that_need_more_than_one_answer_are_all_read(host: LatticeHost, records: Records) -> None:
    actors = [host.actor() for _ in range(120)]
    await records.create()
    await asyncio.gather(*(records.put(host.link(actor)) for actor in actors))
    await host.start_provider()
    for actor in actors:
        await eventually(functools.partial(is_linked, host, actor), "the link of a record")


@pytest.mark.parametrize("operation", ["DEL", "PURGE"])
async def test_both_kinds_of_marker_remove_the_link(host: LatticeHost, family: HostFamily, operation: str) -> None:
    actor = host.actor()
    data = LatticeData(host.client, host.who.lattice)
    await data.create()
    await data.put(host.link(actor))
    await host.start_provider([host.link(actor)])
    await data.delete(host.link(actor), operation)
    await eventually(lambda: is_unlinked(host, actor), "the end of the link")


async def test_a_bucket_created_after_the_start_is_followed(host: LatticeHost, records: Records) -> None:
    actor = host.actor()
    await host.start_provider()
    await records.create()
    await records.put(host.link(actor))
    await eventually(lambda: is_linked(host, actor), "the link of the record")


async def test_other_records_and_garbage_are_ignored(host: LatticeHost) -> None:
    actor = host.actor()
    data = LatticeData(host.client, host.who.lattice)
    await data.create()
    await data.put_text("CLAIMS_MDNX", b'{"sub": "MDNX"}')
    await data.put_text("LINKDEF_BROKEN", b"{no json")
    await data.put_text("LINKDEF_ODD", b'{"actor_id": 5}')
    await data.put_text("LINKDEF_DEEP", b"[" * 100_000)
    await data.put(host.link(actor))
    await host.start_provider()
    await eventually(lambda: is_linked(host, actor), "the link of the record")
    await data.put_text("LINKDEF_LIVE", b"\xff\xfe")
    assert await is_linked(host, actor)
    assert (await host.health()).is_healthy
