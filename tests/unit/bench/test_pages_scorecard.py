"""The score of large values: each line compares figures of the same run."""

from __future__ import annotations

import pytest

from tests.bench.pages.pages_report import PagesReport, Room, Texts, Transfer, pages_scorecard
from tests.bench.workloads import LARGE_LIST_KEY, LARGE_SET_KEY, WorkloadName, workload
from tests.unit.bench.test_scorecard import row

pytestmark = pytest.mark.unit


def test_every_mark_of_large_values_has_a_line() -> None:
    rows = [
        row(WorkloadName.SMALL_SETS, 64, 8000, 40),
        row(WorkloadName.LARGE_SET, 64, 2000, 150),
        row(WorkloadName.SMALL_SETS, 1, 1000, 100),
        row(WorkloadName.LARGE_SET, 1, 1000, 200),
        row(WorkloadName.SMALL_LISTS, 64, 8000, 40),
        row(WorkloadName.LARGE_LIST, 64, 4000, 40),
        row(WorkloadName.RANGE, 1, 1000, 200),
        row(WorkloadName.RANGE_TEXT, 1, 1000, 100),
    ]
    texts = Texts(
        size=2**25,
        stored=Transfer(put_seconds=0.2, get_seconds=0.1),
        objects=Transfer(put_seconds=0.1, get_seconds=0.2),
        called=Transfer(put_seconds=1, get_seconds=2),
    )
    room = Room(churn_seconds=60, added=10_000, most_pages=9000, live_pages=3000, most_megabytes=120)
    lines = list(pages_scorecard(PagesReport(elements=1_000_000, rows=rows, texts=texts, room=room)))
    assert [line.ratio for line in lines] == [0.25, 1, 0.5, 1, 0.5, 2, 3, 120]
    assert [line.is_met for line in lines] == [True] * 4 + [False] + [True] * 3
    assert list(pages_scorecard(None)) == []


def test_large_values_get_members_that_they_do_not_have() -> None:
    made = workload(WorkloadName.LARGE_SET, 500, "t").measured
    assert len({request.value for request in made}) == 500  # type: ignore[attr-defined]
    assert {request.key for request in made} == {LARGE_SET_KEY}  # type: ignore[attr-defined]
    ranges = workload(WorkloadName.RANGE, 500, "20000").measured
    assert {request.key for request in ranges} == {LARGE_LIST_KEY}  # type: ignore[attr-defined]
    assert all(10_000 <= request.start < request.stop < 16_000 for request in ranges)  # type: ignore[attr-defined]
