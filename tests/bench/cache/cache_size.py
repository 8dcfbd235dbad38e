"""The memory of many keys, the time of a join, and the latency of Gets at another instance meanwhile."""

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
from tests.bench.bucket_size import MEBIBYTE
from tests.bench.cache.cache_report import CacheSize
from tests.bench.cache.instances import Instance, instance
from tests.bench.cache.probe import PAUSE_SECONDS, Samples
from tests.bench.children import child
from tests.bench.jobs import Progress, make_job, run_job
from tests.bench.workloads import FILLED_VALUE_BYTES, KEYS, WorkloadName, filled_key
from tests.blackbox.proc import resident_bytes

_KEYS_PER_JOB = 20_000
"""Sets that a load generator signs and keeps in memory at a time."""

_IN_FLIGHT = 64
_SETTLE_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
_LONGEST_PROBE_SECONDS = 25.0
"""Time for which there are signed Gets: several times that of a join."""

_SHORTEST_WINDOW_SECONDS = 0.2
"""Time from the begin of a join in which Gets count, even if the join takes less: a p99 needs samples."""

_PROBED = "probed"


async def measure_cache_size(
    lattice: DevLattice, keys: int, joins: int, idle_seconds: float, progress: Progress
) -> CacheSize:
    """Fill a provider, then have others join it, one after the other, while Gets continue at the first.

    Args:
        lattice: Lattice without providers.
        keys: Number of keys. The Gets read `KEYS` further ones.
        joins: Number of joins.
        idle_seconds: Time for which Gets are measured before each join.
        progress: Called with the progress.

    Raises:
        DevError: A provider does not start, or a Get fails.
    """
    async with instance(lattice) as first:
        last_key = await _fill(lattice, first, keys, progress)
        await asyncio.sleep(_SETTLE_SECONDS)
        resident = resident_bytes(first.provider.pid) / MEBIBYTE
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
    """Set all keys once, by signed calls, and return the last one."""
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
    """A join: its time, the joiner's keys and memory at its end, and the latencies of Gets at the other before and during it."""

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
        await probe.send(msgspec.json.encode(job))
        while "ready" not in (received := await probe.receive()):
            progress("Gets beside a join: signing", min(received["signed"], count), count)
        await probe.send(b"go")
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
            await probe.send(b"stop")
            samples = msgspec.convert(await probe.receive(), Samples)
            megabytes = resident_bytes(joiner.provider.pid) / MEBIBYTE
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
        raise DevError(f"a joiner has reported that it has caught up, but lacks {key}")


def _between(samples: Samples, began_ns: int, ended_ns: int) -> list[int]:
    """Return the latencies of Gets that were under way between two times."""
    return [
        latency
        for sent, latency in zip(samples.sent_ns, samples.latency_ns, strict=True)
        if sent + latency > began_ns and sent < ended_ns
    ]


def _p99_us(latencies_ns: list[int]) -> float:
    if not latencies_ns:
        raise DevError("no Get was sent during a join")
    return sorted(latencies_ns)[len(latencies_ns) * 99 // 100] / 1000
