"""Measure whether a cache grows when the same keys are set and deleted over and over: an hour of it, compressed in time.

A real hour of so many calls remembers the ids of two minutes only, here all of them would be remembered, as all come within
a minute; so replay checks are off. Heartbeats are a second apart, and memory is looked at some heartbeats after the last
call, when what everybody has seen to be deleted has been forgotten.
"""

from __future__ import annotations

import asyncio
import time

from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import DevError
from tests.bench.cache.instances import Instance, two_instances
from tests.bench.cache.report import Churn
from tests.bench.processes import resident_megabytes
from tests.bench.speed import Progress, make_job, run_job
from tests.bench.workloads import KEYS, WorkloadName

MINUTES = 60
_JOBS = 5
_IN_FLIGHT = 64
_SETTLE_SECONDS = 3.0


async def measure_churn(lattice: DevLattice, per_minute: int, progress: Progress) -> Churn:
    """Churn at one of two instances.

    Args:
        lattice: One without providers.
        per_minute: How many operations stand for a minute.
        progress: Told how far it is.
    """
    began = time.perf_counter()
    values, config = {"REPLAY_HEARTBEAT_SECS": "1"}, {"replay_window_seconds": 0}
    async with two_instances(lattice, values=values, config=config) as instances:
        await _churn(lattice, instances[0], per_minute, progress)
        first = await _megabytes(instances)
        for _ in range(_JOBS):
            await _churn(lattice, instances[0], per_minute * (MINUTES - 1) // _JOBS, progress)
        last = await _megabytes(instances)
    return Churn(
        operations=per_minute + _JOBS * (per_minute * (MINUTES - 1) // _JOBS),
        keys=KEYS,
        seconds=time.perf_counter() - began,
        first_megabytes=first,
        last_megabytes=last,
    )


async def _churn(lattice: DevLattice, at: Instance, count: int, progress: Progress) -> None:
    job = make_job(lattice, at.link, WorkloadName.CHURN, count, _IN_FLIGHT, tag="churned")
    row = await run_job(job, [at.provider.pid], progress)
    if row.measured.errors:
        raise DevError(f"{row.measured.errors} of {count} operations failed: {row.measured.first_error}")


async def _megabytes(instances: tuple[Instance, ...]) -> list[float]:
    await asyncio.sleep(_SETTLE_SECONDS)
    return [resident_megabytes(each.provider.pid) for each in instances]
