"""Buckets whose streams lose values, or forbid some operations."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from provider.commands import errors as kv_errors
from provider.commands.connect import ConnectionOptions, connected, deadline_in
from provider.commands.kv.bucket_admin import bucket_status, remove_bucket
from provider.commands.kv.open_bucket import opened
from provider.commands.kv.rendering import status_object, status_rows
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.link_checks import reason, served
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor

SECONDS = 5.0


def bucket_name() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"


# --- streams that lose values


UNUSABLE: dict[str, dict[str, object]] = {
    "retention": {"retention": "interest"},
    "retention workqueue": {"retention": "workqueue"},
    "no_ack": {"no_ack": True},
    "discard old with max_msgs": {"discard": "old", "max_msgs": 100},
    "discard old with max_bytes": {"discard": "old", "max_bytes": 10_000},
    "subject_transform": {"subject_transform": {"src": "", "dest": "elsewhere.>"}},
    "allow_msg_counter": {"allow_msg_counter": True, "discard": "old"},
}
"""Settings of streams that lose acknowledged values, or take none."""


async def test_a_stream_that_does_not_keep_what_it_acknowledges_is_refused_by_the_name_of_the_setting(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    async def refuse(setting: str, config: dict[str, object]) -> None:
        name = bucket_name()
        stored = StoredBucket(host.client, name)
        if "subject_transform" in config:
            config = {"subject_transform": {"src": f"$KV.{name}.>", "dest": f"elsewhere.{name}.>"}}
        await stored.create(**config)
        if not config.keys() <= (await stored.info())["config"].keys():
            return  # an older server, which does not know the setting
        actor = await make_actor(BUCKET=name, CREATE="never")
        said = await reason(actor)
        assert "link value BUCKET:" in said
        assert f"has {setting}" in said
        assert "nothing was done" in await actor.error("Set", {"key": "k", "value": "v", "expires": 0})

    await asyncio.gather(*(refuse(setting, config) for setting, config in UNUSABLE.items()))
    assert not (await host.health()).is_healthy


async def test_a_bucket_that_is_edited_to_lose_values_is_refused_from_then_on(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    actor = await make_actor()
    await served(actor)
    stored = StoredBucket(host.client, actor.bucket)
    await stored.edit(discard="old", max_msgs=5)

    async def said() -> bool:
        try:
            return await actor.get("k") == "never"
        except CallFailedError as error:
            return "discard old with max_msgs" in str(error)

    await eventually(said, "the refusal", 25)
    await stored.edit(discard="new", max_msgs=-1)
    await served(actor)


async def test_a_bucket_that_does_not_keep_values_is_shown_and_removed_but_not_used(lattice_server: NatsServer) -> None:
    async with connected(ConnectionOptions(lattice_server.url), SECONDS) as jetstream:
        name = bucket_name()
        await jetstream.create_stream(
            {"name": f"KV_{name}", "subjects": [f"$KV.{name}.>"], "retention": "interest"}, deadline_in(SECONDS)
        )
        with pytest.raises(kv_errors.BucketUnusableError, match="has retention interest"):
            async with opened(jetstream, name, SECONDS):
                pass
        status = await bucket_status(jetstream, name, deadline_in(SECONDS))
        assert "retention interest" in dict(status_rows(status))["Not Usable"]
        assert "retention interest" in status_object(status)["unusable"]
        await remove_bucket(jetstream, name, deadline_in(SECONDS))
