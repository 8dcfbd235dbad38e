"""The speed of calls over wRPC, against signed ones of the same run without the check of their signature."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

import msgspec

from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from tests.bench.children import child
from tests.bench.component_load import ComponentJob
from tests.bench.jobs import BenchPlan, Progress, make_job, run_job, yardstick
from tests.bench.load_generator import Measurement
from tests.bench.rows import Row, ScoreLine, median_row
from tests.bench.workloads import WorkloadName
from tests.blackbox.proc import cpu_microseconds

COMPONENTS_IN_FLIGHT = 64
_SETTLE_SECONDS = 0.2
"""Time for the provider to finish the work that the preparation has left, before its CPU time counts."""


class ComponentReport(msgspec.Struct, frozen=True, kw_only=True):
    """Gets of a component and of an actor at 64 in flight, on one backend.

    Attributes:
        backend: The backend.
        get: The row of the component.
        signed_get: The row of the actor, whose signatures the provider's own process has checked.
        own_signature_cpu_us: CPU time of one such check, by the provider's library, in microseconds.
    """

    backend: str
    get: Row
    signed_get: Row
    own_signature_cpu_us: float

    @property
    def line(self) -> ScoreLine:
        unsigned = self.signed_get.provider_cpu_us - self.own_signature_cpu_us
        name = f"{self.backend}: get over wRPC, 64 in flight: provider CPU / signed Get less its signature check"
        detail = f"{self.get.provider_cpu_us:.0f} / ({self.signed_get.provider_cpu_us:.0f} - {self.own_signature_cpu_us:.0f})"
        return ScoreLine(name, self.get.provider_cpu_us / unsigned, 1.5, True, f"{detail} µs")


async def measure_components(settings: LatticeSettings, plan: BenchPlan, progress: Progress) -> ComponentReport:
    """Measure both rows in turn, as often as the plan says, on providers of one backend that run side by side."""
    signed_settings = replace(settings, dialect=Dialect.WASMBUS, config={"signature_processes": 0})
    component_settings = replace(settings, dialect=Dialect.WASMCLOUD1, lattice=f"{settings.lattice}-1x")
    count = plan.count(WorkloadName.GET, COMPONENTS_IN_FLIGHT)
    rows: list[Row] = []
    signed_rows: list[Row] = []
    checks: list[float] = []
    async with AsyncExitStack() as stack:
        signed = await stack.enter_async_context(running(signed_settings))
        lattice = await stack.enter_async_context(running(replace(component_settings, nats_url=signed.nats_url)))
        for _ in range(plan.rounds):
            checks.append(await yardstick(progress, "cpu_us", "own-signature"))
            job = make_job(signed, signed.identity, WorkloadName.GET, count, COMPONENTS_IN_FLIGHT)
            signed_rows.append(await run_job(job, signed.provider_pids, progress))
            rows.append(await _run(lattice, count, progress))
    return ComponentReport(
        backend=settings.link_value("BACKEND") or "bucket",
        get=median_row(rows),
        signed_get=median_row(signed_rows),
        own_signature_cpu_us=median(checks),
    )


async def _run(lattice: DevLattice, count: int, progress: Progress) -> Row:
    identity = lattice.identity
    job = ComponentJob(
        nats_url=lattice.nats_url,
        lattice=identity.lattice,
        provider_id=identity.provider_key,
        component_id=identity.actor_id,
        count=count,
        in_flight=COMPONENTS_IN_FLIGHT,
    )
    async with child("component_load") as load:
        await load.send(msgspec.json.encode(job))
        await load.receive()
        await asyncio.sleep(_SETTLE_SECONDS)
        progress("get over wRPC: running", 0, count)
        before_us = sum(map(cpu_microseconds, lattice.provider_pids))
        await load.send(b"go")
        measured = msgspec.convert(await load.receive(), Measurement)
        used_us = sum(map(cpu_microseconds, lattice.provider_pids)) - before_us
    progress("get over wRPC: done", count, count)
    return Row(
        workload=WorkloadName.GET, in_flight=COMPONENTS_IN_FLIGHT, provider_cpu_us=used_us / count, measured=measured
    )
