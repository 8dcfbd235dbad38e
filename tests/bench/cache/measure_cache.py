"""All measurements of a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from provider.commands.dev_lattice.start import DevLattice
from tests.bench.cache.cache_report import CacheReport, Merging, Propagation
from tests.bench.cache.cache_size import measure_cache_size
from tests.bench.cache.cache_speed import cache_plan, measure_cache_speed
from tests.bench.cache.churn import measure_churn
from tests.bench.children import ask_once, child
from tests.bench.jobs import BenchPlan, Progress


@dataclass(frozen=True)
class CacheScale:
    """The scale of all measurements that are not rows of a `BenchPlan`.

    Attributes:
        reads_elsewhere: Gets at the other instance, each sent on the acknowledgement of a Set.
        writes: Writes whose propagation is measured.
        merge_rounds: Rounds of merging, of which the median counts.
        keys: Keys that a provider is filled with.
        joins: Providers that join it, one after the other.
        idle_seconds: Time for which Gets are measured before each join.
        churn_per_minute: Operations in a minute of the simulated hour.
    """

    reads_elsewhere: int = 500
    writes: int = 2000
    merge_rounds: int = 7
    keys: int = 100_000
    joins: int = 3
    idle_seconds: float = 4.0
    churn_per_minute: int = 1500


async def measure_cache(
    lattice: DevLattice, plan: BenchPlan, progress: Progress, *, with_size: bool, scale: CacheScale | None = None
) -> CacheReport:
    """Measure on a lattice without providers, and start them here.

    Args:
        lattice: Lattice to measure on.
        plan: Rows to measure.
        progress: Called with the progress.
        with_size: Whether to measure memory and joining too.
        scale: Scale of the other measurements; `None`: the scale that the limits of the scorecard are made for.

    Raises:
        DevError: A provider does not start, or a call fails.
    """
    scale = scale or CacheScale()
    speed = await measure_cache_speed(lattice, cache_plan(plan), scale.reads_elsewhere, progress)
    propagation = await _propagation(lattice, scale.writes, progress)
    progress("merging", 0, 1)
    merging = msgspec.convert(await ask_once("cache.merging", str(scale.merge_rounds)), Merging)
    progress("merging", 1, 1)
    if not with_size:
        return CacheReport(speed=speed, propagation=propagation, merging=merging)
    return CacheReport(
        speed=speed,
        propagation=propagation,
        merging=merging,
        size=await measure_cache_size(lattice, scale.keys, scale.joins, scale.idle_seconds, progress),
        churn=await measure_churn(lattice, scale.churn_per_minute, progress),
    )


async def _propagation(lattice: DevLattice, writes: int, progress: Progress) -> Propagation:
    progress("propagation", 0, writes)
    name = f"bench{time.time_ns()}"
    async with child("cache.propagation", "follow", lattice.nats_url, name) as follower:
        await follower.receive()
        answer = await ask_once("cache.propagation", "write", lattice.nats_url, name, str(writes))
    progress("propagation", writes, writes)
    return msgspec.convert(answer, Propagation)
