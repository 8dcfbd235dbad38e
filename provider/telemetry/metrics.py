"""The metrics of a provider: names, labels and values, derived from its statistics. Pure.

The exporter and OTLP serve these. Names follow the conventions of Prometheus: base units at the end, `_total` for counters.
No label has a key or a value of an actor; the number of series of one instance is bounded by the statistics.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from contracts.statistics import (
    BucketStatistics,
    CacheStatistics,
    InstanceStatistics,
    LinkStatistics,
    WatchStatistics,
)

T = TypeVar("T")

PREFIX = "keyvalue_nats_"
CALL_DURATION = f"{PREFIX}call_duration_seconds"
SUCCESS = "ok"
"""The outcome of a call that succeeded. Any other outcome is the class of an error."""


class MetricKind(enum.Enum):
    """The kind of a metric, as Prometheus and OTLP need it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    STATE = "gauge, 1 or 0"
    """A gauge that is 1 if all is well and 0 otherwise."""


class Sample(NamedTuple):
    """A value, with the values of the metric's labels."""

    labels: tuple[str, ...]
    value: float


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: Name, with the suffix of its unit.
        kind: Kind of the metric.
        help: Description for people.
        labels: Names of the labels, without those of the instance.
        read: Function that yields the samples of one instance.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...]
    read: Callable[[InstanceStatistics], Iterable[Sample]]

    def samples(self, data: InstanceStatistics) -> dict[tuple[str, ...], float]:
        """Return the values by labels.

        Two links or stores may have the same labels, as buckets of one name in two accounts. Their counts are added; of
        gauges the worse one is taken.
        """
        found: dict[tuple[str, ...], float] = {}
        for labels, value in self.read(data):
            if labels not in found:
                found[labels] = value
            elif self.kind is MetricKind.COUNTER:
                found[labels] += value
            else:
                found[labels] = (min if self.kind is MetricKind.STATE else max)(found[labels], value)
        return found


class Histogram(NamedTuple):
    """The durations of the calls of one operation.

    Attributes:
        operation: Name of the operation.
        buckets: Upper bound in seconds, "+Inf" at the end, and number of calls up to it.
        seconds: Sum of the durations.
    """

    operation: str
    buckets: list[tuple[str, float]]
    seconds: float


CALL_DURATION_HELP = "Time from the arrival of a call to its answer, by operation."


def call_durations(data: InstanceStatistics) -> Iterator[Histogram]:
    """Yield the histogram of each operation."""
    bounds = [*(str(bound) for bound in data.latency_bounds_seconds), "+Inf"]
    for operation in data.operations:
        if len(operation.latency_counts) == len(bounds):
            total, buckets = 0, []
            for bound, count in zip(bounds, operation.latency_counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            yield Histogram(operation.operation, buckets, operation.seconds)


# --- the table


def _one(read: Callable[[InstanceStatistics], float]) -> Callable[[InstanceStatistics], Iterable[Sample]]:
    return lambda data: [Sample((), float(read(data)))]


def _calls(data: InstanceStatistics) -> Iterator[Sample]:
    for found in data.operations:
        yield Sample((found.operation, SUCCESS), found.succeeded)
        for error, count in found.failed.items():
            yield Sample((found.operation, error), count)


def _link_calls(data: InstanceStatistics) -> Iterator[Sample]:
    for link in data.links:
        yield Sample((link.actor_id, link.link_name, SUCCESS), sum(link.succeeded.values()))
        yield Sample((link.actor_id, link.link_name, "error"), sum(link.failed.values()))


def _checked_signatures(data: InstanceStatistics) -> Iterator[Sample]:
    yield Sample(("helper",), data.signatures.checked)
    yield Sample(("provider",), data.signatures.checked_in_place)


def _refused_messages(data: InstanceStatistics) -> Iterator[Sample]:
    for cache in data.caches:
        for reason, count in cache.messages_refused.items():
            yield Sample((cache.cache, reason), count)


def _by_reason(data: InstanceStatistics) -> Iterator[Sample]:
    return (Sample((reason,), count) for reason, count in data.refused.items())


def _links(
    read: Callable[[LinkStatistics], float], labels: Callable[[LinkStatistics], tuple[str, ...]]
) -> Callable[[InstanceStatistics], Iterable[Sample]]:
    return lambda data: [Sample(labels(link), float(read(link))) for link in data.links]


def _watches(read: Callable[[WatchStatistics], float]) -> Callable[[InstanceStatistics], Iterable[Sample]]:
    return lambda data: [
        Sample((link.actor_id, link.link_name), float(read(link.watch))) for link in data.links if link.watch
    ]


def _buckets(read: Callable[[BucketStatistics], float | None]) -> Callable[[InstanceStatistics], Iterable[Sample]]:
    return lambda data: [
        Sample((bucket.bucket,), float(value)) for bucket in data.buckets if (value := read(bucket)) is not None
    ]


def _caches(read: Callable[[CacheStatistics], float | None]) -> Callable[[InstanceStatistics], Iterable[Sample]]:
    return lambda data: [
        Sample((cache.cache,), float(value)) for cache in data.caches if (value := read(cache)) is not None
    ]


_COUNTER, _GAUGE, _STATE = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.STATE
_LINK, _BUCKET, _CACHE = ("actor_id", "link_name"), ("bucket",), ("cache",)

_TABLE: tuple[tuple[str, MetricKind, tuple[str, ...], Callable[[InstanceStatistics], Iterable[Sample]], str], ...] = (
    ("healthy", _STATE, (), _one(lambda data: data.is_healthy), "Whether health is well."),
    ("uptime_seconds", _GAUGE, (), _one(lambda data: data.uptime_seconds), "Time since the provider became ready."),
    ("calls_total", _COUNTER, ("operation", "outcome"), _calls, "Calls answered, by operation and outcome: `ok` or the class of the error."),
    ("refused_invocations_total", _COUNTER, ("reason",), _by_reason, "Invocations refused before they reached a link, by the class of the error."),
    ("in_flight_calls", _GAUGE, (), _one(lambda data: data.in_flight), "Calls that wait for their answer."),
    ("in_flight_limit_calls", _GAUGE, (), _one(lambda data: data.max_in_flight), "Limit of the calls that wait for their answer."),
    ("in_flight_bytes", _GAUGE, (), _one(lambda data: data.in_flight_bytes), "Size of the payloads of these calls."),
    ("in_flight_limit_bytes", _GAUGE, (), _one(lambda data: data.max_in_flight_bytes), "Limit of that size."),
    ("links", _GAUGE, (), _one(lambda data: data.link_count), "Links in force, also those that no other metric shows."),
    ("link_healthy", _STATE, (*_LINK, "backend", "store"), _links(lambda link: link.is_healthy, lambda link: (link.actor_id, link.link_name, link.backend, link.store)), "Whether a link works, with the kind and the name of its store."),
    ("link_calls_total", _COUNTER, (*_LINK, "outcome"), _link_calls, "Calls of a link answered, by outcome: `ok` or `error`."),
    ("watch_healthy", _STATE, _LINK, _watches(lambda watch: watch.is_healthy), "Whether the actor of a watch receives changes."),
    ("watch_delivered_changes_total", _COUNTER, _LINK, _watches(lambda watch: watch.delivered), "Changes that the actor has taken."),
    ("watch_failed_calls_total", _COUNTER, _LINK, _watches(lambda watch: watch.failed_calls), "Calls of the actor that failed."),
    ("watch_dead_letters_total", _COUNTER, _LINK, _watches(lambda watch: watch.dead_letters), "Changes that became dead letters."),
    ("watch_pending_changes", _GAUGE, _LINK, _watches(lambda watch: watch.pending), "Changes that wait behind the one received last."),
    ("watch_current_change_age_seconds", _GAUGE, _LINK, _watches(lambda watch: watch.current_seconds), "Age of the change that the actor is being called with."),
    ("bucket_healthy", _STATE, _BUCKET, _buckets(lambda bucket: bucket.is_healthy), "Whether a bucket works."),
    ("bucket_replicas", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.replicas), "Replicas of the bucket's stream."),
    ("bucket_messages", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.messages), "Stored messages, markers of deleted keys included."),
    ("bucket_size_bytes", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.size_bytes), "Size of the bucket on one server."),
    ("bucket_limit_bytes", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.max_bytes or None), "Limit of that size, where there is one."),
    ("bucket_changes_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.changes), "Changes written."),
    ("bucket_writes_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.writes), "Writes that carried them; changes of one key may share a write."),
    ("bucket_conflicts_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.conflicts), "Writes that another writer was ahead of."),
    ("bucket_consecutive_write_failures", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.failed_in_a_row), "Writes that have failed since the last success."),
    ("bucket_lease_held", _STATE, _BUCKET, _buckets(lambda bucket: bucket.has_lease), "Whether the read lease of a replicated bucket runs; it ends without reads."),
    ("bucket_lease_renewals_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.lease_renewals), "Writes for the read lease."),
    ("bucket_lease_misses_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.lease_misses), "Renewals without a lease, because a replica was missing."),
    ("bucket_expired_values_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.expired), "Expired values replaced by markers."),
    ("bucket_pages", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.pages), "Messages in the stream of the pages of large values."),
    ("bucket_pages_size_bytes", _GAUGE, _BUCKET, _buckets(lambda bucket: bucket.pages_bytes), "Size of that stream on one server."),
    ("bucket_collected_pages_total", _COUNTER, _BUCKET, _buckets(lambda bucket: bucket.pages_removed), "Pages collected, because no value names them any more."),
    ("cache_healthy", _STATE, _CACHE, _caches(lambda cache: cache.is_healthy), "Whether a cache works."),
    ("cache_joined", _STATE, _CACHE, _caches(lambda cache: cache.is_joined), "Whether a replica has caught up with the others."),
    ("cache_keys", _GAUGE, _CACHE, _caches(lambda cache: cache.keys), "Keys that hold a value."),
    ("cache_limit_keys", _GAUGE, _CACHE, _caches(lambda cache: cache.max_keys or None), "Limit of the keys, where there is one."),
    ("cache_size_bytes", _GAUGE, _CACHE, _caches(lambda cache: cache.size_bytes), "Size of keys and values."),
    ("cache_limit_bytes", _GAUGE, _CACHE, _caches(lambda cache: cache.max_bytes or None), "Limit of that size, where there is one."),
    ("cache_tombstones", _GAUGE, _CACHE, _caches(lambda cache: cache.tombstones), "Deleted keys and counters that are remembered."),
    ("cache_discarded_tombstones_total", _COUNTER, _CACHE, _caches(lambda cache: cache.tombstones_discarded), "Tombstones discarded."),
    ("cache_peers", _GAUGE, _CACHE, _caches(lambda cache: cache.peers), "Other replicas that are heard."),
    ("cache_missing_changes", _GAUGE, _CACHE, _caches(lambda cache: cache.missing_events), "Lag: changes that a peer has and this replica has not."),
    ("cache_peer_silence_seconds", _GAUGE, _CACHE, _caches(lambda cache: cache.silent_seconds), "Time since the last heartbeat of the most silent peer."),
    ("cache_received_pages_total", _COUNTER, _CACHE, _caches(lambda cache: cache.pages_received), "Pages pulled from other replicas."),
    ("cache_sent_pages_total", _COUNTER, _CACHE, _caches(lambda cache: cache.pages_sent), "Pages sent to other replicas."),
    ("cache_refused_messages_total", _COUNTER, (*_CACHE, "reason"), _refused_messages, "Messages that were not believed, by reason."),
    ("connections", _GAUGE, (), _one(lambda data: data.connections.open), "Connections to NATS in use."),
    ("connections_up", _GAUGE, (), _one(lambda data: data.connections.connected), "Connections to NATS that are connected now."),
    ("reconnects_total", _COUNTER, (), _one(lambda data: data.connections.reconnects), "Connections to NATS restored."),
    ("failed_requests_total", _COUNTER, (), _one(lambda data: data.connections.failed_requests), "Requests without an answer when a connection was lost."),
    ("checked_signatures_total", _COUNTER, ("process",), _checked_signatures, "Signatures checked, by the process that did: `helper` or `provider`."),
    ("signature_processes", _GAUGE, (), _one(lambda data: data.signatures.processes), "Helper processes for signature checks that are wanted."),
    ("signature_processes_running", _GAUGE, (), _one(lambda data: data.signatures.running), "Helper processes that are ready."),
    ("signature_process_restarts_total", _COUNTER, (), _one(lambda data: data.signatures.restarts), "Helper processes that have ended and were replaced."),
    ("resident_memory_bytes", _GAUGE, (), _one(lambda data: data.process.resident_bytes), "Resident memory of the process."),
    ("cpu_seconds_total", _COUNTER, (), _one(lambda data: data.process.cpu_seconds), "CPU time of the process."),
    ("garbage_collections_total", _COUNTER, (), _one(lambda data: data.process.garbage_collections), "Runs of Python's garbage collector."),
    ("remembered_invocations", _GAUGE, (), _one(lambda data: data.process.remembered_ids), "Invocation ids that are remembered to refuse repetitions."),
)  # fmt: skip

METRICS = tuple(Metric(PREFIX + name, kind, text, labels, read) for name, kind, labels, read, text in _TABLE)
"""All metrics beside the histogram `CALL_DURATION`."""
