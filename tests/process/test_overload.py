"""More calls than a provider accepts: it refuses the excess at once, with the limit, and answers the others.

"At once" is before the others: no test measures time. Limits of time are far beyond what a busy machine needs, except where a
test waits for their end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost, gather_outcomes
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts

LONG_MS = 45_000
"""Time limit of calls in host data that no test waits for."""

SHORT_MS = 1500
"""Time limit of calls in host data where the test waits for its end."""

CALLER_SECONDS = 45.0

Calls = list[asyncio.Future[Any]]


def begin(host: LatticeHost, actor: str, operation: str, *arguments: Any) -> Calls:
    """Begin a call for each argument."""
    return [asyncio.ensure_future(host.call(actor, operation, argument, CALLER_SECONDS)) for argument in arguments]


async def refused(host: LatticeHost, actor: str, operation: str, argument: Any, others: Calls) -> str:
    """Return the error of a call that is answered before others that came earlier."""
    error = await host.error(actor, operation, argument, CALLER_SECONDS)
    assert not any(call.done() for call in others)
    return error


def setting(number: int, value: str = "v") -> dict[str, Any]:
    return {"key": f"k{number}", "value": value, "expires": 0}


async def recovers(host: LatticeHost, actor: str, server: NatsServer, waiting: Calls) -> None:
    """Continue the store's server, see every call answered and none refused, and the link at work again."""
    server.thaw()
    outcomes = await gather_outcomes(waiting)
    assert not [outcome for outcome in outcomes if "max_in_flight" in str(outcome)]

    async def is_served() -> bool:
        try:
            await host.set(actor, "after", "v")
        except Exception as failed:  # noqa: BLE001  (whatever it is: not yet)
            return "unlinked" in str(failed)
        return True

    await eventually(is_served, "a call served again", CALLER_SECONDS)
    assert await host.get(actor, "after") == "v"


async def test_a_call_over_the_limit_is_refused_at_once_with_the_name_of_the_limit(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    link = host.link(actor, {"URL": own_nats_server.url})
    await host.start_provider([link], {"max_in_flight": 8}, default_rpc_timeout_ms=LONG_MS)
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    waiting = [
        *begin(host, actor, "Set", *map(setting, range(4))),
        *begin(host, actor, "Get", *(f"k{number}" for number in range(4))),
    ]
    await asyncio.sleep(0)
    for _ in range(3):
        error = await refused(host, actor, "Get", "k", waiting)
        assert "max_in_flight" in error
        assert "8" in error
    await recovers(host, actor, own_nats_server, waiting)


async def test_payloads_over_the_total_limit_are_refused_with_the_name_of_the_limit(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    link = host.link(actor, {"URL": own_nats_server.url})
    await host.start_provider([link], {"max_in_flight_bytes": 1_000_000}, default_rpc_timeout_ms=LONG_MS)
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    large = [setting(number, "x" * 400_000) for number in range(3)]
    waiting = begin(host, actor, "Set", *large[:2])
    await asyncio.sleep(0)
    assert "max_in_flight_bytes" in await refused(host, actor, "Set", large[2], waiting)
    await recovers(host, actor, own_nats_server, waiting)


async def test_a_frozen_store_does_not_delay_links_to_another(host: LatticeHost, own_nats_server: NatsServer) -> None:
    frozen, good = host.actor(), host.actor()
    links = [host.link(frozen, {"URL": own_nats_server.url}), host.link(good)]
    await host.start_provider(links, default_rpc_timeout_ms=LONG_MS)
    await host.set(frozen, "k", "v")
    own_nats_server.freeze()
    waiting = begin(host, frozen, "Get", *["k"] * 100)
    await asyncio.sleep(0)
    for number in range(20):
        await host.set(good, "k", str(number))
    assert not any(call.done() for call in waiting)
    await recovers(host, frozen, own_nats_server, waiting)


async def test_calls_at_a_frozen_store_end_with_an_error_that_tells_whether_anything_was_changed(
    hosts: Hosts, own_nats_server: NatsServer
) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    link = host.link(actor, {"URL": own_nats_server.url})
    await host.start_provider([link], {"max_in_flight": 8}, default_rpc_timeout_ms=SHORT_MS)
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    waiting = [*begin(host, actor, "Set", *map(setting, range(4))), *begin(host, actor, "Get", *["k"] * 4)]
    for outcome in await gather_outcomes(waiting):
        assert "outcome unknown" in str(outcome) or "nothing was changed" in str(outcome), outcome
    await recovers(host, actor, own_nats_server, [])


async def test_every_call_of_a_burst_of_3000_is_answered(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)], {"max_in_flight": 1000}, default_rpc_timeout_ms=LONG_MS)
    await host.increment(actor, "hits")
    outcomes = await gather_outcomes(begin(host, actor, "Increment", *[{"key": "hits", "value": 1}] * 3000))
    served = [outcome for outcome in outcomes if isinstance(outcome, int)]
    others = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert all("max_in_flight" in str(outcome) for outcome in others), others[:3]
    assert len(set(served)) == len(served)
    assert await host.get(actor, "hits") == str(len(served) + 1)
