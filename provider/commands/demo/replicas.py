"""Three replicas of a cache, one of which loses NATS for a while: shows each promise and checks it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from contracts import keyvalue
from contracts.keyvalue import Request
from provider.commands.demo.relay import Relay
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.lattice_host import Host, HostSettings
from provider.commands.dev_lattice.start import DevLattice, link_definition, make_identity, start_host
from provider.commands.errors import CommandError

REPLICAS = 3
_HEARTBEAT_SECONDS = 1
"""The shortest that a link allows, so that a lost connection is noticed soon."""

_LIMIT_SECONDS = 10.0
"""Replicas agree within milliseconds, and after a lost connection within a few heartbeats."""

_POLL_SECONDS = 0.02
"""Short, because the demonstration prints the time that a step took."""


@dataclass(frozen=True)
class ReplicaAnswers:
    """The answers of one replica to the same three reads."""

    greeting: str | None
    visits: str | None
    colours: tuple[str, ...]

    def __str__(self) -> str:
        greeting = "no greeting" if self.greeting is None else f"greeting {self.greeting}"
        return f"{greeting}, visits {self.visits}, {' '.join(self.colours) or 'no colours'}"


@dataclass(frozen=True)
class ReplicaOutcome:
    """One row: a step, and the answers of each replica after it."""

    step: str
    answers: tuple[str, ...]
    is_as_promised: bool

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.step, *self.answers)


@dataclass(frozen=True)
class DemoReplica:
    """One provider process with its cache, an actor that calls it, and the relay through which it reaches the others."""

    host: Host
    actor: Actor
    relay: Relay

    async def state(self) -> ReplicaAnswers:
        greeting = await self.actor.call(keyvalue.Get("greeting"))
        visits = await self.actor.call(keyvalue.Get("visits"))
        colours = await self.actor.call(keyvalue.SetQuery("colours"))
        return ReplicaAnswers(
            greeting.value if greeting.exists else None, visits.value if visits.exists else None, tuple(sorted(colours))
        )


@contextlib.asynccontextmanager
async def running_replicas(lattice: DevLattice, name: str) -> AsyncIterator[list[DemoReplica]]:
    """Start providers whose links share a cache. Each has its own provider key, so that a call addresses one replica.

    Args:
        lattice: Lattice whose server carries the replication, through one relay per replica.
        name: Name of a new lattice for these providers.
    """
    connection, nats_url = lattice.connection, lattice.nats_url
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        cluster_seed = make_identity(name, "cached").cluster_seed  # replicas believe only those of their own cluster
        for _ in range(REPLICAS):
            relay = await stack.enter_async_context(Relay(nats_url))
            identity = replace(make_identity(name, "cached"), cluster_seed=cluster_seed)
            values = {"BACKEND": "cache", "URL": relay.url, "REPLAY_HEARTBEAT_SECS": str(_HEARTBEAT_SECONDS)}
            settings = HostSettings(identity, nats_url, [link_definition(identity, values)])
            replicas.append(
                DemoReplica(await start_host(stack, connection, settings), Actor(connection, identity), relay)
            )
        yield replicas


async def show_partition(replicas: list[DemoReplica]) -> list[ReplicaOutcome]:
    """Write, cut one replica off, write on both sides, reconnect it, and check that all replicas agree."""
    first, second, third = replicas
    try:
        await _call(first, keyvalue.Set("greeting", "hello", 0), keyvalue.SetAdd("colours", "red"))
        await _call(first, keyvalue.Increment("visits", 10))
        outcomes = [await _all_are(replicas, "replica 1 writes", ReplicaAnswers("hello", "10", ("red",)))]
        third.relay.cut()
        outcomes.append(await _until(replicas, "replica 3 loses NATS", lambda: _is_cut_off(third)))
        await _call(first, keyvalue.Increment("visits", 1), keyvalue.SetDel("colours", "red"), keyvalue.Del("greeting"))
        await _call(second, keyvalue.Increment("visits", 2), keyvalue.SetAdd("colours", "green"))
        await _call(third, keyvalue.Increment("visits", 4), keyvalue.SetAdd("colours", "red"))
        apart = [
            ReplicaAnswers(None, "13", ("green",)),
            ReplicaAnswers(None, "13", ("green",)),
            ReplicaAnswers("hello", "14", ("red",)),
        ]
        outcomes.append(await _until(replicas, "all write meanwhile", lambda: _are(replicas, apart)))
        third.relay.heal()
        outcomes.append(await _all_are(replicas, "replica 3 is back", ReplicaAnswers(None, "17", ("green", "red"))))
    except CommandError as error:
        return [ReplicaOutcome(f"stopped: {error}", ("",) * REPLICAS, False)]
    return outcomes


async def _call(replica: DemoReplica, *requests: Request) -> None:
    for request in requests:
        await replica.actor.call(request)


async def _is_cut_off(replica: DemoReplica) -> bool:
    health = await replica.host.health()
    return not health.healthy and "it serves alone" in (health.message or "")


async def _are(replicas: list[DemoReplica], expected: list[ReplicaAnswers]) -> bool:
    return [await replica.state() for replica in replicas] == expected


async def _all_are(replicas: list[DemoReplica], step: str, expected: ReplicaAnswers) -> ReplicaOutcome:
    return await _until(replicas, step, lambda: _are(replicas, [expected] * len(replicas)))


async def _until(replicas: list[DemoReplica], step: str, condition: Callable[[], Awaitable[bool]]) -> ReplicaOutcome:
    """Wait until a condition holds or the limit is reached; return the time and the answers of each replica."""
    began = time.monotonic()
    holds = await condition()
    while not holds and time.monotonic() - began < _LIMIT_SECONDS:
        await asyncio.sleep(_POLL_SECONDS)
        holds = await condition()
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    return ReplicaOutcome(f"{step} ({took})", tuple([str(await replica.state()) for replica in replicas]), holds)
