"""Three replicas of a cache, one of them cut off for a while: each promise shown and checked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from nats.aio.client import Client

from contracts import keyvalue
from contracts.keyvalue import Request
from provider.commands.demo.relay import Relay
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.lattice_host import Host, HostSettings
from provider.commands.dev_lattice.start import link_definition, make_identity, start_host
from provider.commands.errors import CommandError

REPLICAS = 3
_HEARTBEAT_SECONDS = 1
_PATIENCE_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.02


@dataclass(frozen=True)
class State:
    """What one replica answers."""

    greeting: str | None
    visits: str | None
    colours: tuple[str, ...]

    def __str__(self) -> str:
        greeting = "no greeting" if self.greeting is None else f"greeting {self.greeting}"
        return f"{greeting}, visits {self.visits}, {' '.join(self.colours) or 'no colours'}"


@dataclass(frozen=True)
class ReplicaOutcome:
    """One row: what was done, and what each replica answers then."""

    what: str
    shown: tuple[str, ...]
    is_as_promised: bool

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.what, *self.shown)


@dataclass(frozen=True)
class Replica:
    """One provider process with its cache, an actor that calls it, and the relay over which it reaches the others."""

    host: Host
    actor: Actor
    relay: Relay

    async def state(self) -> State:
        greeting = await self.actor.call(keyvalue.Get("greeting"))
        visits = await self.actor.call(keyvalue.Get("visits"))
        colours = await self.actor.call(keyvalue.SetQuery("colours"))
        return State(
            greeting.value if greeting.exists else None, visits.value if visits.exists else None, tuple(sorted(colours))
        )


@contextlib.asynccontextmanager
async def running_replicas(connection: Client, nats_url: str, lattice: str) -> AsyncIterator[list[Replica]]:
    """Start providers whose links share a cache, each with a provider key of its own, so that a call knows its replica.

    Args:
        connection: Of the lattice.
        nats_url: Of its server; what the replicas tell each other goes through relays before it.
        lattice: Its name.
    """
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        for _ in range(REPLICAS):
            relay = await stack.enter_async_context(Relay(nats_url))
            link = make_identity(lattice, "cached")
            values = {"BACKEND": "cache", "URL": relay.url, "REPLAY_HEARTBEAT_SECS": str(_HEARTBEAT_SECONDS)}
            settings = HostSettings(link, nats_url, [link_definition(link, values)])
            replicas.append(Replica(await start_host(stack, connection, settings), Actor(connection, link), relay))
        yield replicas


async def show_a_cut(replicas: list[Replica]) -> list[ReplicaOutcome]:
    """Write, cut one replica off, write on both sides, heal, and look whether all are as they should be."""
    first, second, third = replicas
    try:
        await _call(first, keyvalue.Set("greeting", "hello", 0), keyvalue.SetAdd("colours", "red"))
        await _call(first, keyvalue.Increment("visits", 10))
        outcomes = [await _all_like(replicas, "replica 1 writes", State("hello", "10", ("red",)))]
        third.relay.cut()
        outcomes.append(await _until(replicas, "replica 3 loses NATS", lambda: _is_cut_off(third)))
        await _call(first, keyvalue.Increment("visits", 1), keyvalue.SetDel("colours", "red"), keyvalue.Del("greeting"))
        await _call(second, keyvalue.Increment("visits", 2), keyvalue.SetAdd("colours", "green"))
        await _call(third, keyvalue.Increment("visits", 4), keyvalue.SetAdd("colours", "red"))
        apart = [State(None, "13", ("green",)), State(None, "13", ("green",)), State("hello", "14", ("red",))]
        outcomes.append(await _until(replicas, "all write meanwhile", lambda: _are(replicas, apart)))
        third.relay.heal()
        outcomes.append(await _all_like(replicas, "replica 3 is back", State(None, "17", ("green", "red"))))
    except CommandError as error:
        return [ReplicaOutcome(f"stopped: {error}", ("",) * REPLICAS, False)]
    return outcomes


async def _call(replica: Replica, *requests: Request) -> None:
    for request in requests:
        await replica.actor.call(request)


async def _is_cut_off(replica: Replica) -> bool:
    health = await replica.host.health()
    return not health.healthy and "it serves alone" in (health.message or "")


async def _are(replicas: list[Replica], expected: list[State]) -> bool:
    return [await replica.state() for replica in replicas] == expected


async def _all_like(replicas: list[Replica], what: str, expected: State) -> ReplicaOutcome:
    return await _until(replicas, what, lambda: _are(replicas, [expected] * len(replicas)))


async def _until(replicas: list[Replica], what: str, is_so: Callable[[], Awaitable[bool]]) -> ReplicaOutcome:
    """Wait until something is so, for a while, and show how long that took and what each replica answers then."""
    began = time.monotonic()
    found = await is_so()
    while not found and time.monotonic() - began < _PATIENCE_SECONDS:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        found = await is_so()
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    return ReplicaOutcome(f"{what} ({took})", tuple([str(await replica.state()) for replica in replicas]), found)
