"""Servers and providers killed, frozen and started again under load: what was acknowledged happened exactly once."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import nats.errors
import pytest

from tests.blackbox.families import OTP, RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats_server import NatsServer
from tests.blackbox.records import LatticeData
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts

CALLERS = 24
PHASE_CALLS = 150
PATIENCE_SECONDS = 2.0


@dataclass
class Ledger:
    """What callers were told about each member that they added to a list."""

    served: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return len(self.served) + len(self.refused) + len(self.unknown)


async def add(host: LatticeHost, actor: str, ledger: Ledger, member: str) -> None:
    name = f"list{hash(member) % 3}"
    try:
        await host.call(actor, "ListAdd", {"listName": name, "value": member}, PATIENCE_SECONDS)
    except CallFailedError as failed:
        (ledger.unknown if "outcome unknown" in str(failed) else ledger.refused).append(member)
        ledger.reasons[str(failed)[:100]] += 1
    except nats.errors.NoRespondersError:
        ledger.refused.append(member)
        await asyncio.sleep(0.01)
    except nats.errors.TimeoutError:
        ledger.unanswered.append(member)
    else:
        ledger.served.append(member)


class Load:
    """Callers that keep adding members, each of them once, until they are told to stop."""

    def __init__(self, host: LatticeHost, actor: str, prefix: str = "") -> None:
        self.ledger = Ledger()
        self._host = host
        self._actor = actor
        self._is_over = False
        self._members = (f"{prefix}{number}" for number in itertools.count())
        self._callers = [asyncio.ensure_future(self._call()) for _ in range(CALLERS)]

    async def progress(self, what: str) -> None:
        """Wait until so many more have been served."""
        enough = len(self.ledger.served) + PHASE_CALLS
        await eventually(lambda: len(self.ledger.served) >= enough, what, 15)

    async def over(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)

    async def _call(self) -> None:
        while not self._is_over:
            await add(self._host, self._actor, self.ledger, next(self._members))


async def check(host: LatticeHost, actor: str, ledger: Ledger) -> None:
    """Compare the lists with what callers were told."""
    found: Counter[str] = Counter()
    for number in range(3):
        found.update(await host.call(actor, "ListRange", {"listName": f"list{number}", "start": 0, "stop": -1}))
    assert {member: found[member] for member in ledger.served if found[member] != 1} == {}
    assert [member for member in ledger.refused if found[member]] == []
    assert [member for member, count in found.items() if count > 1] == []
    known = {*ledger.served, *ledger.unknown, *ledger.unanswered}
    assert set(found) <= known


@pytest.fixture
async def host(hosts: Hosts) -> LatticeHost:
    return await hosts(RUST)


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_a_store_server_that_is_restarted_loses_and_repeats_nothing(
    host: LatticeHost, own_nats_server: NatsServer, is_killed: bool
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})])
    load = Load(host, actor)
    await load.progress("calls before")
    for _ in range(3):
        await asyncio.to_thread(own_nats_server.restart, is_killed=is_killed)
        await load.progress("calls after the restart")
    await load.over()
    assert load.ledger.unanswered == []
    await check(host, actor, load.ledger)


async def test_a_store_server_that_is_frozen_for_longer_than_callers_wait_loses_and_repeats_nothing(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})], default_rpc_timeout_ms=1000)
    load = Load(host, actor)
    await load.progress("calls before")
    for _ in range(2):
        own_nats_server.freeze()
        failed = len(load.ledger.refused) + len(load.ledger.unknown)

        def have_failed(before: int = failed) -> bool:
            return len(load.ledger.refused) + len(load.ledger.unknown) >= before + CALLERS

        await eventually(have_failed, "errors of the frozen server")
        own_nats_server.thaw()
        await load.progress("calls after the thaw")
    await load.over()
    assert load.ledger.unanswered == []
    await check(host, actor, load.ledger)


async def test_a_provider_that_is_killed_loses_nothing_that_it_acknowledged(hosts: Hosts) -> None:
    first = await hosts(RUST)
    actor = first.actor()
    await first.start_provider([first.link(actor)])
    load = Load(first, actor)
    await load.progress("calls before")
    first.provider.signal(signal.SIGKILL)
    await first.provider.exited()
    second = await hosts(RUST, lattice=first.who.lattice, provider_key=first.who.provider, cluster=first.who.cluster)
    await second.start_provider([second.link(actor)])
    await load.progress("calls after")
    await load.over()
    await check(second, actor, load.ledger)


async def test_increments_across_restarts_answer_every_total_once(
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
async def elsewhere(
    request: pytest.FixtureRequest, own_nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[LatticeHost]:
    """A host whose lattice is on the server that the test may stop."""
    async with LatticeHost(request.param, own_nats_server.url, tmp_path) as host:
        yield host


async def is_served(host: LatticeHost, actor: str) -> bool:
    try:
        await host.set(actor, "k", "v")
    except (CallFailedError, nats.errors.Error, TimeoutError):
        return False
    return True


async def test_a_provider_outlives_restarts_of_the_lattice_s_server(
    elsewhere: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = elsewhere
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "before", "v")
    for is_killed in (True, False):
        await asyncio.to_thread(own_nats_server.restart, is_killed=is_killed)
        await eventually(lambda: is_served(host, actor), "calls after the restart", 15)
        assert await host.get(actor, "before") == "v"
    await host.shutdown()
    assert await host.provider.exited() == 0


async def test_a_record_written_while_the_provider_was_cut_off_is_taken_up_after_it(
    elsewhere: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = elsewhere
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


async def test_a_lattice_that_comes_up_a_little_late_is_waited_for(
    elsewhere: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = elsewhere
    actor = host.actor()
    await asyncio.to_thread(own_nats_server.stop)
    host.launch(host.family.encode_line(host.host_data([host.link(actor)])))
    await asyncio.to_thread(own_nats_server.start)
    await eventually(lambda: is_served(host, actor), "calls", 15)


async def test_a_signal_ends_a_provider_whose_lattice_is_gone(
    elsewhere: LatticeHost, own_nats_server: NatsServer
) -> None:
    host = elsewhere
    await host.start_provider([host.link(host.actor())])
    await asyncio.to_thread(own_nats_server.kill)
    host.provider.signal(signal.SIGTERM)
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr
