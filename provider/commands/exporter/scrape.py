"""The metric families of one scrape. Knows prometheus-client, and nothing of NATS or HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from provider.commands.instances import RunningInstance
from provider.telemetry import metrics

_INSTANCE = ("lattice", "instance_id")
"""Labels of every metric of an instance. Prometheus itself uses `instance` for the target that it scrapes."""

_INFO = ("provider_key", "link_name", "host_id", "version")


def families(instances: Sequence[RunningInstance], *, is_reachable: bool, seconds: float) -> Iterator[Metric]:
    """Yield all metrics of a scrape.

    Args:
        instances: Instances that have answered.
        is_reachable: Whether NATS can be reached and lets the exporter ask.
        seconds: Time that the question took.
    """
    exporter = f"{metrics.PREFIX}exporter_"
    yield _gauge(f"{exporter}nats_up", "Whether the exporter reaches NATS, and may ask for statistics.", is_reachable)
    yield _gauge(f"{exporter}instances", "Provider instances that have answered.", len(instances))
    yield _gauge(f"{exporter}gather_duration_seconds", "Time in which the instances were asked.", seconds)
    yield _info(instances)
    yield _durations(instances)
    for metric in metrics.METRICS:
        yield _family(metric, instances)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _info(instances: Sequence[RunningInstance]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        f"{metrics.PREFIX}instance_info", "Names and version of an instance; always 1.", labels=(*_INSTANCE, *_INFO)
    )
    for found in instances:
        data = found.data
        family.add_metric([*_labels(found), data.provider_key, data.link_name, data.host_id, found.version], 1.0)
    return family


def _durations(instances: Sequence[RunningInstance]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metrics.CALL_DURATION, metrics.CALL_DURATION_HELP, labels=(*_INSTANCE, "operation"))
    for found in instances:
        for histogram in metrics.call_durations(found.data):
            labels = [*_labels(found), histogram.operation]
            family.add_metric(labels, histogram.buckets, histogram.seconds)
    return family


def _family(metric: metrics.Metric, instances: Sequence[RunningInstance]) -> Metric:
    type_ = CounterMetricFamily if metric.kind is metrics.MetricKind.COUNTER else GaugeMetricFamily
    family = type_(metric.name, metric.help, labels=(*_INSTANCE, *metric.labels))
    for found in instances:
        for labels, value in metric.samples(found.data).items():
            family.add_metric([*_labels(found), *labels], value)
    return family


def _labels(instance: RunningInstance) -> tuple[str, str]:
    return instance.data.lattice, instance.id
