"""Jobs for the load generator: one workload, run in a process of its own, and the row that it measures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.start import DevLattice
from tests.bench.children import ask_once, child
from tests.bench.load_generator import Job, Measurement
from tests.bench.rows import Row
from tests.bench.workloads import ROWS, WorkloadName
from tests.blackbox.proc import cpu_microseconds

ECHO_SUBJECT = "keyvalue-nats.bench.echo"

_SETTLE_SECONDS = 0.2
"""Time for the provider to finish the work that the preparation has left, before its CPU time counts."""

_SET_ADD_OPERATIONS = 1000
"""Most additions to sets: each is preceded by hundreds that fill the set."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the current step, the part of it that is done, and the whole."""


@dataclass(frozen=True)
class BenchPlan:
    """The rows to measure.

    Attributes:
        operations: Number of operations at 64 in flight, over all rounds. There are fewer at less, since they take longer.
        workloads: Workloads of the rows.
        in_flight: Numbers of operations in flight of the rows.
        rounds: Number of measurements of each row, of which the median counts.
    """

    operations: int = 20_000
    workloads: tuple[WorkloadName, ...] = ROWS
    in_flight: tuple[int, ...] = (1, 16, 64)
    rounds: int = 3

    def count(self, workload: WorkloadName, in_flight: int) -> int:
        """Return the number of operations in one round of a row."""
        share = 1 if in_flight >= 64 else 2 if in_flight >= 16 else 5
        count = max(self.operations // share // self.rounds, in_flight)
        return min(count, _SET_ADD_OPERATIONS) if workload is WorkloadName.SET_ADD else count


def make_job(
    lattice: DevLattice, link: DevIdentity, workload: WorkloadName, count: int, in_flight: int, tag: str = ""
) -> Job:
    """Return a job. With an empty tag it shares no key with another job."""
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
    """Run a job in a load generator of its own. The CPU time of the providers counts while it sends.

    Args:
        job: Job to run.
        pids: Process ids of the providers that serve the job.
        progress: Called with the progress.
        other_pids: Process ids of the providers that only receive its changes.
    """
    name = f"{job.workload} at {job.in_flight}"
    async with child("load_generator") as load:
        await load.send(msgspec.json.encode(job))
        while "ready" not in (received := await load.receive()):
            progress(f"{name}: signing", min(received["signed"], job.count), job.count)
        await asyncio.sleep(_SETTLE_SECONDS)
        progress(f"{name}: running", 0, job.count)
        before_us, others_before_us = sum(map(cpu_microseconds, pids)), sum(map(cpu_microseconds, other_pids))
        await load.send(b"go")
        measured = msgspec.convert(await load.receive(), Measurement)
        used_us = sum(map(cpu_microseconds, pids)) - before_us
        others_used_us = sum(map(cpu_microseconds, other_pids)) - others_before_us
    row = Row(
        workload=job.workload,
        in_flight=job.in_flight,
        provider_cpu_us=used_us / job.count,
        others_cpu_us=others_used_us / job.count,
        measured=measured,
    )
    progress(
        f"{name}: {row.per_second:.0f}/s, p50 {measured.p50_us:.0f} µs, provider's CPU {row.provider_cpu_us:.1f} µs",
        job.count,
        job.count,
    )
    return row


async def echo_p50(lattice: DevLattice, link: DevIdentity, plan: BenchPlan, progress: Progress) -> float:
    """Measure the median latency of the same signed Gets, one at a time, at a service that does nothing, in µs."""
    job = make_job(lattice, link, WorkloadName.GET, plan.count(WorkloadName.GET, 1), 1)
    async with child("yardsticks", "echo", lattice.nats_url, ECHO_SUBJECT) as echo:
        await echo.receive()
        row = await run_job(msgspec.structs.replace(job, echo_subject=ECHO_SUBJECT), [], progress)
    return row.measured.p50_us


async def yardstick(progress: Progress, field: str, *arguments: str) -> float:
    """Measure a yardstick and return one field of its result."""
    progress(f"yardstick: {arguments[0]}", 0, 1)
    answer = await ask_once("yardsticks", *arguments)
    progress(f"yardstick: {arguments[0]}: {float(answer[field]):.1f}", 1, 1)
    return float(answer[field])
