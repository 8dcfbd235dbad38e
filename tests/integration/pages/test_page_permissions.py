"""The permissions for pages that the operations page lists suffice, each is used, and without them small values go on."""

from __future__ import annotations

import re

import pytest

from provider import errors
from provider.commands.kv.open_bucket import opened
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from provider.keyvalue.bucket.pages.paged_value import PageId, key_hash
from provider.keyvalue.link_values import Consistency
from tests.blackbox.lattice_host import PROJECT_FOLDER
from tests.integration.conftest import MakeServer
from tests.integration.pages.open_pages import SECONDS, Opened, open_pages, soon

BUCKET = "users"
TEXT = b"x" * 3_000_000
OF_BUCKET = (
    *("$JS.API.INFO", "$JS.API.STREAM.INFO.KV_BUCKET", "$JS.API.STREAM.CREATE.KV_BUCKET", "$KV.BUCKET.>"),
    *("$JS.API.DIRECT.GET.KV_BUCKET.>", "$JS.API.STREAM.MSG.GET.KV_BUCKET"),
)
"""The lines for the bucket itself, of the same page, that the test needs."""

SENT = re.compile(r"<<- \[H?PUB (\S+)")


def of_pages() -> list[str]:
    """Return the patterns of the page's block about pages."""
    text = (PROJECT_FOLDER / "docs" / "operating.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n( +\"\$JS.API.STREAM.INFO.KV_BUCKET=pages.*?)```", text, re.DOTALL)
    return [pattern.replace("BUCKET", BUCKET) for pattern in re.findall(r'"([^"]+)"', block)]


def config(patterns: list[str]) -> str:
    listed = ", ".join(f'"{pattern}"' for pattern in patterns)
    permissions = f'permissions {{ publish: [{listed}], subscribe: ["_INBOX.>"] }}'
    return f"trace: true\nauthorization {{ users: [ {{ user: some, password: some, {permissions} }} ] }}"


async def collected(provider: Opened) -> int:
    """Leave garbage as a crash does, and collect it in two rounds."""
    await provider.store.write("crashed", {PageId(f"{key_hash('crashed')}.op.0"): b"page"}, 0, soon())
    paging = provider.bucket.paging
    collector = Collector(provider.bucket, paging.stream, paging.reachable, 0.0)
    for _ in range(2):
        assert await collector.round()
    return collector.removed


async def test_the_listed_permissions_suffice_and_each_is_used(make_server: MakeServer) -> None:
    of_bucket = [pattern.replace("BUCKET", BUCKET) for pattern in OF_BUCKET]
    server = make_server(config(of_bucket + of_pages()))
    server.start()
    async with open_pages(server.url, 0.0, BUCKET, "some") as provider:
        async with opened(provider.jetstream, BUCKET, SECONDS) as bucket:
            await bucket.put("k", TEXT)
            assert (await bucket.get("k", Consistency.STRONG)).payload == TEXT
        assert await collected(provider) == 1
    assert "Permissions Violation" not in server.log
    sent = set(SENT.findall(server.log))
    unused = [
        pattern
        for pattern in of_pages()
        if not any(subject == pattern or subject.startswith(pattern.removesuffix(">")) for subject in sent)
    ]
    assert unused == []


async def test_without_permission_for_pages_a_large_value_is_refused_and_small_ones_go_on(
    make_server: MakeServer,
) -> None:
    server = make_server(config([pattern.replace("BUCKET", BUCKET) for pattern in OF_BUCKET]))
    server.start()
    async with (
        open_pages(server.url, 0.0, BUCKET, "some") as provider,
        opened(provider.jetstream, BUCKET, SECONDS) as bucket,
    ):
        await bucket.put("k", b"v")
        with pytest.raises(errors.StoreForbiddenError, match=r"\$JS.API.STREAM.INFO.KV_users=pages"):
            await bucket.put("big", TEXT)
        await bucket.put("k", b"w")
        assert (await bucket.get("k", Consistency.STRONG)).payload == b"w"


async def test_without_permission_for_pages_the_collector_asks_for_them_once(make_server: MakeServer) -> None:
    server = make_server(config([pattern.replace("BUCKET", BUCKET) for pattern in OF_BUCKET]))
    server.start()
    async with open_pages(server.url, 0.0, BUCKET, "some") as provider:
        collector = Collector(provider.bucket, provider.pages, provider.bucket.paging.reachable, 0.0)
        assert [await collector.round() for _ in range(3)] == [False] * 3
    assert server.log.count("Permissions Violation") == 1
