"""An unchanged host of wasmCloud 1.x, named by WASMCLOUD_HOST_1X: it starts an archive, and a component calls through it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from contracts import wrpc
from provider.commands.errors import CallFailedError, CommandError
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.process.wasmcloud1.real_host import COMPONENT_ID, PROVIDER_ID, GuestComponent, RealHost, build_guest

B = "default"
STORE = ["store", "atomics", "batch"]
START_SECONDS = 60.0


def make_archive(folder: Path) -> Path:
    """Make an archive as an operator does, for the Python that runs the tests."""
    archive = folder / "keyvalue.par.gz"
    python = os.path.realpath(sys.executable)
    command = (sys.executable, "-m", "provider", "par", "--out", str(archive), "--python", python)
    subprocess.run(command, check=True, env=os.environ | {"WASH_KEYS": str(folder / "keys")})
    return archive


@pytest.mark.timeout(600)
async def test_a_real_host_starts_supervises_and_stops_the_provider(tmp_path: Path) -> None:
    archive, guest = make_archive(tmp_path), build_guest(tmp_path)
    server = NatsServer(tmp_path / "server")
    server.start()
    try:
        async with RealHost(server.url, tmp_path / "host") as host:
            await host.put_config("users", {"BUCKET": "users"})
            await host.put_config("watch", {"bucket": "users", "watch": "SET@w.a,DEL@w.a"})
            component = await host.start_component(guest)
            await host.start_provider(archive)
            await host.put_link(COMPONENT_ID, PROVIDER_ID, STORE, "users")
            await host.put_link(PROVIDER_ID, COMPONENT_ID, ["watcher"], "watch")
            await served(component)
            await nine_functions(component)
            await errors_of(component)
            await watched(component)
            await no_call_is_lost(component)
            await restarted(host, component)
            await moved_and_unlinked(host, component)
            await stopped(host)
    finally:
        server.stop()


async def succeeds(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except CommandError:
        return False
    return True


async def served(component: GuestComponent) -> None:
    await eventually(
        lambda: succeeds(lambda: component.call(wrpc.Set(B, "k", b"v"))), "a call through the host", START_SECONDS
    )


async def nine_functions(component: GuestComponent) -> None:
    binary, large = b"\xff\x00\x80", os.urandom(900_000)
    await component.call(wrpc.Set(B, "k", binary))
    await component.call(wrpc.Set(B, "large", large))
    assert await component.call(wrpc.Get(B, "k")) == binary
    assert await component.call(wrpc.Get(B, "large")) == large
    assert await component.call(wrpc.Get(B, "absent")) is None
    assert await component.call(wrpc.Exists(B, "k")) is True
    assert await component.call(wrpc.Increment(B, "n", 2**40)) == 2**40
    await component.call(wrpc.SetMany(B, [("a", b"1"), ("b", b"2")]))
    assert await component.call(wrpc.GetMany(B, ["a", "x", "b"])) == [("a", b"1"), None, ("b", b"2")]
    assert await component.call(wrpc.ListKeys(B, None)) == wrpc.KeyResponse(["k", "large", "n", "a", "b"], None)
    await component.call(wrpc.Delete(B, "large"))
    await component.call(wrpc.DeleteMany(B, ["a", "b", "x"]))
    assert await component.call(wrpc.ListKeys(B, None)) == wrpc.KeyResponse(["k", "n"], None)


async def errors_of(component: GuestComponent) -> None:
    """From `get` and `increment` the component gets an error, from other functions it ends in a trap."""
    with pytest.raises(CallFailedError, match="no-such-store"):
        await component.call(wrpc.Get("other", "k"))
    with pytest.raises(CallFailedError, match="binary value"):
        await component.call(wrpc.Increment(B, "k", 1))
    with pytest.raises(CallFailedError, match="without a result"):
        await component.call(wrpc.Set(B, "", b"v"))


async def watched(component: GuestComponent) -> None:
    """The guest writes what its watcher is called with."""

    async def saw(value: bytes) -> bool:
        return bool(await component.call(wrpc.Get(B, "seen.w.a")) == value)

    await component.call(wrpc.Set(B, "w.a", b"changed"))
    await eventually(lambda: saw(b"changed"), "on-set")
    await component.call(wrpc.Delete(B, "w.a"))
    await eventually(lambda: saw(b""), "on-delete")


async def no_call_is_lost(component: GuestComponent) -> None:
    async def caller() -> None:
        for _ in range(40):
            await component.call(wrpc.Increment(B, "many", 1))

    await asyncio.gather(*(caller() for _ in range(16)))
    assert await component.call(wrpc.Get(B, "many")) == b"640"


async def restarted(host: RealHost, component: GuestComponent) -> None:
    (pid,) = host.provider_pids()
    os.kill(pid, signal.SIGKILL)

    async def is_replaced() -> bool:
        return host.provider_pids() not in ([], [pid]) and await succeeds(lambda: component.call(wrpc.Get(B, "n")))

    await eventually(is_replaced, "another provider process", START_SECONDS)
    assert await component.call(wrpc.Get(B, "n")) == str(2**40).encode()


async def moved_and_unlinked(host: RealHost, component: GuestComponent) -> None:
    await host.put_config("others", {"BUCKET": "others"})
    await host.put_link(COMPONENT_ID, PROVIDER_ID, STORE, "others")

    async def is_moved() -> bool:
        return not await component.call(wrpc.Exists(B, "n"))

    await eventually(is_moved, "the other bucket")
    await host.delete_link(COMPONENT_ID)
    with pytest.raises(CallFailedError):
        await component.call(wrpc.Get(B, "n"))


async def stopped(host: RealHost) -> None:
    await host.stop_provider()
    await eventually(lambda: not host.provider_pids(), "the end of the provider", 2)
    assert "stopping" in host.log
    assert "unclean" not in host.log
