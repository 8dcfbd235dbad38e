"""The gain by helper processes that check signatures: two providers in turn, one of them without helpers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

import msgspec

from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from provider.keyvalue.link_values import Backend
from tests.bench.jobs import BenchPlan, Progress, make_job, run_job, yardstick
from tests.bench.rows import Row, ScoreLine
from tests.bench.workloads import WorkloadName
from tests.blackbox.proc import children, cpu_microseconds, resident_bytes
from tests.blackbox.waiting import eventually

_HELPERS = 1
"""As many as a machine with two cores has by default."""

_ROUNDS = 5
"""Odd, so that the median is one of them. The two providers change places in each."""

_MOST_SHARES = {Backend.BUCKET: 0.85, Backend.CACHE: 0.6}
"""The greatest CPU time of the provider's own process per Get, in checks of a signature by its own library."""


class HelperGain(msgspec.Struct, frozen=True, kw_only=True):
    """Gets with helper processes and without, as medians. CPU times and latencies are in microseconds.

    Attributes:
        signature_cpu_us: CPU time of one check by the library that the provider uses.
        own_cpu_us: CPU time of the provider's own process per Get, 64 in flight.
        helpers_cpu_us: CPU time of the helpers per Get, 64 in flight.
        alone_cpu_us: CPU time of a provider without helpers per Get, 64 in flight.
        rate_ratio: Gets per second, 64 in flight: with helpers / without.
        p50_ratio: Latency of a single Get: with helpers / without.
        helper_megabytes: Resident memory of one helper.
    """

    backend: Backend
    signature_cpu_us: float
    own_cpu_us: float
    helpers_cpu_us: float
    alone_cpu_us: float
    rate_ratio: float
    p50_ratio: float
    helper_megabytes: float


async def measure_helper_gain(
    settings: LatticeSettings, backend: Backend, plan: BenchPlan, progress: Progress
) -> HelperGain:
    """Start both providers, with the link values of the settings, and measure their Gets in turn."""
    async with AsyncExitStack() as stack:
        helped, alone = [
            await stack.enter_async_context(
                running(
                    replace(
                        settings,
                        lattice=f"{settings.lattice}-{helpers}",
                        config={"signature_processes": helpers},
                    )
                )
            )
            for helpers in (_HELPERS, 0)
        ]
        (helper,) = await eventually(lambda: children(helped.provider_pids[0]), "the helper")
        checks, rows, helper_us = [], dict[tuple[str, int], list[Row]](), []
        for number in range(_ROUNDS):
            checks.append(await yardstick(progress, "cpu_us", "own-signature"))
            for lattice in (helped, alone) if number % 2 else (alone, helped):
                name = "helped" if lattice is helped else "alone"
                before_us = cpu_microseconds(helper)
                row = await _gets(lattice, plan, 64, progress)
                if lattice is helped:
                    helper_us.append((cpu_microseconds(helper) - before_us) / row.measured.count)
                rows.setdefault((name, 64), []).append(row)
                rows.setdefault((name, 1), []).append(await _gets(lattice, plan, 1, progress))
        return HelperGain(
            backend=backend,
            signature_cpu_us=median(checks),
            own_cpu_us=median(row.provider_cpu_us for row in rows["helped", 64]),
            helpers_cpu_us=median(helper_us),
            alone_cpu_us=median(row.provider_cpu_us for row in rows["alone", 64]),
            rate_ratio=median(row.per_second for row in rows["helped", 64])
            / median(row.per_second for row in rows["alone", 64]),
            p50_ratio=median(row.measured.p50_us for row in rows["helped", 1])
            / median(row.measured.p50_us for row in rows["alone", 1]),
            helper_megabytes=resident_bytes(helper) / 1e6,
        )


async def _gets(lattice: DevLattice, plan: BenchPlan, in_flight: int, progress: Progress) -> Row:
    count = plan.count(WorkloadName.GET, in_flight)
    job = make_job(lattice, lattice.identity, WorkloadName.GET, count, in_flight, str(time.time_ns()))
    return await run_job(job, lattice.provider_pids, progress)


def helper_scorecard(gains: list[HelperGain]) -> Iterator[ScoreLine]:
    """Yield the score of each backend."""
    for gain in gains:
        name = f"{gain.backend.value}: Get with a helper process"
        detail = f"{gain.own_cpu_us:.0f} / {gain.signature_cpu_us:.0f} µs, {gain.alone_cpu_us:.0f} µs without"
        share = gain.own_cpu_us / gain.signature_cpu_us
        most = _MOST_SHARES[gain.backend]
        yield ScoreLine(f"{name}, 64 in flight: own process's CPU / its check", share, most, True, detail)
        detail = f"{gain.helpers_cpu_us:.0f} µs on the helper"
        yield ScoreLine(f"{name}, 64 in flight: rate / without", gain.rate_ratio, 1.25, False, detail)
        yield ScoreLine(f"{name}, 1 in flight: p50 / without", gain.p50_ratio, 1.03, True)
        yield ScoreLine(f"{gain.backend.value}: a helper process: MB resident", gain.helper_megabytes, 25, True)
