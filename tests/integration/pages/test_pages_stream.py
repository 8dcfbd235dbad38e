"""The stream of a bucket's pages: made when needed, known by its mark, as durable as its bucket."""

from __future__ import annotations

import msgspec
import pytest

from provider import errors
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, PageId, Wanted, key_hash
from provider.keyvalue.bucket.pages.pages_settings import bucket_of_pages
from tests.blackbox.nats.nats_server import NatsServer
from tests.integration.pages.open_pages import Opened, open_pages, soon


def page_of(key: str, number: int = 0) -> PageId:
    return PageId(f"{key_hash(key)}.op-1.{number}")


async def stream_config(opened: Opened, stream: str) -> dict[str, object]:
    answer = await opened.jetstream.api(f"STREAM.INFO.{stream}", None, soon())
    config: dict[str, object] = msgspec.json.decode(answer)["config"]
    return config


async def test_the_stream_is_made_with_the_first_page_and_like_its_bucket(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, storage="memory", max_bytes=1_000_000) as opened:
        assert await opened.pages.to_read(soon()) is None
        with pytest.raises(AbsentPageError):
            await opened.store.read("a", Wanted((page_of("a"),)), soon())
        assert await opened.store.write("a", {page_of("a"): b"page"}, 0, soon()) == 1
        config = await stream_config(opened, opened.pages.name)
        assert config["storage"] == "memory"
        assert config["max_bytes"] == 1_000_000
        assert config["subjects"] == [f"$KV.{opened.bucket.name}=pages.>"]
        assert bucket_of_pages(opened.pages.name) == opened.bucket.name
        assert dict(await opened.store.read("a", Wanted((page_of("a"),)), soon())) == {page_of("a"): b"page"}


async def test_a_stream_of_a_user_is_refused_and_left_alone(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as opened:
        theirs = {"name": opened.pages.name, "subjects": [f"$KV.{opened.bucket.name}=pages.>"]}
        await opened.jetstream.create_stream(theirs, soon())
        with pytest.raises(errors.StoreRefusedError, match="not marked"):
            await opened.store.write("a", {page_of("a"): b"page"}, 0, soon())
        with pytest.raises(errors.StoreRefusedError, match="not marked"):
            await opened.store.read("a", Wanted((page_of("a"),)), soon())
        info = await opened.jetstream.stream_info(opened.pages.name, soon())
        assert info.state.last_seq == 0


async def test_pages_in_memory_beside_a_bucket_in_files_take_no_more_values(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, storage="memory") as opened:
        await opened.store.write("a", {page_of("a"): b"page"}, 0, soon())
        config = await stream_config(opened, opened.bucket.stream)
        await opened.jetstream.api(f"STREAM.DELETE.{opened.bucket.stream}", None, soon())
        await opened.jetstream.create_stream(config | {"storage": "file"}, soon())
        await opened.pages.look(soon())
        with pytest.raises(errors.StoreRefusedError, match="in memory"):
            await opened.store.write("a", {page_of("a", 1): b"page"}, 0, soon())
        assert "in memory" in opened.pages.reason
        assert dict(await opened.store.read("a", Wanted((page_of("a"),)), soon())) == {page_of("a"): b"page"}


async def test_a_stream_that_was_made_anew_is_found_and_its_old_pages_are_not_remembered(
    lattice_server: NatsServer,
) -> None:
    async with open_pages(lattice_server.url) as opened:
        await opened.store.write("a", {page_of("a"): b"page"}, 0, soon())
        before = await opened.pages.to_write(soon())
        await opened.jetstream.api(f"STREAM.DELETE.{opened.pages.name}", None, soon())
        with pytest.raises(errors.StoreUnreachableError, match="deleted"):
            await opened.store.write("a", {page_of("a", 1): b"page"}, 0, soon())
        incarnation = opened.pages.incarnation
        await opened.store.write("a", {page_of("a", 1): b"new"}, 0, soon())
        assert opened.pages.incarnation == incarnation + 1
        assert (await opened.pages.to_write(soon())).created != before.created
        with pytest.raises(AbsentPageError):
            await opened.store.read("a", Wanted((page_of("a"),)), soon())
