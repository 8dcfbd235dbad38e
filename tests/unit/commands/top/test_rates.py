"""Rows are differences between two rounds: rates, latencies and lag, over all instances of a link or a store."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.statistics import (
    LATENCY_BOUNDS_SECONDS,
    BucketStatistics,
    CacheStatistics,
    InstanceStatistics,
    LinkStatistics,
    OperationStatistics,
    WatchStatistics,
)
from provider.commands.instances import RunningInstance
from provider.commands.top import figures
from provider.commands.top.keyboard import names
from provider.commands.top.lines import lines
from provider.commands.top.rates import LinkRow, Rounds, quantile
from provider.commands.top.screen import SORTS, View

WIDTH = len(LATENCY_BOUNDS_SECONDS) + 1


def instance(
    name: str, calls: int, *, uptime: float, failed: int = 0, reason: str = "", lag: int = 0
) -> RunningInstance:
    """Return an instance that has answered so many calls, all within the second bucket of latencies."""
    counts = [0] * WIDTH
    counts[1] = calls + failed
    operation = OperationStatistics(
        operation="KeyValue.Get", succeeded=calls, failed={"StoreTimeoutError": failed}, latency_counts=counts
    )
    link = LinkStatistics(
        actor_id="M",
        link_name="l",
        backend="bucket",
        store="b",
        is_healthy=not reason,
        reason=reason,
        succeeded={"KeyValue.Get": calls},
        failed={"KeyValue.Get": failed},
        latency_counts=counts,
        watch=WatchStatistics(pending=lag),
    )
    data = InstanceStatistics(
        lattice="default",
        uptime_seconds=uptime,
        latency_bounds_seconds=list(LATENCY_BOUNDS_SECONDS),
        operations=[operation],
        link_count=1,
        links=[link],
        buckets=[BucketStatistics(bucket="b", changes=calls, size_bytes=10, max_bytes=100)],
        caches=[CacheStatistics(cache="c", is_joined=True, keys=calls, missing_events=lag)],
    )
    return RunningInstance(name, "1.0.0", data)


def test_rates_are_differences_and_links_are_summed_over_instances() -> None:
    rounds = Rounds()
    rounds.next([instance("one", 100, uptime=10.0), instance("two", 50, uptime=10.0)], 0.0)
    overview = rounds.next(
        [instance("one", 120, uptime=12.0, failed=4), instance("two", 60, uptime=12.0, reason="bucket full", lag=7)],
        2.0,
    )
    assert [row.activity.calls for row in overview.instances] == [12.0, 5.0]
    assert overview.activity.calls == 17.0
    (link,) = overview.links
    assert (link.instances, link.activity.calls, link.activity.errors) == (2, 17.0, 2.0)
    assert (link.reason, link.watch_pending) == ("bucket full", 7)
    assert link.operations == {"KeyValue.Get": (180, 4)}
    assert link.activity.median is not None
    assert LATENCY_BOUNDS_SECONDS[0] < link.activity.median <= LATENCY_BOUNDS_SECONDS[1]
    bucket, cache = overview.stores
    assert (bucket.changes, bucket.size_bytes, bucket.limit_bytes) == (15.0, 10, 100)
    assert (cache.replicas, cache.lag) == (2, 7)


def test_the_first_round_of_an_instance_tells_its_mean_and_a_restart_counts_anew() -> None:
    rounds = Rounds()
    assert rounds.next([instance("one", 100, uptime=10.0)], 0.0).activity.calls == 10.0
    assert rounds.next([instance("one", 6, uptime=3.0)], 20.0).activity.calls == 2.0


def test_an_instance_that_answers_no_more_is_counted_until_it_answers_again() -> None:
    rounds, both = Rounds(), [instance("one", 1, uptime=1.0), instance("two", 1, uptime=1.0)]
    assert [rounds.next(found, 1.0).gone for found in (both, both[:1], [], both[1:], both)] == [0, 1, 2, 1, 0]


@given(counts=st.lists(st.integers(0, 1000), min_size=WIDTH, max_size=WIDTH), share=st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_its_call(counts: list[int], share: float) -> None:
    found = quantile(LATENCY_BOUNDS_SECONDS, counts, share)
    if not sum(counts):
        assert found is None
        return
    assert found is not None
    below = sum(count for bound, count in zip(LATENCY_BOUNDS_SECONDS, counts, strict=False) if bound < found)
    assert below <= share * sum(counts) + 1e-6
    assert 0 <= found <= LATENCY_BOUNDS_SECONDS[-1]


def row(name: str, **fields: object) -> LinkRow:
    overview = Rounds().next([instance("one", 1, uptime=1.0)], 0.0)
    return LinkRow(**(vars(overview.links[0]) | {"link_name": name} | fields))


def test_links_are_sorted_by_the_keys_and_those_that_do_not_work_come_first() -> None:
    links = [row("a", watch_pending=1), row("b", reason="x"), row("c", watch_pending=9)]
    view = View(sort="name")
    assert [link.link_name for link in view.ordered(links)] == ["b", "a", "c"]
    view.press("r", links)
    assert [link.link_name for link in view.ordered(links)] == ["b", "c", "a"]
    for _ in SORTS:
        view.press("s", links)
    assert view.sort == "name"
    view = View(sort="lag")
    view.press("down", links)
    view.press("enter", links)
    assert view.is_detail
    assert view.selected == ("default", "M", "c")
    view.press("escape", links)
    assert not view.is_detail


def test_keys_are_told_apart() -> None:
    assert list(names(b"\x1b[A\x1b[Bsq\r\x1b")) == ["up", "down", "s", "q", "enter", "escape"]


def test_plain_lines_have_no_line_breaks_of_others() -> None:
    overview = Rounds().next([instance("one", 3, uptime=1.0, reason='two\nlines "x"')], 0.0)
    shown = list(lines(overview, datetime(2026, 1, 2, tzinfo=UTC)))
    assert len(shown) == 4
    assert all("\n" not in line for line in shown)
    assert shown[1].startswith(
        '2026-01-02T00:00:00Z link name=l actor=M lattice=default store="bucket b" healthy=no calls=3'
    )


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.rate(3.14159), "3.1"),
        (figures.rate(1234.5), "1234"),
        (figures.latency(None), "-"),
        (figures.latency(0.00042), "0.42 ms"),
        (figures.latency(0.0042), "4.2 ms"),
        (figures.latency(0.42), "420 ms"),
        (figures.size(1023), "1023 B"),
        (figures.size(1536), "1.5 KiB"),
        (figures.size(5 * 2**40), "5.0 TiB"),
        (figures.duration(59.9), "59s"),
        (figures.duration(3700), "1h01m"),
        (figures.duration(90000), "1d01h"),
        (figures.share(1, 3), "33 %"),
        (figures.share(1, 0), ""),
    ],
)
def test_figures_are_short(shown: str, expected: str) -> None:
    assert shown == expected
