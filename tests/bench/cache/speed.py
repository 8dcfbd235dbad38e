"""Measure Get and Set on a cache: one instance serves, another one is up, so that every Set is replicated."""

from __future__ import annotations

import itertools
from dataclasses import replace
from statistics import median

from contracts import keyvalue
from provider.commands.dev_lattice.start import DevLattice
from tests.bench.cache.instances import Instance, instance, two_instances
from tests.bench.cache.report import CacheSpeed
from tests.bench.rows import Row, median_row
from tests.bench.speed import Plan, Progress, echo_p50, make_job, run_job, yardstick
from tests.bench.workloads import WorkloadName

_WORKLOADS = (WorkloadName.GET, WorkloadName.SET)


def cache_plan(plan: Plan) -> Plan:
    """Return what of a plan is measured on a cache."""
    return replace(plan, workloads=tuple(name for name in plan.workloads if name in _WORKLOADS))


async def measure_cache_speed(lattice: DevLattice, plan: Plan, reads: int, progress: Progress) -> CacheSpeed:
    """Measure the rows of the plan that are for a cache, and in each round the yardsticks for them.

    Args:
        lattice: One without providers.
        plan: From `cache_plan`.
        reads: How many Gets are sent to the other instance right after a Set was acknowledged by the first.
        progress: Told how far it is.
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


async def _lone_sets(lattice: DevLattice, plan: Plan, progress: Progress) -> list[Row]:
    """Measure single Sets with no other instance up: what is left is what a Set costs its caller at the instance itself.

    On a machine of two cores an instance that is told of the Set competes with the caller for them.
    """
    if WorkloadName.SET not in plan.workloads or 1 not in plan.in_flight:
        return []
    count = plan.count(WorkloadName.SET, 1)
    async with instance(lattice) as alone:
        jobs = [make_job(lattice, alone.link, WorkloadName.SET, count, 1) for _ in range(plan.rounds)]
        return [await run_job(job, [alone.provider.pid], progress) for job in jobs]


async def _older_elsewhere(serving: Instance, other: Instance, reads: int) -> int:
    """Count the Gets that do not see at the other instance what the first has acknowledged."""
    older = 0
    for number in range(reads):
        await serving.actor.call(keyvalue.Set("bench.elsewhere", str(number), 0))
        got = await other.actor.call(keyvalue.Get("bench.elsewhere"))
        older += got.value != str(number)
    return older
