"""The backup of a bucket with large values and its restore, in the order that docs/operating.md has, and in others."""

from __future__ import annotations

import asyncio

import nats
import pytest

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.stream_backup import Backup, back_up, remove, restore
from tests.integration.pages.test_paged_keys import KEY, Client, client

OLD = [f"member:{number:04}:{'x' * 200}" for number in range(400)]
NEW = [f"newer:{number:04}:{'y' * 200}" for number in range(400)]


async def add(one: Client, members: list[str]) -> None:
    assert await one.all(kv.SetAdd(KEY, member) for member in members) == [1] * len(members)


async def backed_up(url: str, stream: str) -> Backup:
    connection = await nats.connect(url)
    try:
        return await back_up(connection, stream)
    finally:
        await connection.close()


async def lose_and_restore(url: str, *backups: Backup) -> None:
    """Lose both streams, as without their server, and restore them in this order."""
    connection = await nats.connect(url)
    try:
        for backup in backups:
            await remove(connection, backup.config["name"])
        for backup in backups:
            await restore(connection, backup)
    finally:
        await connection.close()


async def collect(one: Client, rounds: int = 3) -> None:
    collector = Collector(one.bucket, one.bucket.paging.stream, one.bucket.paging.reachable, 0.0)
    for _ in range(rounds):
        await collector.round()


async def test_a_backup_that_is_made_while_values_change_has_the_values_of_its_beginning(
    lattice_server: NatsServer,
) -> None:
    url = lattice_server.url
    async with client(lattice_server) as one:
        await add(one, OLD)
        heads = await backed_up(url, one.bucket.stream)
        await add(one, NEW)  # replaces pages, which stay for page_grace_seconds
        pages = await backed_up(url, one.bucket.paging.stream.name)
        await one.change(kv.SetClear(KEY))
    await lose_and_restore(url, pages, heads)
    async with client(lattice_server, one.bucket.name) as other:
        assert await other.members() == set(OLD)
        assert len(await other.stored_pages()) > len(await other.reachable())
        await collect(other)  # the pages of the changes since
        assert await other.stored_pages() == await other.reachable()
        await add(other, NEW)
        assert await other.members() == {*OLD, *NEW}


@pytest.mark.parametrize("lost", ["pages of before", "all pages"])
async def test_heads_without_their_pages_are_damaged_until_they_are_set_anew(
    lattice_server: NatsServer, lost: str
) -> None:
    url = lattice_server.url
    async with client(lattice_server) as one:
        await add(one, OLD)
        pages = await backed_up(url, one.bucket.paging.stream.name)
        await add(one, NEW)
        heads = await backed_up(url, one.bucket.stream)
    await lose_and_restore(url, pages, heads)
    if lost == "all pages":
        connection = await nats.connect(url)
        await remove(connection, pages.config["name"])
        await connection.close()
    async with client(lattice_server, one.bucket.name) as other:
        for _ in range(2):
            with pytest.raises(errors.DamagedValueError, match=f"value of key '{KEY}' is damaged: page .* is missing"):
                await other.members()
        with pytest.raises(errors.DamagedValueError):
            await other.change(kv.SetAdd(KEY, "member"))
        assert "is missing" in other.bucket.paging.unhealthy
        assert await other.change(kv.SetClear(KEY))
        await add(other, NEW)
        assert await other.members() == set(NEW)
        await other.bucket.paging.look(asyncio.get_running_loop().time() + 5)
        assert other.bucket.paging.unhealthy == ""


async def test_a_bucket_that_is_older_than_its_pages_has_its_old_values_if_their_pages_were_kept(
    lattice_server: NatsServer,
) -> None:
    url = lattice_server.url
    async with client(lattice_server) as one:
        await add(one, OLD)
        heads = await backed_up(url, one.bucket.stream)
        await add(one, NEW)
        name = one.bucket.stream
    # Only the bucket is lost. Its pages were never removed, since the grace period goes on.
    connection = await nats.connect(url)
    await remove(connection, name)
    await restore(connection, heads)
    await connection.close()
    async with client(lattice_server, one.bucket.name) as other:
        assert await other.members() == set(OLD)
