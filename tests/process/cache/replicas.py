"""Replicas of one cache, each a provider process on a nats-server of its own, and what can be seen of their states.

A key's first letter says how its state is read: `t` text and `n` counter by Get, `l` list, `s` set, `x` in every way.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.leaf_lattice import LeafLattice
from tests.conformance.actor import Actor

HEARTBEAT_SECONDS = 1
CONVERGENCE_SECONDS = 2 * HEARTBEAT_SECONDS + 4.0
"""Two heartbeats, and four seconds for machines that do other work."""
ANSWER_SECONDS = 2.0
"""Time a caller waits; nothing may keep it waiting longer."""

_READS_TOGETHER = 256
_SHOWN = 5

State = dict[str, Any]


class Replicas:
    """Providers with the same lattice and link name on servers joined by leaf links. An async context manager.

    Each has a provider key of its own, so that a call is served where it is made. When it ends without an error, no
    provider may have logged a traceback.

    Args:
        folder: Folder for the files of servers and providers.
        server_count: How many servers; the first is the hub.
        server_config: Text added to the configuration of each server.
        values: Link values of every replica.

    Attributes:
        name: Name of the lattice.
        cluster: Key of the cluster.
    """

    def __init__(self, folder: Path, server_count: int, server_config: str = "", **values: Any) -> None:
        self.lattice = LeafLattice(folder, server_count, server_config)
        self.name = f"lattice-{uuid.uuid4().hex[:12]}"
        self._folder = folder
        self._values = {"BACKEND": "cache", "REPLAY_HEARTBEAT_SECS": str(HEARTBEAT_SECONDS)} | values
        self.cluster = KeyPair.generate("C")
        self._stack = AsyncExitStack()
        self._started: list[LatticeHost] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.lattice)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logs = [host.provider.stderr for host in self._started]
        await self._stack.aclose()
        if error is None:
            for log in logs:
                assert "Traceback" not in log, log
                assert "never awaited" not in log, log

    async def start(self, server: int, **values: Any) -> Actor:
        """Start one more replica at a server and return an actor linked to it, once it answers."""
        folder = self._folder / f"replica-{len(self._started)}"
        host = await self._stack.enter_async_context(
            LatticeHost(RUST, self.lattice.servers[server].url, folder, lattice=self.name, cluster=self.cluster)
        )
        public_key = host.actor()
        self._started.append(host)
        await host.start_provider([host.link(public_key, self._values | values)])
        return Actor(host, public_key, caller_seconds=ANSWER_SECONDS)

    async def start_all(self) -> list[Actor]:
        """Start a replica at each server, and return once each is known to hear the others."""
        actors = await asyncio.gather(*(self.start(number) for number in range(len(self.lattice.servers))))
        for number, actor in enumerate(actors):
            await actor.set(f"t:started-{number}", "yes")
        await converged(actors, [f"t:started-{number}" for number in range(len(actors))], deadline_seconds=10)
        return list(actors)


async def state(actor: Actor, keys: Iterable[str]) -> State:
    """Return what an actor sees at each key."""
    found: State = {}
    wanted = list(keys)
    for start in range(0, len(wanted), _READS_TOGETHER):
        some = wanted[start : start + _READS_TOGETHER]
        found.update(zip(some, await asyncio.gather(*(_look(actor, key) for key in some)), strict=True))
    return found


async def converged(
    actors: Sequence[Actor], keys: Iterable[str], deadline_seconds: float = CONVERGENCE_SECONDS
) -> State:
    """Return the state that all replicas have, as soon as they have the same.

    Raises:
        AssertionError: A look that began at the deadline still found differences; shows some of them.
    """
    wanted = list(keys)
    deadline = time.monotonic() + deadline_seconds
    while True:
        is_last_look = time.monotonic() > deadline
        states = await asyncio.gather(*(state(actor, wanted) for actor in actors))
        different = [key for key in wanted if any(found[key] != states[0][key] for found in states)]
        if not different:
            return states[0]
        if is_last_look:
            shown = "\n".join(f"{key}: {[_short(found[key]) for found in states]}" for key in different[:_SHOWN])
            raise AssertionError(f"{len(different)} keys differ after {deadline_seconds} s\n{shown}")
        await asyncio.sleep(0.02)


async def sees(actor: Actor, expected: State, deadline_seconds: float = CONVERGENCE_SECONDS) -> None:
    """Wait until an actor sees exactly the expected values at the keys named."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        is_last_look = time.monotonic() > deadline
        found = await state(actor, expected)
        different = [key for key in expected if found[key] != expected[key]]
        if not different:
            return
        if is_last_look:
            shown = "\n".join(
                f"{key}: {_short(found[key])}, expected {_short(expected[key])}" for key in different[:_SHOWN]
            )
            raise AssertionError(f"{len(different)} keys are otherwise after {deadline_seconds} s\n{shown}")
        await asyncio.sleep(0.02)


async def all_see(actors: Sequence[Actor], expected: State, deadline_seconds: float = CONVERGENCE_SECONDS) -> None:
    """Wait until every actor sees exactly the expected values at the keys named."""
    await asyncio.gather(*(sees(actor, expected, deadline_seconds) for actor in actors))


async def heartbeats_pass(count: int) -> None:
    """Let some heartbeats pass: that nothing happens in them has no condition to wait for."""
    await asyncio.sleep(count * HEARTBEAT_SECONDS + 0.2)


async def _look(actor: Actor, key: str) -> Any:
    match key[0]:
        case "t" | "n":
            return await actor.get(key)
        case "l":
            return await actor.list_range(key)
        case "s":
            return await actor.set_query(key)
    reads = (actor.get(key), actor.list_range(key), actor.set_query(key), actor.contains(key))
    return [await _outcome(read) for read in reads]


async def _outcome(read: Any) -> Any:
    try:
        return await read
    except CallFailedError as error:
        return str(error)


def _short(value: Any) -> str:
    text = json.dumps(sorted(value) if isinstance(value, set) else value)
    return text if len(text) < 200 else f"{text[:200]}… ({len(value)})"
