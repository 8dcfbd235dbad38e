"""The speed of the provider on a bucket: rows of signed operations, and the yardsticks in between."""

from __future__ import annotations

import itertools
import time
from statistics import median

from contracts import keyvalue
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import DevLattice
from tests.bench.jobs import BenchPlan, Progress, echo_p50, make_job, run_job, yardstick
from tests.bench.report import Yardsticks
from tests.bench.rows import Row, median_row
from tests.bench.workloads import WorkloadName

NAIVE_SECONDS = 3
"""Duration of a naive loop, whose rate is steady after the first tenths of a second."""


async def measure_speed(lattice: DevLattice, plan: BenchPlan, progress: Progress) -> tuple[list[Row], Yardsticks]:
    """Measure every row of the plan and all yardsticks.

    The speed of a machine drifts. So each round measures all rows, and a signature check follows each round. The other
    parts of a single Get's latency are measured right before the rows.
    """
    signatures = [await yardstick(progress, "cpu_us", "signature")]
    echo_us = await echo_p50(lattice, lattice.identity, plan, progress)
    await lattice.actor.call(keyvalue.Set("bench.direct", "twenty characters :)", 0))
    subject = RawBucket(lattice.connection, lattice.settings.bucket).direct_get_subject("bench.direct")
    direct_us = await yardstick(progress, "p50_us", "direct-get", lattice.nats_url, subject)
    rounds: dict[tuple[WorkloadName, int], list[Row]] = {}
    for _ in range(plan.rounds):
        for workload, in_flight in itertools.product(plan.workloads, plan.in_flight):
            job = make_job(lattice, lattice.identity, workload, plan.count(workload, in_flight), in_flight)
            row = await run_job(job, lattice.provider_pids, progress)
            rounds.setdefault((workload, in_flight), []).append(row)
        signatures.append(await yardstick(progress, "cpu_us", "signature"))
    yardsticks = Yardsticks(
        signature_cpu_us=median(signatures),
        echo_p50_us=echo_us,
        direct_get_p50_us=direct_us,
        naive_counter_per_second=await _naive(lattice, progress, "naive-counter"),
        naive_set_per_second=await _naive(lattice, progress, "naive-set"),
    )
    return [median_row(measured) for measured in rounds.values()], yardsticks


async def _naive(lattice: DevLattice, progress: Progress, which: str) -> float:
    bucket = f"bench-{which}-{time.time_ns()}"
    return await yardstick(progress, "per_second", which, lattice.nats_url, bucket, str(NAIVE_SECONDS))
