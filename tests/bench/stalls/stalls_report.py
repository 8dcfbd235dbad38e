"""The latency of small Gets beside single calls about a large set or list, and its score. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tests.bench.rows import ScoreLine

MOST_MS = 20.0
"""Time for which a single call may hold up others."""


class StallRow(msgspec.Struct, frozen=True, kw_only=True):
    """The Gets beside one call, or beside none.

    Attributes:
        backend: Name of the backend.
        work: The call, or other work.
        seconds: Its time.
        gets: Number of Gets.
        p99_ms: Latency of 99 of 100.
        longest_ms: Latency of the slowest.
        error: Error that the call has ended in, or "".
    """

    backend: str
    work: str
    seconds: float
    gets: int
    p99_ms: float
    longest_ms: float
    error: str = ""


class StallReport(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, for sets and lists of so many elements."""

    elements: int
    rows: list[StallRow]


def stall_row(
    backend: str, work: str, began_ns: int, ended_ns: int, sent_ns: Sequence[int], latency_ns: Sequence[int]
) -> StallRow:
    """Return the row of the Gets that were under way between two times."""
    found = sorted(
        latency
        for sent, latency in zip(sent_ns, latency_ns, strict=True)
        if sent + latency > began_ns and sent < ended_ns
    ) or [0]
    return StallRow(
        backend=backend,
        work=work,
        seconds=(ended_ns - began_ns) / 1e9,
        gets=len(found),
        p99_ms=found[len(found) * 99 // 100] / 1e6,
        longest_ms=found[-1] / 1e6,
    )


def stalls_scorecard(report: StallReport | None) -> Iterator[ScoreLine]:
    """Yield the score: the slowest Get of each backend beside any call."""
    if report is None:
        return
    for backend in dict.fromkeys(row.backend for row in report.rows):
        slowest = max((row for row in report.rows if row.backend == backend), key=lambda row: row.longest_ms)
        yield ScoreLine(
            f"slowest Get beside a call about {report.elements:,} elements on a {backend}, of {MOST_MS:g} ms",
            slowest.longest_ms / MOST_MS,
            1.0,
            True,
            f"{slowest.longest_ms:.1f} ms beside {slowest.work}",
        )
