"""Nothing that was deleted, overwritten or has expired comes back when nats-server is killed again and again.

The server removes overwritten messages without a durable trace. Whether an older one returns depends on the files, so the writes
go on until each kill, in many blocks of the stream's file, with clean stops in between.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually

pytestmark = pytest.mark.slow

KEYS = 4_000
WORKERS = 8
KEYS_PER_CALL = 50
KEYS_PER_LOOK = 200
CALLS_PER_ROUND = 120
PADDING = "x" * 100
LARGEST_BUCKET = "4M"
"""The server makes a quarter of it a block. Each round writes some megabytes."""

ROUNDS = ["kill", "kill", "stop", "kill", "stop", "kill", "kill", "kill", "stop", "kill"]
LIFETIMES = (0, 0, 1, 2, 4, 60, None)
"""Seconds until a value ends, 0: never; `None`: a deletion."""

CLOCK_SECONDS = 0.25
"""Slack for the provider's idea of the server's clock."""


class State(NamedTuple):
    """A state that a key may be in: a value, and the earliest and the latest time of its end."""

    value: str | None
    earliest_end: float = float("inf")
    latest_end: float = float("inf")


class Model:
    """The states that each key may be in, by what was acknowledged. Each key is changed by one worker at a time."""

    def __init__(self, keys: list[str]) -> None:
        self._states: dict[str, list[State]] = {key: [State(None)] for key in keys}

    def acknowledged(self, key: str, state: State) -> None:
        self._states[key] = [state]

    def unknown(self, key: str, state: State) -> None:
        self._states[key].append(state)

    def explains(self, key: str, found: str | None, asked_at: float, told_at: float) -> bool:
        states = self._states[key]
        if found is None:
            return any(state.value is None or state.earliest_end - CLOCK_SECONDS <= told_at for state in states)
        return any(state.value == found and asked_at <= state.latest_end + CLOCK_SECONDS for state in states)


class Writers:
    """Workers that set and delete keys, until they are told to pause."""

    def __init__(self, host: LatticeHost, actor: str, keys: list[str], seed: int) -> None:
        self.model = Model(keys)
        self.acknowledged = 0
        self._host, self._actor = host, actor
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._may_write = asyncio.Event()
        self._idle = [asyncio.Event() for _ in range(WORKERS)]
        self._tasks = [asyncio.create_task(self._work(keys[number::WORKERS], number)) for number in range(WORKERS)]

    async def write_until(self, calls: int) -> None:
        """Write until so many calls have been acknowledged; the writing goes on."""
        enough = self.acknowledged + calls
        self._may_write.set()
        await eventually(lambda: self.acknowledged >= enough or self._failed(), "acknowledged calls", 60)

    async def pause(self) -> None:
        self._may_write.clear()
        await asyncio.gather(*(idle.wait() for idle in self._idle))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _failed(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return False

    async def _work(self, keys: list[str], number: int) -> None:
        while True:
            self._idle[number].set()
            await self._may_write.wait()
            self._idle[number].clear()
            chosen = self._random.sample(keys, KEYS_PER_CALL)
            lifetime = self._random.choice(LIFETIMES)
            values = {key: f"{next(self._numbers)}{PADDING}" for key in chosen}
            await self._change(values, lifetime)

    async def _change(self, values: dict[str, str], lifetime: int | None) -> None:
        sent_at = time.monotonic()
        if lifetime is None:
            operation, argument = "KeyValueBatch.DeleteMany", list[Any](values)
        else:
            operation = "KeyValueBatch.SetMany"
            argument = [{"key": key, "value": value, "expires": lifetime} for key, value in values.items()]
        try:
            results = await self._host.call(self._actor, operation, argument, 5)
            self.acknowledged += 1
        except (CallFailedError, TimeoutError) as failed:
            results = [{"key": key, "error": str(failed)} for key in values]
        told_at = time.monotonic()
        for result in results:
            key = result["key"]
            state = State(None if lifetime is None else values[key])
            if lifetime:
                state = State(values[key], sent_at + lifetime, told_at + lifetime)
            if result.get("error") is None:
                self.model.acknowledged(key, state)
            else:
                self.model.unknown(key, state)


async def look(host: LatticeHost, actor: str, keys: list[str]) -> tuple[list[Any], float, float]:
    """Read keys as soon as the store is there again; return the results and the times of the question and the answer."""
    found: list[Any] = []

    async def is_read() -> bool:
        nonlocal found
        try:
            found = [time.monotonic(), await host.call(actor, "KeyValueBatch.GetMany", keys, 5), time.monotonic()]
        except (CallFailedError, TimeoutError):
            return False
        return all("error" not in result or result["error"] is None for result in found[1])

    await eventually(is_read, "an answer", 20)
    asked_at, results, told_at = found
    return results, asked_at, told_at


async def test_no_value_comes_back_however_often_the_server_is_killed(
    tmp_path: Path, own_nats_server: NatsServer, nats_server: NatsServer
) -> None:
    keys = [f"user.{number}.session" for number in range(KEYS)]
    async with LatticeHost(RUST, nats_server.url, tmp_path) as host:
        actor = host.actor()
        link = {"URL": own_nats_server.url, "BUCKET": "killed", "MAX_BYTES": LARGEST_BUCKET}
        await host.start_provider([host.link(actor, link)])
        writers = Writers(host, actor, keys, seed=1)
        looks, wrong = 0, []
        for ending in ROUNDS:
            await writers.write_until(CALLS_PER_ROUND)
            await asyncio.to_thread(own_nats_server.kill if ending == "kill" else own_nats_server.stop)
            await writers.pause()
            await asyncio.to_thread(own_nats_server.start)
            for start in range(0, KEYS, KEYS_PER_LOOK):
                results, asked_at, told_at = await look(host, actor, keys[start : start + KEYS_PER_LOOK])
                for result in results:
                    looks += 1
                    value = result["value"] if result["exists"] else None
                    if not writers.model.explains(result["key"], value, asked_at, told_at):
                        wrong.append((ending, result["key"], (value or "absent").removesuffix(PADDING)))
        await writers.stop()
        assert looks == KEYS * len(ROUNDS)
        assert not wrong, f"{len(wrong)} of {looks}: {wrong[:10]}"
