"""A provider process under a host of wasmCloud 1.x: the nine functions, through NATS, as components call them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host

LARGE = [(f"large {number}", bytes(range(256)) * 2000) for number in range(5)]
"""2.5 MB together, which are no texts: three messages."""

BACKENDS = [{"BACKEND": "bucket", "STORAGE": "memory"}, {"BACKEND": "cache"}]


@pytest.fixture
async def host(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Wasmcloud1Host]:
    async with Wasmcloud1Host(nats_server.url, tmp_path) as host:
        yield host


@pytest.mark.parametrize("config", BACKENDS, ids=lambda config: config["BACKEND"])
async def test_the_nine_functions_and_large_values_in_both_flavours(
    host: Wasmcloud1Host, config: dict[str, str]
) -> None:
    await host.start_provider([host.link(config=config)])
    for flavour in ("1.0", "1.9"):
        component = await host.component(flavour=flavour)
        assert await component.call("get", "default", f"{flavour} none") is None
        for key, value in (("text", "é".encode()), ("bytes", b"\x00\xff"), ("empty", b"")):
            await component.call("set", "default", key, value)
            assert await component.call("get", "default", key) == value
        assert await component.call("exists", "", "text") is True
        assert await component.call("increment", "default", f"{flavour} n", 2**40) == 2**40
        assert await component.call("increment", "default", f"{flavour} n", 1) == 2**40 + 1
        keys, cursor = await component.call("list-keys", "default", None)
        assert set(keys) >= {"text", "bytes", "empty", f"{flavour} n"}
        assert cursor is None
        await component.call("set-many", "default", LARGE)
        assert await component.call("get-many", "default", [key for key, _ in LARGE]) == LARGE
        await component.call("set-many", "default", [("a", b"1"), ("b", b"\xff")])
        assert await component.call("get-many", "default", ["b", "x", "a"]) == [("b", b"\xff"), None, ("a", b"1")]
        await component.call("delete-many", "default", ["a", "b", "x"])
        await component.call("delete", "default", "text")
        assert await component.call("exists", "default", "text") is False
