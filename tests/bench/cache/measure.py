"""Measure all of a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from provider.commands.dev_lattice.start import DevLattice
from tests.bench.cache.churn import measure_churn
from tests.bench.cache.report import CacheReport, Merging, Propagation
from tests.bench.cache.size import measure_cache_size
from tests.bench.cache.speed import cache_plan, measure_cache_speed
from tests.bench.children import ask_once, child
from tests.bench.speed import Plan, Progress


@dataclass(frozen=True)
class CacheScale:
    """How much of everything that is no row of a `Plan`.

    Attributes:
        reads_elsewhere: Gets at the other instance upon an acknowledgement.
        writes: Whose propagation is measured.
        merge_rounds: What counts is the median round.
        keys: What a provider is filled with.
        joins: How many providers join it, one after the other.
        idle_seconds: How long Gets are measured before each join.
        churn_per_minute: How many operations stand for a minute of an hour.
    """

    reads_elsewhere: int = 500
    writes: int = 2000
    merge_rounds: int = 7
    keys: int = 100_000
    joins: int = 3
    idle_seconds: float = 4.0
    churn_per_minute: int = 1500


async def measure_cache(
    lattice: DevLattice, plan: Plan, progress: Progress, *, with_size: bool, scale: CacheScale | None = None
) -> CacheReport:
    """Measure on a lattice without providers; starts them itself.

    Args:
        lattice: Where.
        plan: Which rows.
        progress: Told how far it is.
        with_size: Whether to measure memory and joining too.
        scale: How much of the rest; `None`: as much as the figures are judged by.

    Raises:
        DevError: A provider that does not come up, or a call that fails where none may.
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
        await follower.hear()
        answer = await ask_once("cache.propagation", "write", lattice.nats_url, name, str(writes))
    progress("propagation", writes, writes)
    return msgspec.convert(answer, Propagation)
