"""The measurements of a cache by `make bench`, on a small scale: they are complete and without errors."""

from __future__ import annotations

import uuid

import pytest

from provider.commands.dev_lattice.start import LatticeSettings, running
from tests.bench.cache.cache_report import cache_scorecard
from tests.bench.cache.measure_cache import CacheScale, measure_cache
from tests.bench.jobs import BenchPlan
from tests.bench.workloads import WorkloadName

SCALE = CacheScale(
    reads_elsewhere=20, writes=50, merge_rounds=1, keys=500, joins=1, idle_seconds=0.5, churn_per_minute=50
)


@pytest.mark.timeout(120)
@pytest.mark.slow
async def test_every_part_of_a_cache_is_measured_without_errors() -> None:
    settings = LatticeSettings(lattice=f"bench-{uuid.uuid4().hex}", instances=0, log_level="info")
    plan = BenchPlan(operations=200, workloads=(WorkloadName.SET, WorkloadName.INCREMENT), in_flight=(1, 64), rounds=1)
    async with running(settings) as lattice:
        report = await measure_cache(lattice, plan, lambda *_: None, with_size=True, scale=SCALE)
    assert [(row.workload, row.in_flight) for row in report.speed.rows] == [
        (WorkloadName.SET, 1),
        (WorkloadName.SET, 64),
    ]
    assert all(row.measured.errors == 0 for row in report.speed.rows)
    assert all(row.others_cpu_us > 0 for row in report.speed.rows), "nothing was replicated"
    assert report.speed.lone_set_p50_us
    assert report.speed.older_elsewhere <= report.speed.reads_elsewhere
    assert 0 < report.propagation.visible_p50_us <= report.propagation.visible_p99_us
    assert report.size is not None
    assert report.size.keys_lacking == 0
    assert report.size.joining_p99_us > 0
    assert report.churn is not None
    assert report.churn.operations >= 60 * SCALE.churn_per_minute - 5
    assert len(report.churn.last_megabytes) == 2
    assert len(list(cache_scorecard(report))) == 9
