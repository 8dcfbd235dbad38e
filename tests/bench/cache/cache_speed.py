"""The speed of Get and Set on a cache. One instance serves, and another one receives every Set."""

from __future__ import annotations

import itertools
from dataclasses import replace
from statistics import median

from contracts import keyvalue
from provider.commands.dev_lattice.start import DevLattice
from tests.bench.cache.cache_report import CacheSpeed
from tests.bench.cache.instances import Instance, instance, two_instances
from tests.bench.jobs import BenchPlan, Progress, echo_p50, make_job, run_job, yardstick
from tests.bench.rows import Row, median_row
from tests.bench.workloads import WorkloadName

_WORKLOADS = (WorkloadName.GET, WorkloadName.SET)


def cache_plan(plan: BenchPlan) -> BenchPlan:
    """Return the part of a plan that is measured on a cache."""
    return replace(plan, workloads=tuple(name for name in plan.workloads if name in _WORKLOADS))


async def measure_cache_speed(lattice: DevLattice, plan: BenchPlan, reads: int, progress: Progress) -> CacheSpeed:
    """Measure the rows of a plan, and in each round their yardsticks.

    Args:
        lattice: Lattice without providers.
        plan: Result of `cache_plan`.
        reads: Number of Gets at the other instance, each right after the first has acknowledged a Set.
        progress: Called with the progress.
    """
    rounds: dict[tuple[WorkloadName, int], list[Row]] = {}
    signatures, echoes = [], []
    async with two_instances(lattice) as (serving, other):
        for _ in range(plan.rounds):
            signatures.append(await yardstick(progress, "cpu_us", "signature"))
            echoes.append(await echo_p50(lattice, serving.link, plan, progress))
            for workload, in_flight in itertools.product(plan.workloads, plan.in_flight):
                job = make_job(lattice, serving.link, workload, plan.count(workload, in_flight), in_flight)
                row = await run_job(job, [serving.provider.pid], progress, [other.provider.pid])
                rounds.setdefault((workload, in_flight), []).append(row)
        older = await _older_elsewhere(serving, other, reads)
    lone = [row.measured.p50_us for row in await _lone_sets(lattice, plan, progress)]
    return CacheSpeed(
        rows=[median_row(measured) for measured in rounds.values()],
        signature_cpu_us=median(signatures),
        echo_p50_us=median(echoes),
        reads_elsewhere=reads,
        older_elsewhere=older,
        lone_set_p50_us=median(lone) if lone else None,
    )


async def _lone_sets(lattice: DevLattice, plan: BenchPlan, progress: Progress) -> list[Row]:
    """Measure single Sets without another instance: the latency that is due to the serving instance alone.

    On a machine with two cores, an instance that receives the Set competes with the caller for them.
    """
    if WorkloadName.SET not in plan.workloads or 1 not in plan.in_flight:
        return []
    count = plan.count(WorkloadName.SET, 1)
    async with instance(lattice) as alone:
        jobs = [make_job(lattice, alone.link, WorkloadName.SET, count, 1) for _ in range(plan.rounds)]
        return [await run_job(job, [alone.provider.pid], progress) for job in jobs]


async def _older_elsewhere(serving: Instance, other: Instance, reads: int) -> int:
    """Count the Gets at the other instance that do not see a Set which the first has acknowledged."""
    older = 0
    for number in range(reads):
        await serving.actor.call(keyvalue.Set("bench.elsewhere", str(number), 0))
        got = await other.actor.call(keyvalue.Get("bench.elsewhere"))
        older += got.value != str(number)
    return older
