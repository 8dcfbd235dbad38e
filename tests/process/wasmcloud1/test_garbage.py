"""Garbage on every subject of 1.x does not keep a provider from serving, and each family has only its own subjects."""

from __future__ import annotations

import json
import random
from pathlib import Path

import nats.errors
import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.proc import resident_bytes
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import parameters

SEED, MESSAGES = 16, 3000
GROWTH_BYTES = 20 * 1024 * 1024
FUNCTIONS = {
    "store@0.2.0-draft.get": parameters("get", "default", "k"),
    "store@0.2.0-draft.set": parameters("set", "default", "k", b"other"),
    "store@0.2.0-draft.list-keys": parameters("list-keys", "default", 5),
    "atomics@0.2.0-draft.increment": parameters("increment", "default", "k", 2**63),
    "batch@0.2.0-draft.get-many": parameters("get-many", "default", ["a", "b"]),
    "batch@0.2.0-draft.set-many": parameters("set-many", "default", [("a", b"1")]),
}
HEADERS: list[dict[str, str] | None] = [
    None,
    {"source-id": "stranger", "link-name": "default"},
    {"source-id": "comp", "link-name": "*"},
    {"link-name": "default"},
    {"source-id": "\x7f" * 200},
]
"""Headers of which none names a link in force."""


async def test_garbage_is_refused_and_costs_no_memory(host: Wasmcloud1Host) -> None:
    provider = await host.start_provider([host.link(config={"BACKEND": "cache"})])
    component = await host.component()
    await component.call("set", "default", "k", b"v")
    before = resident_bytes(provider.pid)
    source = random.Random(SEED)
    prefix = f"{host.lattice}.{host.provider_id}.wrpc.0.0.1.wrpc:keyvalue"
    controls = [host.link_subject, *(f"{host.subject}.{end}" for end in ("linkdefs.del", "config.update", "health"))]
    texts = [b"", b"{}", b"[]", b"null", b'{"a":' * 10_000, json.dumps(host.link(wit_package="x")).encode()]
    for number in range(MESSAGES):
        if number % 10 == 0:
            await host.client.publish(source.choice(controls), source.choice([*texts, source.randbytes(40)]))
            continue
        function, payload = source.choice(list(FUNCTIONS.items()))
        cut = source.randrange(len(payload) + 1)
        payload = source.choice([payload[:cut], payload + b"\0", source.randbytes(30), payload])
        reply = source.choice([f"_INBOX.gone.{number}", "", "$JS.API.INFO", "elsewhere"])
        await host.client.publish(f"{prefix}/{function}", payload, reply=reply, headers=source.choice(HEADERS))
    assert await component.call("get", "default", "k") == b"v"
    assert (await host.health())["healthy"]
    assert "Traceback" not in provider.stderr
    assert "internal_error" not in provider.stderr
    assert resident_bytes(provider.pid) - before < GROWTH_BYTES


async def test_each_family_of_hosts_has_only_its_own_subjects(
    host: Wasmcloud1Host, nats_server: NatsServer, tmp_path: Path
) -> None:
    await host.start_provider([host.link(config={"BACKEND": "cache"})])
    with pytest.raises(nats.errors.NoRespondersError):
        await host.client.request(f"{host.subject}.default", b"", timeout=2)
    async with LatticeHost(RUST, nats_server.url, tmp_path) as wasmbus:
        await wasmbus.start_provider([wasmbus.link(wasmbus.actor())])
        for function, payload in FUNCTIONS.items():
            subject = f"{wasmbus.who.lattice}.{wasmbus.who.provider.public}.wrpc.0.0.1.wrpc:keyvalue/{function}"
            with pytest.raises(nats.errors.NoRespondersError):
                await wasmbus.client.request(subject, payload, timeout=2, headers={"source-id": "comp"})
