"""Providers whose helper processes check signatures: frozen, killed and orphaned helpers, and links that change meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import LatticeHost, gather_outcomes
from tests.blackbox.proc import children, freeze
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or waits for nothing but its exit code to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


async def helped(hosts: Hosts, processes: int = 2, **options: Any) -> tuple[LatticeHost, str, list[int]]:
    """Return a host whose provider has helpers, a linked actor, and the helpers."""
    host = await hosts(RUST, **options)
    actor = host.actor()
    provider = await host.start_provider([host.link(actor)], {"signature_processes": processes})

    def are_ready() -> bool:
        return provider.stderr.count("signature_process_started") == processes

    await eventually(are_ready, "the helpers")
    return host, actor, children(provider.pid)


async def test_no_call_is_lost_or_served_unchecked_while_helpers_are_frozen_and_killed(hosts: Hosts) -> None:
    host, actor, helpers = await helped(hosts)
    forger = KeyPair.generate("C")
    forged = [
        host.invocation(actor, "KeyValue.Increment", b"\x82\xa3key\xa1k\xa5value\x01", key=forger) for _ in range(20)
    ]
    for number, fault in enumerate((freeze, lambda pid: os.kill(pid, signal.SIGKILL), None)):
        calls = [asyncio.ensure_future(host.increment(actor, "k")) for _ in range(100)]
        refused = [asyncio.ensure_future(host.invoke(invocation)) for invocation in forged]
        await asyncio.sleep(0)
        if fault is not None:
            fault(helpers[number])
        totals = await gather_outcomes(calls)
        assert sorted(totals) == list(range(100 * number + 1, 100 * number + 101))
        assert all("signature" in str(response.error) for response in await gather_outcomes(refused))
    await eventually(lambda: all(map(has_ended, helpers)), "the end of both")
    await eventually(lambda: len(children(host.provider.pid)) == 2, "new ones")
    assert "Traceback" not in host.provider.stderr


async def test_a_deleted_link_serves_the_calls_before_and_none_after_although_helpers_are_frozen(hosts: Hosts) -> None:
    host, actor, helpers = await helped(hosts)
    for helper in helpers:
        freeze(helper)
    before = [asyncio.ensure_future(host.increment(actor, "k")) for _ in range(50)]
    await asyncio.sleep(0)
    await host.delete_link(host.link(actor))
    after = [asyncio.ensure_future(host.error(actor, "Increment", {"key": "k", "value": 1})) for _ in range(50)]
    assert sorted(await gather_outcomes(before)) == list(range(1, 51))
    assert {"unlinked" in error for error in await gather_outcomes(after)} == {True}


async def test_helpers_end_with_a_provider_that_is_killed_also_those_that_are_frozen(hosts: Hosts) -> None:
    host, _, helpers = await helped(hosts)
    freeze(helpers[0])
    host.provider.signal(signal.SIGKILL)
    await host.provider.exited()
    await eventually(lambda: all(map(has_ended, helpers)), "the end of the helpers")
    assert not host.provider.is_stdout_open, "a host waits for the end of the pipe"


async def test_calls_in_flight_at_shutdown_are_answered_and_helpers_end(hosts: Hosts) -> None:
    host, actor, helpers = await helped(hosts)
    freeze(helpers[0])
    calls = [asyncio.ensure_future(host.increment(actor, "k")) for _ in range(100)]
    await asyncio.sleep(0)
    seconds = await host.shutdown()
    assert seconds < host.family.shutdown_seconds
    totals = await gather_outcomes(calls)
    assert sorted(totals) == list(range(1, 101)), "they arrived before the shutdown"
    assert await host.provider.exited() == 0
    assert all(map(has_ended, helpers))


async def test_there_are_no_helpers_where_the_setting_is_0(hosts: Hosts) -> None:
    host, actor, helpers = await helped(hosts, 0)
    assert sorted(await gather_outcomes([host.increment(actor, "k") for _ in range(50)])) == list(range(1, 51))
    assert helpers == children(host.provider.pid) == []
