"""The results of a run, and their score: ratios against the yardsticks of the same run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.bench.cache.cache_report import CacheReport, cache_scorecard
from tests.bench.component_speed import ComponentReport
from tests.bench.helper_gain import HelperGain, helper_scorecard
from tests.bench.pages.pages_report import PagesReport, pages_scorecard
from tests.bench.rows import Row, ScoreLine
from tests.bench.stalls.stalls_report import StallReport, stalls_scorecard
from tests.bench.workloads import WorkloadName


class Yardsticks(msgspec.Struct, frozen=True, kw_only=True):
    """The yardsticks of the run. CPU times and latencies are in microseconds, rates per second."""

    signature_cpu_us: float
    echo_p50_us: float
    direct_get_p50_us: float
    naive_counter_per_second: float
    naive_set_per_second: float


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a start in seconds, and the memory in MiB.

    Attributes:
        python_seconds: Time of a Python that does nothing.
        help_seconds: Time of `keyvalue-nats --help` in a pipe.
        kv_get_seconds: Time of `keyvalue-nats kv get`, its connection and answer included.
    """

    start_seconds: float
    imports_seconds: float
    python_seconds: float = 0.0
    help_seconds: float = 0.0
    kv_get_seconds: float = 0.0
    links: int
    linked_megabytes: float
    grown_megabytes: float
    invocations: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All results of a run; `None` for a part that was left out. `rows`, `yardsticks` and `size` belong to the bucket.

    `components` has the calls over wRPC on each backend, `helpers` the gain by helper processes, `pages` the large values,
    `stalls` the Gets beside calls about them.
    """

    rows: list[Row] = msgspec.field(default_factory=list)
    yardsticks: Yardsticks | None = None
    size: Size | None = None
    cache: CacheReport | None = None
    components: list[ComponentReport] = msgspec.field(default_factory=list)
    helpers: list[HelperGain] = msgspec.field(default_factory=list)
    pages: PagesReport | None = None
    stalls: StallReport | None = None

    def row(self, workload: WorkloadName, in_flight: int) -> Row | None:
        return next((row for row in self.rows if (row.workload, row.in_flight) == (workload, in_flight)), None)


def scorecard(report: Report) -> list[ScoreLine]:
    """Return the score of a run. Lines whose rows were not measured are left out."""
    components = [part.line for part in report.components]
    return [
        *_speed(report),
        *_size(report),
        *pages_scorecard(report.pages),
        *stalls_scorecard(report.stalls),
        *cache_scorecard(report.cache),
        *components,
        *helper_scorecard(report.helpers),
    ]


def _speed(report: Report) -> Iterator[ScoreLine]:
    yard = report.yardsticks
    if yard is None:
        return
    get = report.row(WorkloadName.GET, 64)
    if get:
        yield ScoreLine(
            "Get, 64 in flight: provider CPU / signature check", get.provider_cpu_us / yard.signature_cpu_us, 1.7, True
        )
    if single := report.row(WorkloadName.GET, 1):
        parts = yard.echo_p50_us + yard.signature_cpu_us + yard.direct_get_p50_us
        detail = f"{yard.echo_p50_us:.0f} + {yard.signature_cpu_us:.0f} + {yard.direct_get_p50_us:.0f} µs"
        yield ScoreLine(
            "Get, 1 in flight: p50 / (echo + signature + direct get)", single.measured.p50_us / parts, 1.6, True, detail
        )
    if get and (put := report.row(WorkloadName.SET, 64)):
        # A write may cost what its headers and its plan cost, a fifth of a signature check, and no task.
        yield ScoreLine("Set, 64 in flight: provider CPU / Get's", put.provider_cpu_us / get.provider_cpu_us, 1.2, True)
    if hot := report.row(WorkloadName.INCREMENT, 64):
        yield ScoreLine(
            "hot Increment: errors, or totals not exactly once", _wrong(hot), 0, True, hot.measured.first_error
        )
        yield ScoreLine("hot Increment: rate / naive CAS", hot.per_second / yard.naive_counter_per_second, 30, False)
        if get:
            yield ScoreLine("hot Increment: rate / Get's rate", hot.per_second / get.per_second, 0.75, False)
    if added := report.row(WorkloadName.SET_ADD, 64):
        yield ScoreLine(
            "SetAdd, 1,000 members: rate / naive CAS", added.per_second / yard.naive_set_per_second, 30, False
        )


def _wrong(row: Row) -> float:
    return row.measured.errors + (0 if row.measured.is_exact else 1)


def _size(report: Report) -> Iterator[ScoreLine]:
    size = report.size
    if size is None:
        return
    detail = f"{size.start_seconds:.2f} s / {size.imports_seconds:.2f} s"
    yield ScoreLine(
        "start to first answer / bare imports", size.start_seconds / size.imports_seconds, 2.4, True, detail
    )
    if size.python_seconds:
        detail = f"{size.help_seconds * 1000:.0f} ms / {size.python_seconds * 1000:.0f} ms"
        yield ScoreLine("--help / python -c pass", size.help_seconds / size.python_seconds, 4, True, detail)
        detail = f"{size.kv_get_seconds * 1000:.0f} ms / {size.python_seconds * 1000:.0f} ms"
        yield ScoreLine("kv get / python -c pass", size.kv_get_seconds / size.python_seconds, 4, True, detail)
    yield ScoreLine(f"{size.links:,} links on one bucket: MB resident", size.linked_megabytes, 120, True)
    yield ScoreLine(f"{size.invocations:,} invocations later: MB grown", size.grown_megabytes, 10, True)
