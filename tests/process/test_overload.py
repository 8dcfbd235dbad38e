"""More calls than a provider accepts: it refuses the excess at once, with the limit, and answers the others in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.blackbox.host_families import OTP
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually

CALLER_SECONDS = 2.0
SHORT_MS = 1500
"""Time limit of calls in host data, short where the test waits for its end."""
AT_ONCE_SECONDS = 0.3


async def timed_error(host: LatticeHost, actor: str, operation: str, argument: Any) -> tuple[str, float]:
    began = time.monotonic()
    error = await host.error(actor, operation, argument, 10)
    return error, time.monotonic() - began


async def recovers(host: LatticeHost, actor: str, server: NatsServer) -> None:
    """Continue the store's server, and wait until the link works again."""
    server.thaw()

    async def is_served() -> bool:
        try:
            await host.set(actor, "after", "v")
        except Exception as failed:  # noqa: BLE001  (whatever it is: not yet)
            return "unlinked" in str(failed)
        return True

    await eventually(is_served, "a call served again", 15)
    assert await host.get(actor, "after") == "v"


async def test_a_call_over_the_limit_is_refused_at_once_with_the_name_of_the_limit(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    timeout_ms = 2000 if host.family is OTP else SHORT_MS
    link = host.link(actor, {"URL": own_nats_server.url})
    await host.start_provider([link], {"max_in_flight": 8}, default_rpc_timeout_ms=timeout_ms)
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    waiting = [
        asyncio.ensure_future(
            timed_error(host, actor, "Set", {"key": f"k{number}", "value": "v", "expires": 0})
            if number % 2
            else timed_error(host, actor, "Get", f"k{number}")
        )
        for number in range(8)
    ]
    await asyncio.sleep(0)
    for _ in range(3):
        error, seconds = await timed_error(host, actor, "Get", "k")
        assert "max_in_flight" in error
        assert "8" in error
        assert seconds < AT_ONCE_SECONDS
    for number, call in enumerate(waiting):
        error, seconds = await call
        assert seconds < timeout_ms / 1000, (number, error)
        assert "max_in_flight" not in error
        assert "outcome unknown" in error or "nothing was changed" in error, error
    await recovers(host, actor, own_nats_server)


async def test_payloads_over_the_total_limit_are_refused_with_the_name_of_the_limit(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider(
        [host.link(actor, {"URL": own_nats_server.url})],
        {"max_in_flight_bytes": 1_000_000},
        default_rpc_timeout_ms=SHORT_MS,
    )
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    argument = {"key": "big", "value": "x" * 400_000, "expires": 0}
    waiting = [asyncio.ensure_future(timed_error(host, actor, "Set", argument)) for _ in range(2)]
    await asyncio.sleep(0)
    error, seconds = await timed_error(host, actor, "Set", argument)
    assert "max_in_flight_bytes" in error
    assert seconds < AT_ONCE_SECONDS
    for call in waiting:
        error, seconds = await call
        assert seconds < SHORT_MS / 1000
        assert "max_in_flight" not in error
    await recovers(host, actor, own_nats_server)


async def test_a_frozen_store_does_not_delay_links_to_another(host: LatticeHost, own_nats_server: NatsServer) -> None:
    frozen, good = host.actor(), host.actor()
    await host.start_provider(
        [host.link(frozen, {"URL": own_nats_server.url}), host.link(good)], default_rpc_timeout_ms=SHORT_MS
    )
    await host.set(frozen, "k", "v")
    own_nats_server.freeze()
    waiting = [asyncio.ensure_future(timed_error(host, frozen, "Get", "k")) for _ in range(100)]
    await asyncio.sleep(0)
    began = time.monotonic()
    for number in range(20):
        await host.set(good, "k", str(number))
    assert time.monotonic() - began < CALLER_SECONDS
    for call in waiting:
        error, seconds = await call
        assert seconds < SHORT_MS / 1000, error


async def test_every_call_of_a_burst_of_3000_is_answered(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)], {"max_in_flight": 1000})
    await host.increment(actor, "hits")
    outcomes = await asyncio.gather(
        *(host.call(actor, "Increment", {"key": "hits", "value": 1}, 30) for _ in range(3000)), return_exceptions=True
    )
    served = [outcome for outcome in outcomes if isinstance(outcome, int)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert all("max_in_flight" in str(outcome) for outcome in refused), refused[:3]
    assert len(set(served)) == len(served)
    assert await host.get(actor, "hits") == str(len(served) + 1)
