"""Metrics are derived from statistics: no series occurs twice, and histograms are cumulative."""

from __future__ import annotations

from contracts.statistics import (
    LATENCY_BOUNDS_SECONDS,
    BucketStatistics,
    InstanceStatistics,
    LinkStatistics,
    OperationStatistics,
)
from provider.telemetry.metrics import METRICS, MetricKind, call_durations


def read(name: str, data: InstanceStatistics) -> dict[tuple[str, ...], float]:
    (found,) = (metric for metric in METRICS if metric.name == f"keyvalue_nats_{name}")
    return found.samples(data)


def test_links_and_stores_with_the_same_labels_are_one_series() -> None:
    link = LinkStatistics(actor_id="M", link_name="l", backend="bucket", store="b", succeeded={"KeyValue.Get": 2})
    bucket = BucketStatistics(bucket="b", size_bytes=10)
    data = InstanceStatistics(
        links=[link, LinkStatistics(actor_id="M", link_name="l", backend="bucket", store="b", is_healthy=False)],
        buckets=[bucket, BucketStatistics(bucket="b", size_bytes=7, is_healthy=False)],
    )
    assert read("link_calls_total", data) == {("M", "l", "ok"): 2, ("M", "l", "error"): 0}
    assert read("link_healthy", data) == {("M", "l", "bucket", "b"): 0}
    assert read("bucket_size_bytes", data) == {("b",): 10}
    assert read("bucket_lease_held", data) == {}
    assert read("bucket_limit_bytes", data) == {}


def test_a_histogram_counts_the_calls_up_to_each_bound() -> None:
    counts = [0] * (len(LATENCY_BOUNDS_SECONDS) + 1)
    counts[0], counts[2], counts[-1] = 3, 4, 1
    operation = OperationStatistics(operation="KeyValue.Get", succeeded=8, seconds=9.5, latency_counts=counts)
    data = InstanceStatistics(latency_bounds_seconds=list(LATENCY_BOUNDS_SECONDS), operations=[operation])
    (found,) = call_durations(data)
    assert [count for _, count in found.buckets][:3] == [3, 3, 7]
    assert found.buckets[-1] == ("+Inf", 8.0)
    assert found.seconds == 9.5


def test_counters_alone_are_called_total() -> None:
    assert [metric for metric in METRICS if metric.name.endswith("_total") != (metric.kind is MetricKind.COUNTER)] == []
