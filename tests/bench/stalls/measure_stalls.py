"""The measurement of stalls: Gets at a steady pace, and beside them one call after the other about a large set or list."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from contracts.keyvalue import (
    ListDel,
    ListRange,
    Request,
    Set,
    SetAdd,
    SetClear,
    SetDel,
    SetIntersection,
    SetQuery,
    SetUnion,
)
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import CommandError
from tests.bench.cache.instances import instance
from tests.bench.cache.probe import PAUSE_SECONDS, Samples
from tests.bench.children import ask_once, child
from tests.bench.jobs import Progress, make_job
from tests.bench.stalls.holder import VALUES
from tests.bench.stalls.stalls_report import StallRow, stall_row
from tests.bench.workloads import LARGE_LIST_KEY, LARGE_SET_KEY, WorkloadName, element_name, member_name
from tests.blackbox.waiting import eventually

_MOST_SECONDS = 30.0
"""Time for which there are signed Gets beside one call."""

_CALL_SECONDS = 60.0
_TAKE_OVER_SECONDS = 300.0
_IDLE_SECONDS = 1.0

_SMALL_SET_KEY = "bench.small.set"


def _calls(elements: int) -> list[tuple[str, Request]]:
    """Return the calls in their order; the last ones leave nothing."""
    last = element_name(elements - 1)
    return [
        ("SetQuery", SetQuery(LARGE_SET_KEY)),
        ("ListRange of all", ListRange(LARGE_LIST_KEY, 0, -1)),
        ("SetUnion with itself", SetUnion([LARGE_SET_KEY, LARGE_SET_KEY])),
        ("SetIntersection with itself", SetIntersection([LARGE_SET_KEY, LARGE_SET_KEY])),
        ("SetUnion with a small set", SetUnion([_SMALL_SET_KEY, LARGE_SET_KEY])),
        ("ListDel of the last element", ListDel(LARGE_LIST_KEY, last)),
        ("ListDel of no element", ListDel(LARGE_LIST_KEY, "no element")),
        ("SetAdd", SetAdd(LARGE_SET_KEY, "one more")),
        ("SetClear", SetClear(LARGE_SET_KEY)),
        ("Set in place of the list", Set(LARGE_LIST_KEY, "text", 0)),
    ]


class _Gets:
    """Gets at a steady pace."""

    def __init__(self, lattice: DevLattice, link: DevIdentity, backend: str, progress: Progress) -> None:
        self._lattice = lattice
        self._link = link
        self._backend = backend
        self._progress = progress

    async def beside(self, work: str, do: Callable[[], Awaitable[object]]) -> StallRow:
        """Do some work, and return the row of the Gets beside it."""
        name = f"stalls of a {self._backend}: {work}"
        self._progress(name, 0, 1)
        count = int(_MOST_SECONDS / PAUSE_SECONDS)
        job = make_job(self._lattice, self._link, WorkloadName.GET, count, 1, tag="stalls")
        async with child("cache.probe") as probe:
            await probe.send(msgspec.json.encode(job))
            while "ready" not in await probe.receive():
                pass
            await probe.send(b"go")
            await asyncio.sleep(_IDLE_SECONDS / 4)
            began_ns = time.perf_counter_ns()
            error = ""
            try:
                await do()
            except CommandError as failure:  # such as a call that its time is too short for
                error = str(failure)
            ended_ns = time.perf_counter_ns()
            await asyncio.sleep(_IDLE_SECONDS / 4)
            await probe.send(b"stop")
            samples = msgspec.convert(await probe.receive(), Samples)
        row = stall_row(self._backend, work, began_ns, ended_ns, samples.sent_ns, samples.latency_ns)
        row = msgspec.structs.replace(row, error=error)
        self._progress(f"{name}: longest Get {row.longest_ms:.1f} ms", 1, 1)
        return row

    async def beside_calls(self, elements: int) -> list[StallRow]:
        """Do each call once, one after the other."""
        actor = Actor(self._lattice.connection, self._link, timeout_seconds=_CALL_SECONDS)
        await actor.call(SetAdd(_SMALL_SET_KEY, "member"))
        rows = [await self.beside("nothing", lambda: asyncio.sleep(_IDLE_SECONDS))]
        for work, request in _calls(elements):
            rows.append(await self.beside(work, lambda request=request: actor.call(request)))  # type: ignore[misc]
        return rows


async def measure_bucket_stalls(lattice: DevLattice, elements: int, progress: Progress) -> list[StallRow]:
    """Measure on a lattice with one provider on a bucket."""
    await lattice.actor.call(SetAdd(_SMALL_SET_KEY, "member"))  # opens the bucket
    await ask_once("pages.large_values", "fill", lattice.nats_url, lattice.settings.bucket, str(elements))
    return await _Gets(lattice, lattice.identity, "bucket", progress).beside_calls(elements)


async def measure_cache_stalls(lattice: DevLattice, elements: int, progress: Progress) -> list[StallRow]:
    """Measure on a lattice without providers; another replica brings the values, and learns of the changes."""
    async with instance(lattice, values=VALUES) as one, _holder(lattice, one.link, elements) as begin:
        gets = _Gets(lattice, one.link, "cache", progress)
        actor = Actor(lattice.connection, one.link, timeout_seconds=_CALL_SECONDS)

        async def take_over() -> None:
            await begin()
            last, last_member = ListRange(LARGE_LIST_KEY, elements - 1, elements - 1), member_name(elements - 1)

            async def is_there() -> bool:
                await asyncio.sleep(0.1)
                return bool(await actor.call(last)) and bool(await actor.call(SetDel(LARGE_SET_KEY, last_member)))

            await eventually(is_there, "the other replica's values", _TAKE_OVER_SECONDS)

        taken = await gets.beside("a transfer of both", take_over)
        return [taken, *await gets.beside_calls(elements)]


@contextlib.asynccontextmanager
async def _holder(
    lattice: DevLattice, link: DevIdentity, elements: int
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with child("stalls.holder", lattice.nats_url, link.lattice, link.link_name, str(elements)) as holder:
        yield holder.receive
