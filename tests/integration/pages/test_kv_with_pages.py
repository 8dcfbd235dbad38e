"""The command `kv` on values with pages: taken and shown whole, both streams in `info`, both removed by `rm`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contracts import keyvalue as kv
from provider import errors
from provider.commands.errors import NotRevertibleError
from provider.commands.kv import open_bucket
from provider.commands.kv.bucket_admin import add_bucket, bucket_status, list_buckets, remove_bucket
from provider.commands.kv.bucket_commands import print_key_table
from provider.commands.kv.bucket_info import BucketSettings
from provider.commands.kv.bucket_rendering import bucket_row, status_object, status_rows
from provider.commands.kv.open_bucket import opened
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.link_values import Consistency
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import cancel
from tests.blackbox.nats.nats_server import NatsServer
from tests.integration.pages.open_pages import SECONDS, open_pages, soon

TEXT = b"0123456789abcdefghij" * 150_000
"""Three megabytes: three messages with the server's default limit."""


async def test_a_large_value_is_taken_shown_and_removed_with_its_pages(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as provider:
        jetstream, name = provider.jetstream, provider.bucket.name
        async with opened(jetstream, name, SECONDS) as bucket:
            await bucket.put("small", b"v")
            status = await bucket_status(jetstream, name, soon())
            assert status.pages is None
            assert "pages" not in status_object(status)
            await bucket.put("big", TEXT)
            found = await bucket.get("big", Consistency.STRONG)
            assert (found.kind, found.payload) == ("text", TEXT)
            assert [revision.kind for revision in await bucket.history("big")] == ["paged text"]
        status = await bucket_status(jetstream, name, soon())
        shown = status_object(status)["pages"]
        assert shown["stream"] == provider.pages.name
        assert shown["bytes"] > len(TEXT)
        assert ("Pages Stream", provider.pages.name) in status_rows(status)
        listed = [info.name for info in await list_buckets(jetstream, soon())]
        assert name in listed
        assert f"{name}=pages" not in listed
        await remove_bucket(jetstream, name, soon())
        for stream in (provider.bucket.stream, provider.pages.name):
            with pytest.raises(errors.ApiError, match="stream not found"):
                await jetstream.stream_info(stream, soon())


async def test_values_with_pages_are_printed_piece_by_piece(lattice_server: NatsServer) -> None:
    members = [f"member:{number:05}:{'x' * 100}" for number in range(900)]
    async with (
        open_pages(lattice_server.url) as provider,
        opened(provider.jetstream, provider.bucket.name, SECONDS) as bucket,
    ):
        await bucket.put("text", TEXT)
        engine = Engine(provider.bucket, provider.tasks, provider.bucket.paging.writer)
        adding = [kv.ListAdd("list", member) for member in members] + [kv.SetAdd("set", member) for member in members]
        await asyncio.gather(*(engine.change(request, request.key, soon()) for request in adding))
        for key in ("text", "list", "set"):
            pieces = [piece async for piece in bucket.payload(key, Consistency.STRONG)]
            assert len(pieces) > 3
            assert max(map(len, pieces)) <= 512 * 1024
            assert b"".join(pieces) == (await bucket.get(key, Consistency.STRONG)).payload
        await bucket.put("small", b"v")
        assert [piece async for piece in bucket.payload("small", Consistency.STRONG)] == [b"v"]
        engine.close()


async def test_a_table_of_keys_reads_no_pages(lattice_server: NatsServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_pages(lattice_server.url) as provider:
        jetstream, name = provider.jetstream, provider.bucket.name
        async with opened(jetstream, name, SECONDS) as bucket:
            await bucket.put("big", TEXT)
            await bucket.put("small", b"v")
            await jetstream.purge(provider.pages.name, ">", soon())
            assert await print_key_table(bucket, ">", has_values=True)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[-1].strip() for line in lines[1:]] == ["(text, 2.9 MiB in pages)", "v"]


async def test_the_size_of_a_bucket_in_the_list_has_that_of_its_pages(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as provider:
        jetstream, name = provider.jetstream, provider.bucket.name
        async with opened(jetstream, name, SECONDS) as bucket:
            await bucket.put("big", TEXT)
        listed = {info.name: info for info in await list_buckets(jetstream, soon())}
        assert listed[name].pages_bytes > len(TEXT)
        assert bucket_row(listed[name], None)[3] == "2.9 MiB"


async def test_a_stream_of_a_user_stays_when_the_bucket_goes(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as provider:
        jetstream, name = provider.jetstream, provider.bucket.name
        await jetstream.create_stream({"name": provider.pages.name, "subjects": [f"$KV.{name}=pages.>"]}, soon())
        status = await bucket_status(jetstream, name, soon())
        assert "not marked" in dict(status_rows(status))["Pages Not Usable"]
        async with opened(jetstream, name, SECONDS) as bucket:
            with pytest.raises(errors.StoreRefusedError, match="not marked"):
                await bucket.put("big", TEXT)
        await remove_bucket(jetstream, name, soon())
        assert (await jetstream.stream_info(provider.pages.name, soon())).config.name == provider.pages.name


async def test_a_put_that_is_broken_off_leaves_no_pages(lattice_server: NatsServer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 512 * 1024
        stored.set()
        await asyncio.Event().wait()

    stored = asyncio.Event()
    async with open_pages(lattice_server.url) as provider:

        async def put() -> None:
            async with opened(provider.jetstream, provider.bucket.name, SECONDS) as bucket:
                await bucket.put_parts("big", endless(), 0, None)

        putting = asyncio.create_task(put())
        await stored.wait()
        assert (await provider.jetstream.stream_info(provider.pages.name, soon())).state.messages > 3
        await cancel(putting)
        # The page that was under way may be stored after its removal; a collector finds it.
        assert (await provider.jetstream.stream_info(provider.pages.name, soon())).state.messages <= 1


async def test_an_old_head_cannot_be_put_again(lattice_server: NatsServer) -> None:
    async with (
        open_pages(lattice_server.url) as provider,
        opened(provider.jetstream, provider.bucket.name, SECONDS) as bucket,
    ):
        await bucket.put("big", TEXT)
        revision = (await bucket.get("big", Consistency.STRONG)).revision
        with pytest.raises(NotRevertibleError, match="is a paged text, whose pages may be gone"):
            await bucket.revert("big", revision)


async def test_a_value_over_the_limit_of_an_answer_is_an_error_that_tells_how_to_print_it(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_bucket, "MAX_ANSWER_BYTES", len(TEXT) - 1)
    async with (
        open_pages(lattice_server.url) as provider,
        opened(provider.jetstream, provider.bucket.name, SECONDS) as bucket,
    ):
        await bucket.put("big", TEXT)
        with pytest.raises(errors.AnswerTooLargeError, match=r"answer of kv get .* 2999999 bytes; --raw prints"):
            await bucket.get("big", Consistency.STRONG)


async def test_a_large_value_has_the_time_of_an_answer_for_each_page(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of one answer goes by with each page that is read."""
    late_seconds = 0.0

    def deadline() -> float:
        return soon() + late_seconds

    async with (
        open_pages(lattice_server.url) as provider,
        opened(provider.jetstream, provider.bucket.name, SECONDS) as bucket,
    ):
        await bucket.put("big", TEXT)
        run, deadlines = bucket.bucket.paging.run, []

        async def run_and_wait(key: str, operation: Any, until: float) -> Any:
            nonlocal late_seconds
            late_seconds += SECONDS
            deadlines.append(until)
            return await run(key, operation, until)

        monkeypatch.setattr(bucket, "_deadline", deadline)
        monkeypatch.setattr(bucket.bucket.paging, "run", run_and_wait)
        assert (await bucket.get("big", Consistency.STRONG)).payload == TEXT
        assert len(deadlines) > 3
        assert deadlines == sorted(set(deadlines))


async def test_a_bucket_with_history_tells_why_it_takes_no_large_value(lattice_server: NatsServer) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield TEXT

    async with Connection(ConnectionSettings((lattice_server.url,)), "test", 5) as connection:
        jetstream, name = JetStream(connection), f"b-{uuid.uuid4().hex[:12]}"
        await add_bucket(jetstream, BucketSettings(name, history=3), soon())
        async with opened(jetstream, name, SECONDS) as bucket:
            with pytest.raises(errors.StoreRefusedError, match="a bucket with history, or a sealed one, has none"):
                await bucket.put_parts("big", parts(), 0, None)
