"""Gets beside a call: those that were under way while it was carried out count, and the slowest decides."""

from __future__ import annotations

from tests.bench.stalls.stalls_report import StallReport, StallRow, stall_row, stalls_scorecard

MS = 1_000_000


def row(backend: str, work: str, longest_ms: float) -> StallRow:
    return StallRow(backend=backend, work=work, seconds=1.0, gets=9, p99_ms=1.0, longest_ms=longest_ms)


def test_only_the_gets_that_were_under_way_beside_the_call_count() -> None:
    sent = [0, 8 * MS, 10 * MS, 19 * MS, 20 * MS, 30 * MS]
    latencies = [9 * MS, 3 * MS, MS, 5 * MS, 90 * MS, MS]
    found = stall_row("cache", "SetQuery", 10 * MS, 20 * MS, sent, latencies)
    assert (found.gets, found.longest_ms, found.p99_ms, found.seconds) == (3, 5.0, 5.0, 0.01)


def test_a_call_that_is_over_before_a_get_is_sent_holds_up_none() -> None:
    assert stall_row("cache", "SetClear", 10, 20, [30], [5]).longest_ms == 0


def test_the_slowest_get_of_each_backend_decides() -> None:
    rows = [row("bucket", "SetQuery", 10.0), row("cache", "nothing", 1.0), row("cache", "SetClear", 21.0)]
    bucket, cache = stalls_scorecard(StallReport(elements=1000, rows=rows))
    assert (bucket.is_met, bucket.ratio) == (True, 0.5)
    assert (cache.is_met, cache.detail) == (False, "21.0 ms beside SetClear")
    assert list(stalls_scorecard(None)) == []
