"""Measure what many keys take, how long a joiner takes to get them, and what others notice of that."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median

import msgspec

from contracts import keyvalue
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import DevError
from tests.bench.cache.instances import Instance, instance
from tests.bench.cache.probe import PAUSE_SECONDS, Samples
from tests.bench.cache.report import CacheSize
from tests.bench.children import child
from tests.bench.processes import resident_megabytes
from tests.bench.speed import Progress, make_job, run_job
from tests.bench.workloads import FILLED_VALUE_BYTES, KEYS, WorkloadName, filled_key

_KEYS_PER_JOB = 20_000
_IN_FLIGHT = 64
_SETTLE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
_LONGEST_PROBE_SECONDS = 25.0
_SHORTEST_WINDOW_SECONDS = 0.2
"""Of a join that is over sooner, so long is looked at."""

_PROBED = "probed"


async def measure_cache_size(
    lattice: DevLattice, keys: int, joins: int, idle_seconds: float, progress: Progress
) -> CacheSize:
    """Fill a provider, then let others join it, one after the other, while Gets go on at the first.

    Args:
        lattice: One without providers.
        keys: How many; the Gets are of `KEYS` more.
        joins: How often.
        idle_seconds: How long Gets are measured before each join.
        progress: Told how far it is.

    Raises:
        DevError: A provider that does not come up, or a Get that fails.
    """
    async with instance(lattice) as first:
        last_key = await _fill(lattice, first, keys, progress)
        await asyncio.sleep(_SETTLE_SECONDS)
        resident = resident_megabytes(first.provider.pid)
        measured = []
        for number in range(joins):
            progress("joining", number, joins)
            measured.append(await _probe_join(lattice, first, last_key, idle_seconds, progress))
        progress("joining", joins, joins)
    idle = [sample for join in measured for sample in join.idle_ns]
    joining = [sample for join in measured for sample in join.joining_ns]
    return CacheSize(
        keys=keys,
        value_bytes=FILLED_VALUE_BYTES,
        resident_megabytes=resident,
        joiner_megabytes=max(join.megabytes for join in measured),
        joins=joins,
        join_seconds=median(join.seconds for join in measured),
        keys_lacking=sum(keys + KEYS - join.keys for join in measured),
        idle_p99_us=_p99_us(idle),
        joining_p99_us=_p99_us(joining),
        joining_gets=len(joining),
    )


async def _fill(lattice: DevLattice, first: Instance, keys: int, progress: Progress) -> str:
    """Set all keys, each once, by signed calls; return the last one."""
    last_key = ""
    for start in range(0, keys, _KEYS_PER_JOB):
        count = min(_KEYS_PER_JOB, keys - start)
        job = make_job(lattice, first.link, WorkloadName.FILL, count, _IN_FLIGHT, tag=str(start))
        row = await run_job(job, [first.provider.pid], progress)
        if row.measured.errors:
            raise DevError(f"{row.measured.errors} of {count} Sets failed: {row.measured.first_error}")
        last_key = filled_key(job.tag, count - 1)
    return last_key


@dataclass(frozen=True)
class _Join:
    """One join: how long it took, what the joiner had then, and how long Gets at the other took before and meanwhile."""

    seconds: float
    keys: int
    megabytes: float
    idle_ns: list[int]
    joining_ns: list[int]


async def _probe_join(
    lattice: DevLattice, first: Instance, last_key: str, idle_seconds: float, progress: Progress
) -> _Join:
    count = int(_LONGEST_PROBE_SECONDS / PAUSE_SECONDS)
    job = make_job(lattice, first.link, WorkloadName.GET, count, 1, tag=_PROBED)
    async with child("cache.probe") as probe:
        await probe.say(msgspec.json.encode(job))
        while "ready" not in (heard := await probe.hear()):
            progress("Gets beside a join: signing", min(heard["signed"], count), count)
        await probe.say(b"go")
        await asyncio.sleep(idle_seconds)
        idle_until_ns = time.perf_counter_ns()
        events: dict[str, int] = {}

        def note(event: LogEvent) -> None:
            events.setdefault(event.name, time.perf_counter_ns())

        async with instance(lattice, on_event=note) as joiner:
            caught_up = await joiner.provider.wait_for("cache_caught_up", timeout_seconds=_PATIENCE_SECONDS)
            await _must_exist(joiner, last_key)
            done_ns = time.perf_counter_ns()
            began_ns = min(events["ready"], events["cache_opened"])
            await asyncio.sleep(max(_SHORTEST_WINDOW_SECONDS - (done_ns - began_ns) / 1e9, 0))
            await probe.say(b"stop")
            samples = msgspec.convert(await probe.hear(), Samples)
            megabytes = resident_megabytes(joiner.provider.pid)
    if len(samples.sent_ns) == count:
        raise DevError(f"a join took longer than there were Gets to measure beside it: {_LONGEST_PROBE_SECONDS:g} s")
    ended_ns = max(events["cache_caught_up"], began_ns + int(_SHORTEST_WINDOW_SECONDS * 1e9))
    return _Join(
        seconds=(done_ns - events["ready"]) / 1e9,
        keys=int(caught_up.fields["keys"]),
        megabytes=megabytes,
        idle_ns=_between(samples, 0, idle_until_ns),
        joining_ns=_between(samples, began_ns, ended_ns),
    )


async def _must_exist(joiner: Instance, key: str) -> None:
    answer = await joiner.actor.call(keyvalue.Get(key))
    if not answer.exists:
        raise DevError(f"a joiner that has said that it has caught up does not have {key}")


def _between(samples: Samples, began_ns: int, ended_ns: int) -> list[int]:
    """Return the latencies of Gets under way at some time between two."""
    return [
        latency
        for sent, latency in zip(samples.sent_ns, samples.latency_ns, strict=True)
        if sent + latency > began_ns and sent < ended_ns
    ]


def _p99_us(latencies_ns: list[int]) -> float:
    if not latencies_ns:
        raise DevError("no Get was sent while somebody joined")
    return sorted(latencies_ns)[len(latencies_ns) * 99 // 100] / 1000
