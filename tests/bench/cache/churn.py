"""The growth of a cache while the same keys are set and deleted again and again: the calls of an hour in about a minute.

In a real hour a provider remembers the invocation ids of two minutes only. Here all ids would fall into two minutes and be
remembered, so replay checks are off. Heartbeats are a second apart. Memory is measured some heartbeats after the last
call, when the replicas have forgotten the deletions that all of them have seen.
"""

from __future__ import annotations

import asyncio
import time

from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import DevError
from tests.bench.bucket_size import MEBIBYTE
from tests.bench.cache.cache_report import Churn
from tests.bench.cache.instances import Instance, two_instances
from tests.bench.jobs import Progress, make_job, run_job
from tests.bench.workloads import KEYS, WorkloadName
from tests.blackbox.proc import resident_bytes

MINUTES = 60
_JOBS = 5
_IN_FLIGHT = 64
_SETTLE_SECONDS = 3.0
"""Three heartbeats: one for each replica to report the deletions it has seen, and one to spare."""


async def measure_churn(lattice: DevLattice, per_minute: int, progress: Progress) -> Churn:
    """Set and delete keys at one of two instances.

    Args:
        lattice: Lattice without providers.
        per_minute: Number of operations in a minute of the simulated hour.
        progress: Called with the progress.
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
    return [resident_bytes(each.provider.pid) / MEBIBYTE for each in instances]
