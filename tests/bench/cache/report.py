"""What was measured of a cache, and what it is worth. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.bench.rows import Row, Target
from tests.bench.workloads import WorkloadName


class CacheSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """Calls served by one of two instances, with the yardsticks that were measured in between.

    Attributes:
        rows: One workload at one number in flight each.
        signature_cpu_us: CPU time of one signature check.
        echo_p50_us: Of the bare echo service.
        reads_elsewhere: Gets sent to the other instance at the moment in which a Set was acknowledged.
        older_elsewhere: How many of them did not see that Set yet.
        lone_set_p50_us: Of Sets, 1 in flight, with no other instance up; `None`: not measured.
    """

    rows: list[Row]
    signature_cpu_us: float
    echo_p50_us: float
    reads_elsewhere: int
    older_elsewhere: int
    lone_set_p50_us: float | None = None

    def row(self, workload: WorkloadName, in_flight: int) -> Row | None:
        return next((row for row in self.rows if (row.workload, row.in_flight) == (workload, in_flight)), None)


class Propagation(msgspec.Struct, frozen=True, kw_only=True):
    """How long it takes until another process sees a write, in microseconds."""

    writes: int
    visible_p50_us: float
    visible_p99_us: float
    round_trip_p50_us: float
    turn_p50_us: float


class Merging(msgspec.Struct, frozen=True, kw_only=True):
    """How many events a replica decodes and takes in per second of CPU time, of mixed operations and of Sets alone."""

    events_per_message: int
    mixed_per_cpu_second: float
    sets_per_cpu_second: float


class CacheSize(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in MiB, and what it takes a joiner to get all of it.

    Attributes:
        joiner_megabytes: Of the joiner once it has all; the greatest of all joins.
        join_seconds: From the joiner's `ready` until it has said that it has caught up and has answered with the last key.
        keys_lacking: How many keys joiners lacked when they said so, all joins together.
        idle_p99_us: Of Gets at the first instance while nobody joins.
        joining_p99_us: Of Gets at the first instance while a joiner catches up.
        joining_gets: How many Gets that is.
    """

    keys: int
    value_bytes: int
    resident_megabytes: float
    joiner_megabytes: float
    joins: int
    join_seconds: float
    keys_lacking: int
    idle_p99_us: float
    joining_p99_us: float
    joining_gets: int


class Churn(msgspec.Struct, frozen=True, kw_only=True):
    """Sets and deletions of the same keys over and over. Memory in MiB, of both instances."""

    operations: int
    keys: int
    seconds: float
    first_megabytes: list[float]
    last_megabytes: list[float]


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `size` and `churn` are `None` when they were left out."""

    speed: CacheSpeed
    propagation: Propagation
    merging: Merging
    size: CacheSize | None = None
    churn: Churn | None = None


def cache_targets(report: CacheReport | None) -> Iterator[Target]:
    """Judge a run. A target of what was not measured is left out."""
    if report is None:
        return
    yield from _speed(report.speed)
    spread = report.propagation
    parts = 2 * spread.round_trip_p50_us + spread.turn_p50_us
    yield Target(
        "cache: write until another process sees it, p50 / (2 bare round trips + 1 turn)",
        spread.visible_p50_us / parts,
        1,
        True,
        f"{spread.visible_p50_us:.0f} / (2 x {spread.round_trip_p50_us:.0f} + {spread.turn_p50_us:.1f}) µs",
    )
    merging = report.merging
    detail = f"{merging.sets_per_cpu_second:,.0f} of Sets alone"
    yield Target("cache: deltas merged per CPU-second", merging.mixed_per_cpu_second, 50_000, False, detail)
    if report.size is not None:
        yield from _size(report.size)
    if report.churn is not None:
        yield _churn(report.churn)


def _speed(speed: CacheSpeed) -> Iterator[Target]:
    for workload in (WorkloadName.GET, WorkloadName.SET):
        if row := speed.row(workload, 64):
            detail = f"{row.provider_cpu_us:.0f} / {speed.signature_cpu_us:.0f} µs"
            if workload is WorkloadName.SET:
                detail += f", and {row.others_cpu_us:.0f} µs on the other instance"
            yield Target(
                f"cache: {workload}, 64 in flight: provider CPU / signature check",
                row.provider_cpu_us / speed.signature_cpu_us,
                1.4,
                True,
                detail,
            )
    for workload in (WorkloadName.GET, WorkloadName.SET):
        if row := speed.row(workload, 1):
            parts = speed.echo_p50_us + speed.signature_cpu_us
            detail = f"{row.measured.p50_us:.0f} / ({speed.echo_p50_us:.0f} + {speed.signature_cpu_us:.0f}) µs"
            if workload is WorkloadName.SET and speed.lone_set_p50_us is not None:
                detail += f"; with no other instance up {speed.lone_set_p50_us:.0f} µs"
            what = f"cache: {workload}, 1 in flight: p50 / (echo + signature)"
            yield Target(what, row.measured.p50_us / parts, 1.25, True, detail)


def _size(size: CacheSize) -> Iterator[Target]:
    what = f"{size.keys:,} keys of {size.value_bytes} bytes"
    detail = f"joiner {size.joiner_megabytes:.0f} MB"
    yield Target(f"cache: {what}: MB resident", size.resident_megabytes, 100, True, detail)
    yield Target("cache: a joiner has all of them: seconds after it was ready", size.join_seconds, 5, True)
    yield Target("cache: keys that joiners lacked once they had caught up", size.keys_lacking, 0, True)
    yield Target(
        "cache: Get's p99 at another instance while one joins / idle",
        size.joining_p99_us / size.idle_p99_us,
        5,
        True,
        f"{size.joining_p99_us:,.0f} / {size.idle_p99_us:,.0f} µs, {size.joining_gets:,} Gets",
    )


def _churn(churn: Churn) -> Target:
    pairs = list(zip(churn.last_megabytes, churn.first_megabytes, strict=True))
    ratios = [last / first for last, first in pairs]
    return Target(
        f"cache: {churn.operations:,} Sets and Dels of {churn.keys:,} keys: memory / after a sixtieth",
        max(ratios),
        1.05,
        True,
        ", ".join(f"{last:.1f} / {first:.1f} MB" for last, first in pairs),
    )
