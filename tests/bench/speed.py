"""Measure how fast the provider is: rows of signed operations, and the yardsticks in between."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from contracts import keyvalue
from provider.commands.dev_lattice.actor import DevIdentity
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import DevLattice
from tests.bench.children import ask_once, child
from tests.bench.load import Job, Measurement
from tests.bench.processes import cpu_microseconds
from tests.bench.report import Yardsticks
from tests.bench.rows import Row, median_row
from tests.bench.workloads import ROWS, WorkloadName

ECHO_SUBJECT = "keyvalue-nats.bench.echo"
NAIVE_SECONDS = 3
_SETTLE_SECONDS = 0.2
_SET_ADD_OPERATIONS = 1000

Progress = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        operations: How many at 64 in flight, all rounds together; fewer at less, because they take longer.
        rounds: How often everything is measured; what counts is the median round.
    """

    operations: int = 20_000
    workloads: tuple[WorkloadName, ...] = ROWS
    in_flight: tuple[int, ...] = (1, 16, 64)
    rounds: int = 3

    def count(self, workload: WorkloadName, in_flight: int) -> int:
        """Return how many operations one round of a row has."""
        share = 1 if in_flight >= 64 else 2 if in_flight >= 16 else 5
        count = max(self.operations // share // self.rounds, in_flight)
        return min(count, _SET_ADD_OPERATIONS) if workload is WorkloadName.SET_ADD else count


async def measure_speed(lattice: DevLattice, plan: Plan, progress: Progress) -> tuple[list[Row], Yardsticks]:
    """Measure every row of the plan and all yardsticks.

    Rounds go through all rows in turn, with a signature check after each, because the machine's speed drifts; the
    other parts of a single Get's latency are measured right before the rows.
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


def make_job(
    lattice: DevLattice, link: DevIdentity, workload: WorkloadName, count: int, in_flight: int, tag: str = ""
) -> Job:
    """Make a job; with an empty tag its keys are shared with no other job."""
    return Job(
        nats_url=lattice.nats_url,
        lattice=link.lattice,
        host_id=link.host_id,
        provider_key=link.provider_key,
        actor_id=link.actor_id,
        link_name=link.link_name,
        cluster_seed=link.cluster_seed.reveal(),
        workload=workload,
        count=count,
        in_flight=in_flight,
        tag=tag or str(time.time_ns()),
    )


async def run_job(job: Job, pids: list[int], progress: Progress, other_pids: Sequence[int] = ()) -> Row:
    """Run one job in a load generator of its own; the CPU of the providers counts only while it sends.

    Args:
        job: What to send.
        pids: Of the providers that serve it.
        progress: Told how far it is.
        other_pids: Of those that do not serve it but are told of it.
    """
    what = f"{job.workload} at {job.in_flight}"
    async with child("load") as load:
        await load.say(msgspec.json.encode(job))
        while "ready" not in (heard := await load.hear()):
            progress(f"{what}: signing", min(heard["signed"], job.count), job.count)
        await asyncio.sleep(_SETTLE_SECONDS)
        progress(f"{what}: running", 0, job.count)
        before_us, others_before_us = sum(map(cpu_microseconds, pids)), sum(map(cpu_microseconds, other_pids))
        await load.say(b"go")
        measured = msgspec.convert(await load.hear(), Measurement)
        used_us = sum(map(cpu_microseconds, pids)) - before_us
        others_used_us = sum(map(cpu_microseconds, other_pids)) - others_before_us
    progress(f"{what}: done", job.count, job.count)
    return Row(
        workload=job.workload,
        in_flight=job.in_flight,
        provider_cpu_us=used_us / job.count,
        others_cpu_us=others_used_us / job.count,
        measured=measured,
    )


async def echo_p50(lattice: DevLattice, link: DevIdentity, plan: Plan, progress: Progress) -> float:
    """Send the same signed Gets, one at a time, to a service that does nothing."""
    job = make_job(lattice, link, WorkloadName.GET, plan.count(WorkloadName.GET, 1), 1)
    async with child("yardsticks", "echo", lattice.nats_url, ECHO_SUBJECT) as echo:
        await echo.hear()
        row = await run_job(msgspec.structs.replace(job, echo_subject=ECHO_SUBJECT), [], progress)
    return row.measured.p50_us


async def yardstick(progress: Progress, field: str, *arguments: str) -> float:
    progress(f"yardstick: {arguments[0]}", 0, 1)
    answer = await ask_once("yardsticks", *arguments)
    progress(f"yardstick: {arguments[0]}", 1, 1)
    return float(answer[field])


async def _naive(lattice: DevLattice, progress: Progress, which: str) -> float:
    bucket = f"bench-{which}-{time.time_ns()}"
    return await yardstick(progress, "per_second", which, lattice.nats_url, bucket, str(NAIVE_SECONDS))
