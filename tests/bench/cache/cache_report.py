"""The results of a cache, and their score. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.bench.rows import Row, ScoreLine
from tests.bench.workloads import WorkloadName


class CacheSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that one of two instances serves, with the yardsticks that were measured in between.

    Attributes:
        rows: Workloads at their numbers in flight.
        signature_cpu_us: CPU time of one signature check.
        echo_p50_us: Median latency of the bare echo service.
        reads_elsewhere: Gets that were sent to the other instance when a Set was acknowledged.
        older_elsewhere: Number of these Gets that did not see the Set yet.
        lone_set_p50_us: Median latency of Sets, 1 in flight, without the other instance; `None` if not measured.
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
    """The time until another process sees a write, in microseconds."""

    writes: int
    visible_p50_us: float
    visible_p99_us: float
    round_trip_p50_us: float
    turn_p50_us: float


class Merging(msgspec.Struct, frozen=True, kw_only=True):
    """The events that a replica decodes and merges per second of CPU time, of mixed operations and of Sets alone."""

    events_per_message: int
    mixed_per_cpu_second: float
    sets_per_cpu_second: float


class CacheSize(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of many keys in MiB, and the joins of further instances.

    Attributes:
        joiner_megabytes: Memory of the joiner once it has all keys; the largest of all joins.
        join_seconds: Time from the joiner's `ready` until it has caught up and answers with the last key.
        keys_lacking: Keys that joiners lacked when they reported that they had caught up, over all joins.
        idle_p99_us: Latency of Gets at the first instance before the joins.
        joining_p99_us: Latency of Gets at the first instance while a joiner catches up.
        joining_gets: Number of these Gets.
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
    """Sets and deletions of the same keys, again and again. Memory in MiB, of both instances."""

    operations: int
    keys: int
    seconds: float
    first_megabytes: list[float]
    last_megabytes: list[float]


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """All results of a cache. `size` and `churn` are `None` if they were left out."""

    speed: CacheSpeed
    propagation: Propagation
    merging: Merging
    size: CacheSize | None = None
    churn: Churn | None = None


def cache_scorecard(report: CacheReport | None) -> Iterator[ScoreLine]:
    """Return the score of a run. Lines of parts that were not measured are left out."""
    if report is None:
        return
    yield from _speed(report.speed)
    spread = report.propagation
    parts = 2 * spread.round_trip_p50_us + spread.turn_p50_us
    yield ScoreLine(
        "cache: write until another process sees it, p50 / (2 bare round trips + 1 turn)",
        spread.visible_p50_us / parts,
        1,
        True,
        f"{spread.visible_p50_us:.0f} / (2 x {spread.round_trip_p50_us:.0f} + {spread.turn_p50_us:.1f}) µs",
    )
    merging = report.merging
    detail = f"{merging.sets_per_cpu_second:,.0f} of Sets alone"
    yield ScoreLine("cache: deltas merged per CPU-second", merging.mixed_per_cpu_second, 50_000, False, detail)
    if report.size is not None:
        yield from _size(report.size)
    if report.churn is not None:
        yield _churn(report.churn)


def _speed(speed: CacheSpeed) -> Iterator[ScoreLine]:
    for workload in (WorkloadName.GET, WorkloadName.SET):
        if row := speed.row(workload, 64):
            detail = f"{row.provider_cpu_us:.0f} / {speed.signature_cpu_us:.0f} µs"
            if workload is WorkloadName.SET:
                detail += f", and {row.others_cpu_us:.0f} µs on the other instance"
            yield ScoreLine(
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
            name = f"cache: {workload}, 1 in flight: p50 / (echo + signature)"
            yield ScoreLine(name, row.measured.p50_us / parts, 1.25, True, detail)


def _size(size: CacheSize) -> Iterator[ScoreLine]:
    keys = f"{size.keys:,} keys of {size.value_bytes} bytes"
    detail = f"joiner {size.joiner_megabytes:.0f} MB"
    yield ScoreLine(f"cache: {keys}: MB resident", size.resident_megabytes, 100, True, detail)
    yield ScoreLine("cache: a joiner has all of them: seconds after it was ready", size.join_seconds, 5, True)
    yield ScoreLine("cache: keys that joiners lacked once they had caught up", size.keys_lacking, 0, True)
    yield ScoreLine(
        "cache: Get's p99 at another instance while one joins / idle",
        size.joining_p99_us / size.idle_p99_us,
        5,
        True,
        f"{size.joining_p99_us:,.0f} / {size.idle_p99_us:,.0f} µs, {size.joining_gets:,} Gets",
    )


def _churn(churn: Churn) -> ScoreLine:
    pairs = list(zip(churn.last_megabytes, churn.first_megabytes, strict=True))
    ratios = [last / first for last, first in pairs]
    return ScoreLine(
        f"cache: {churn.operations:,} Sets and Dels of {churn.keys:,} keys: memory / after a sixtieth",
        max(ratios),
        1.05,
        True,
        ", ".join(f"{last:.1f} / {first:.1f} MB" for last, first in pairs),
    )
