"""Servers and providers are killed, frozen and restarted under load. Every acknowledged change happens exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest

from tests.blackbox.host_families import OTP, RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.link_records import LatticeData
from tests.blackbox.load import Load
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.conftest import Hosts

CALLERS = 24
PHASE_CALLS = 150
PATIENCE_SECONDS = 2.0


@pytest.fixture
async def host(hosts: Hosts) -> LatticeHost:
    return await hosts(RUST)


def caller(host: LatticeHost, actor: str) -> Actor:
    return Actor(host, actor, caller_seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_no_change_is_lost_or_repeated_when_the_store_s_server_restarts(
    host: LatticeHost, own_nats_server: NatsServer, is_killed: bool
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})])
    async with Load(caller(host, actor)) as load:
        for _ in range(3):
            await asyncio.to_thread(own_nats_server.restart, is_killed=is_killed)
            await load.progress("calls after the restart")


async def test_no_change_is_lost_or_repeated_when_the_store_s_server_is_frozen_for_longer_than_callers_wait(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})], default_rpc_timeout_ms=1000)
    async with Load(caller(host, actor)) as load:
        for _ in range(2):
            own_nats_server.freeze()
            await load.trouble("errors of the frozen server", deadline_seconds=10)
            own_nats_server.thaw()
            await load.progress("calls after the thaw")


async def test_no_acknowledged_change_is_lost_when_the_provider_is_killed(hosts: Hosts) -> None:
    first = await hosts(RUST)
    actor = first.actor()
    await first.start_provider([first.link(actor)])
    async with Load(caller(first, actor), may_be_unanswered=True) as load:
        first.provider.signal(signal.SIGKILL)
        await first.provider.exited()
        who = first.who
        second = await hosts(RUST, lattice=who.lattice, provider_key=who.provider, cluster=who.cluster)
        await second.start_provider([second.link(actor)])
        await load.progress("calls after the start of the second provider")


async def test_every_total_of_increments_across_restarts_is_answered_once(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})])
    totals: list[int] = []
    unknown: list[str] = []
    is_over = False

    async def caller() -> None:
        while not is_over:
            try:
                totals.append(await host.increment(actor, "hits"))
            except CallFailedError as failed:
                if "outcome unknown" in str(failed):
                    unknown.append(str(failed))

    callers = [asyncio.ensure_future(caller()) for _ in range(CALLERS)]
    for _ in range(3):
        enough = len(totals) + PHASE_CALLS
        await eventually(lambda enough=enough: len(totals) >= enough, "increments", 15)  # type: ignore[misc]
        await asyncio.to_thread(own_nats_server.restart, is_killed=True)
    enough = len(totals) + PHASE_CALLS
    await eventually(lambda: len(totals) >= enough, "increments", 15)
    is_over = True
    await asyncio.gather(*callers)
    assert len(set(totals)) == len(totals)
    final = int(await host.get(actor, "hits") or 0)
    assert len(totals) <= final <= len(totals) + len(unknown)


# --- the lattice's own server


@pytest.fixture(params=[OTP, RUST], ids=["otp", "rust"])
async def exposed_host(
    request: pytest.FixtureRequest, own_nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[LatticeHost]:
    """A host in a lattice on the server that the test may stop."""
    async with LatticeHost(request.param, own_nats_server.url, tmp_path) as host:
        yield host


async def is_served(host: LatticeHost, actor: str) -> bool:
    try:
        await host.set(actor, "k", "v")
    except (CallFailedError, nats.errors.Error, TimeoutError):
        return False
    return True


async def test_a_provider_survives_restarts_of_the_lattice_s_server(
    exposed_host: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = exposed_host
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "before", "v")
    for is_killed in (True, False):
        await asyncio.to_thread(own_nats_server.restart, is_killed=is_killed)
        await eventually(lambda: is_served(host, actor), "calls after the restart", 15)
        assert await host.get(actor, "before") == "v"
    await host.shutdown()
    assert await host.provider.exited() == 0


async def test_a_link_record_written_while_the_provider_is_cut_off_is_read_afterwards(
    exposed_host: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = exposed_host
    actor = host.actor()
    data = LatticeData(host.client, host.who.lattice)
    await data.create()
    await host.start_provider()
    host.provider.freeze()
    await asyncio.to_thread(own_nats_server.restart, is_killed=True)

    async def is_written() -> bool:
        try:
            await data.put(host.link(actor))
        except (nats.errors.Error, TimeoutError, AssertionError):
            return False
        return True

    await eventually(is_written, "the record", 15)
    host.provider.signal(signal.SIGCONT)
    await eventually(lambda: is_served(host, actor), "the link of the record", 15)


async def test_a_provider_waits_for_a_lattice_that_starts_a_little_late(
    exposed_host: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = exposed_host
    actor = host.actor()
    await asyncio.to_thread(own_nats_server.stop)
    host.launch(host.family.encode_line(host.host_data([host.link(actor)])))
    await asyncio.to_thread(own_nats_server.start)
    await eventually(lambda: is_served(host, actor), "calls", 15)


async def test_a_signal_ends_a_provider_without_its_lattice(
    exposed_host: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = exposed_host
    await host.start_provider([host.link(host.actor())])
    await asyncio.to_thread(own_nats_server.kill)
    host.provider.signal(signal.SIGTERM)
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr
