"""Links and configs of a provider under a host of wasmCloud 1.x, and its end."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.component import Component, NotConnectedError
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import ComponentError

MEMORY = {"STORAGE": "memory"}
TOKEN = "s3cret-token"


async def is_linked(component: Component, link_name: str = "default") -> bool:
    try:
        await component.call("exists", "", "k", link_name=link_name)
    except ComponentError:
        return False
    return True


async def test_links_are_put_moved_and_deleted_without_losing_a_call(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link(config=MEMORY | {"BUCKET": f"{host.lattice}-one"})])
    component, other = await host.component(), await host.component("other")
    await component.call("set", "", "k", b"one")
    assert not await is_linked(other)
    # Other names and components.
    await host.put_link(host.link("other", MEMORY | {"BUCKET": f"{host.lattice}-one"}, name="second"))
    await eventually(lambda: is_linked(other, "second"), "the link")
    assert await other.call("get", "second", "k", link_name="second") == b"one"
    assert not await is_linked(other)
    # The same link with other values, while it is being called.
    moved = MEMORY | {"BUCKET": f"{host.lattice}-two"}
    calls = [asyncio.ensure_future(component.call("increment", "", "n", 1)) for _ in range(100)]
    await host.put_link(host.link(config=moved))
    calls += [asyncio.ensure_future(component.call("increment", "", "n", 1)) for _ in range(100)]
    totals = await asyncio.gather(*calls)
    await host.put_link(host.link(config=moved))
    assert await component.call("get", "", "k") is None
    count_in_two = await component.call("increment", "", "n", 0)
    assert len(totals) == 200
    assert await other.call("increment", "", "n", 0, link_name="second") + count_in_two == 200
    # A link of another package, and a deletion of it, change nothing.
    for package in ("blobstore", "messaging"):
        await host.put_link(host.link(config={"BUCKET": "x"}, wit_package=package))
        await host.delete_link(host.link(wit_package=package))
    await host.delete_link(host.link("other", name="second"))

    async def is_unlinked() -> bool:
        return not await is_linked(other, "second")

    await eventually(is_unlinked, "the end of the link")
    assert await is_linked(component)


async def test_sealed_secrets_are_used_and_never_shown(host: Wasmcloud1Host, tmp_path: Path) -> None:
    with NatsServer(tmp_path / "guarded", f"authorization {{ token: {TOKEN} }}") as guarded:
        settings = {"URL": guarded.url, "TOKEN": "wrong", "BUCKET": "guarded"}
        secret = host.link(config=settings, target_secrets=host.seal({"TOKEN": TOKEN, "extra": b"\xff"}))
        provider = await host.start_provider([secret], log_level="debug")
        component = await host.component()
        await component.call("set", "", "k", b"v")
        assert await component.call("get", "", "k") == b"v"
        # A second link whose secret was sealed by another host.
        *sealed, last = host.seal({"TOKEN": TOKEN})
        forged = host.link("forged", settings, target_secrets=[*sealed, last ^ 1])
        await host.put_link(forged)

        async def is_reported() -> bool:
            return "not sealed by this host" in (await host.health()).get("message", "")

        await eventually(is_reported, "the reason in health")
        with pytest.raises(ComponentError) as caught:
            await (await host.component("forged")).call("get", "", "k")
        assert "not sealed by this host" in caught.value.text
        shown = provider.stderr + json.dumps(await host.health()) + caught.value.text
        assert TOKEN not in shown


async def test_missed_links_are_found_in_the_records_of_the_lattice(host: Wasmcloud1Host) -> None:
    jetstream = host.client.jetstream()
    records = await jetstream.create_key_value(bucket=f"LATTICEDATA_{host.lattice}")
    configs = await jetstream.create_key_value(bucket=f"CONFIGDATA_{host.lattice}")
    await configs.put("settings", json.dumps(MEMORY | {"BUCKET": host.lattice}).encode())

    async def record(*links: dict[str, Any]) -> None:
        named = [{**link, "target_config": ["settings"], "source_config": []} for link in links]
        await records.put("COMPONENT_comp", json.dumps({"url": "file://x", "links": named}).encode())

    await record(host.link(), host.link(name="known"))
    # One link was deleted while the process started.
    await host.start_provider([host.link(name="known", config=MEMORY), host.link(name="gone", config=MEMORY)])
    component = await host.component()
    # This instance takes no call before it has read the records.
    await component.call("set", host.lattice, "k", b"v")
    assert await component.call("get", host.lattice, "k") == b"v"
    assert await is_linked(component, "known")
    assert not await is_linked(component, "gone")
    assert "message" not in await host.health()
    await record(host.link(), host.link(name="known"), host.link(name="missed"))
    await host.put_link(host.link("another", config=MEMORY))  # the next look comes soon after
    await eventually(lambda: is_linked(component, "missed"), "the link of the record")
    # Hosts delete at once, and put when they see the record: here the one overtakes the other.
    late = host.link(name="late", config=MEMORY)
    await record(host.link(), host.link(name="known"), late)
    await record(host.link(), host.link(name="known"))
    await host.delete_link(late)
    await host.put_link(late)

    async def is_deleted() -> bool:
        return not await is_linked(component, "late")

    await eventually(lambda: is_linked(component, "late"), "the put")
    await eventually(is_deleted, "the deletion")


async def test_a_host_of_1_0_puts_and_deletes_links_by_the_id_of_the_provider(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with Wasmcloud1Host(nats_server.url, tmp_path, is_1_0=True) as host:
        await host.start_provider([])
        component = await host.component(flavour="1.0")
        await host.put_link(host.link(config={"BACKEND": "cache"}))
        await eventually(lambda: is_linked(component), "the link")
        await host.delete_link(host.link())

        async def is_unlinked() -> bool:
            return not await is_linked(component)

        await eventually(is_unlinked, "the end of the link")


async def test_an_update_of_the_config_reaches_the_links(host: Wasmcloud1Host) -> None:
    first, second = f"{host.lattice}-first", f"{host.lattice}-second"
    provider = await host.start_provider([host.link(config=MEMORY)], {"BUCKET": first})
    component = await host.component()
    await component.call("set", "", "k", b"first")
    await host.update_config({"BUCKET": first})
    await host.update_config({"BUCKET": second})

    async def value() -> bytes | None:
        found: bytes | None = await component.call("get", "", "k")
        return found

    async def has_moved() -> bool:
        return await value() is None

    await eventually(has_moved, "the other bucket")
    assert provider.stderr.count("config_updated") == 1
    # A fault is told, and the settings before stay in force.
    await host.update_config({"BUCKET": first, "max_in_flight": "many"})

    async def is_reported() -> bool:
        return "max_in_flight" in (await host.health()).get("message", "")

    await eventually(is_reported, "the fault in health")
    assert await value() is None
    await host.update_config({"BUCKET": first, "max_keys_per_call": "1"})
    await eventually(value, "the first bucket again")
    with pytest.raises(ComponentError, match="max_keys_per_call"):
        await component.call("get-many", "", ["k", "l"])
    assert "message" not in await host.health()


async def test_shutdown_is_for_this_host_alone_and_every_call_is_answered_before(host: Wasmcloud1Host) -> None:
    provider = await host.start_provider([host.link(config=MEMORY | {"BUCKET": host.lattice})])
    component = await host.component()
    await component.call("increment", "", "n", 1)
    assert await host.shut_down(host_id="N" + "A" * 55) is None
    outcomes = [asyncio.ensure_future(component.call("increment", "", "n", 1)) for _ in range(300)]
    await asyncio.sleep(0)
    seconds = await host.shut_down(timeout_seconds=2)
    assert seconds is not None
    assert seconds < 0.3
    ended = await asyncio.gather(*outcomes, return_exceptions=True)
    unexpected = [end for end in ended if not isinstance(end, int | ComponentError | NotConnectedError)]
    assert unexpected == [], "every call was ended, or never reached the provider"
    assert await provider.exited() == 0
    assert "Traceback" not in provider.stderr


async def test_two_instances_share_calls_and_answer_their_own_host(
    host: Wasmcloud1Host, nats_server: NatsServer, tmp_path: Path
) -> None:
    link = host.link(config=MEMORY | {"BUCKET": host.lattice})
    await host.start_provider([link])
    async with Wasmcloud1Host(nats_server.url, tmp_path, lattice=host.lattice) as second:
        await second.start_provider([link])
        component = await host.component()
        totals = await asyncio.gather(*(component.call("increment", "", "n", 1) for _ in range(200)))
        assert sorted(totals) == list(range(1, 201))
        assert await second.shut_down(timeout_seconds=2) is not None
        assert await second.provider.exited() == 0
        assert host.provider.exit_code is None
        assert await component.call("increment", "", "n", 1) == 201


async def test_a_provider_ends_with_its_host(host: Wasmcloud1Host) -> None:
    line = host.line([]).decode()
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'provider'], stdin=subprocess.PIPE)\n"
        f"child.stdin.write({line!r}.encode()); child.stdin.close()\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())

    async def is_healthy() -> bool:
        try:
            return bool((await host.health())["healthy"])
        except Exception:  # noqa: BLE001  (it does not listen yet)
            return False

    try:
        await eventually(is_healthy, "the provider")
        parent.kill()
        await parent.wait()
        await eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists(), "the end of the provider")
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()


async def test_records_that_may_not_be_read_are_a_remark_and_no_fault(tmp_path: Path) -> None:
    config = (
        "no_auth_user: provider\nauthorization { users: [ { user: host, password: host }, { user: provider, password: x,"
        ' permissions: { publish: { deny: "$JS.API.STREAM.INFO.*" } } } ] }'
    )
    with NatsServer(tmp_path / "server", config) as server:
        url = server.url.replace("nats://", "nats://host:host@")
        async with Wasmcloud1Host(url, tmp_path) as host:
            await host.start_provider([host.link(config={"BACKEND": "cache"})], lattice_rpc_url=server.url)
            component = await host.component()
            assert await component.call("get", "", "k") is None

            async def is_remarked() -> bool:
                return "LATTICEDATA" in (await host.health()).get("message", "")

            await eventually(is_remarked, "the remark in health")
            assert (await host.health())["healthy"]
