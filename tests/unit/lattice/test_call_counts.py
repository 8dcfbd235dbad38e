"""Calls are counted by link and operation, and no call is lost when its link ends."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from contracts.operations import REQUESTS
from contracts.statistics import LATENCY_BOUNDS_SECONDS
from provider.lattice.call_counts import CallCounts, OperationCounts
from provider.lattice.protocol import LinkKey

LINKS: list[LinkKey] = [("Mone", "wasmcloud:keyvalue", "default"), ("Mtwo", "wasmcloud:keyvalue", "other")]

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("count"),
            st.sampled_from(LINKS),
            st.sampled_from(["KeyValue.Get", "KeyValue.Set", "Evil.Name"]),
            st.floats(0, 5),
            st.sampled_from(["", "StoreTimeoutError", "WrongKindError"]),
        ),
        st.tuples(st.sampled_from(["begin", "end"]), st.sampled_from(LINKS)),
    )
)


@given(steps=STEPS)
def test_totals_have_every_call_whatever_links_begin_and_end(steps: list[tuple[str, ...]]) -> None:
    counts, expected, failed = CallCounts(REQUESTS), Counter[str](), Counter[str]()
    for step in steps:
        match step:
            case ("begin", link):
                counts.begin_link(link)  # type: ignore[arg-type]
            case ("end", link):
                counts.end_link(link)  # type: ignore[arg-type]
            case (_, link, operation, seconds, error):
                counts.count(link, operation, seconds, error)  # type: ignore[arg-type]
                expected[operation] += 1
                failed[operation] += bool(error)
    unknown = expected.pop("Evil.Name", 0)
    totals = counts.totals()
    assert {operation: one.requests for operation, one in totals.items()} == dict(expected)
    assert all(one.errors == failed[operation] for operation, one in totals.items())
    assert all(sum(one.latency_counts) == one.requests for one in totals.values())
    assert counts.refused.get("UnknownOperationError", 0) == unknown


def test_a_bucket_of_latencies_holds_its_upper_bound() -> None:
    counts = OperationCounts()
    for seconds in (0.0, LATENCY_BOUNDS_SECONDS[0], LATENCY_BOUNDS_SECONDS[-1], 60.0):
        counts.add(seconds, "")
    assert (counts.latency_counts[0], counts.latency_counts[-2], counts.latency_counts[-1]) == (2, 1, 1)
