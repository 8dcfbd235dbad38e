"""The `data` of the NATS service statistics: one JSON object that describes one running provider.

The exporter, `top` and OTLP are built on it. Counters begin with the process, those of a store when it is opened. A reader
ignores fields that it does not know, and takes the default for those that are missing.

Source: ADR-32 (service API, field `data` of an endpoint's or a service's statistics).
"""

from __future__ import annotations

from msgspec import Struct, field

FORMAT_VERSION = 1
"""Raised when a field changes its meaning; new fields leave it."""

SERVICE_PREFIX = "keyvalue-nats-"
"""Beginning of the service's name, before the provider's public key."""

LATENCY_BOUNDS_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""Upper bounds of the latency buckets: from a call that a cache answers from memory to one that fails at its deadline."""


class OperationStatistics(Struct, frozen=True, kw_only=True):
    """The calls of one operation that have been answered, on all links together.

    Attributes:
        operation: Name of the operation.
        succeeded: Number of calls answered with a result.
        failed: Number of calls answered with an error, by the class of the error.
        seconds: Time from arrival to answer, of all calls together.
        latency_counts: Number of calls in each bucket of `latency_bounds_seconds`; the last number is of those beyond.
    """

    operation: str
    succeeded: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    latency_counts: list[int] = field(default_factory=list)


class WatchStatistics(Struct, frozen=True, kw_only=True):
    """The watch of a link. All instances share one position; the counts are of this one.

    Attributes:
        is_healthy: Whether the actor receives changes.
        delivered: Number of changes that the actor has taken from this instance.
        failed_calls: Number of calls of the actor that failed.
        dead_letters: Number of changes that the actor did not take, and that are dead letters now.
        pending: Number of changes that waited behind the last one that this instance received.
        current_seconds: Age of the change that the actor is being called with; 0 if there is no such change.
    """

    is_healthy: bool = True
    delivered: int = 0
    failed_calls: int = 0
    dead_letters: int = 0
    pending: int = 0
    current_seconds: float = 0.0


class LinkStatistics(Struct, frozen=True, kw_only=True):
    """One link in force.

    Attributes:
        actor_id: Public key of the actor, at most 100 characters.
        link_name: Name of the link, at most 100 characters.
        backend: `bucket` or `cache`; "" if the link's settings are not valid.
        store: Name of the bucket, or state subject of the cache; "" if the link's settings are not valid.
        is_healthy: Whether the link works.
        reason: The reason if it does not, as in health.
        succeeded: Number of calls by operation that were answered with a result.
        failed: Number of calls by operation that were answered with an error.
        seconds: Time from arrival to answer, of all calls together.
        latency_counts: Number of calls in each bucket, as for an operation.
        watch: The link's watch; null if it has no watch.
    """

    actor_id: str
    link_name: str
    backend: str = ""
    store: str = ""
    is_healthy: bool = True
    reason: str = ""
    succeeded: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    latency_counts: list[int] = field(default_factory=list)
    watch: WatchStatistics | None = None


class BucketStatistics(Struct, frozen=True, kw_only=True):
    """One bucket as this instance sees it. Its counters begin when the bucket is opened.

    Attributes:
        bucket: Name of the bucket.
        links: Number of links and of watches that share it.
        is_open: Whether the bucket is open.
        is_healthy: Whether it works.
        replicas: Number of replicas of its stream.
        messages: Number of stored messages, markers of deleted keys included, as of the last ten seconds.
        size_bytes: Size of the stream on one server, as of the last ten seconds.
        max_bytes: Limit of that size; 0: no limit.
        changes: Number of changes written. Several changes of one key may share a write.
        writes: Number of writes that carried them.
        conflicts: Number of writes that another writer was ahead of, and that were planned again.
        failed_in_a_row: Number of writes that have failed since the last success.
        has_lease: Whether strong reads need no question to other replicas now; null for a bucket of one replica.
        lease_renewals: Number of writes made for the read lease.
        lease_misses: Number of renewals that got no lease, because a replica was missing.
        expired: Number of expired values that this instance has replaced by markers.
    """

    bucket: str
    links: int = 0
    is_open: bool = False
    is_healthy: bool = True
    replicas: int = 0
    messages: int = 0
    size_bytes: int = 0
    max_bytes: int = 0
    changes: int = 0
    writes: int = 0
    conflicts: int = 0
    failed_in_a_row: int = 0
    has_lease: bool | None = None
    lease_renewals: int = 0
    lease_misses: int = 0
    expired: int = 0


class CacheStatistics(Struct, frozen=True, kw_only=True):
    """One replica of a cache.

    Attributes:
        cache: State subject of the cache.
        links: Number of links that share it.
        is_connected: Whether the other replicas can be reached.
        is_joined: Whether the replica has caught up with the others.
        is_healthy: Whether it works.
        keys: Number of keys that hold a value.
        max_keys: Limit of the number of keys.
        size_bytes: Size of keys and values, with 100 bytes for each key and item.
        max_bytes: Limit of that size.
        tombstones: Number of deleted keys and counters that are remembered until every replica knows of them.
        tombstones_discarded: Number of them that were discarded.
        peers: Number of other replicas that are heard.
        missing_events: Lag: number of changes that a peer has, by its last heartbeat, and this replica has not.
        silent_seconds: Time since the last heartbeat of the peer that has been silent longest.
        pages_received: Number of pages that this replica has pulled from others.
        pages_sent: Number of pages that it has sent to others.
        messages_refused: Number of messages on its subjects that were not believed, by reason.
    """

    cache: str
    links: int = 0
    is_connected: bool = False
    is_joined: bool = False
    is_healthy: bool = True
    keys: int = 0
    max_keys: int = 0
    size_bytes: int = 0
    max_bytes: int = 0
    tombstones: int = 0
    tombstones_discarded: int = 0
    peers: int = 0
    missing_events: int = 0
    silent_seconds: float = 0.0
    pages_received: int = 0
    pages_sent: int = 0
    messages_refused: dict[str, int] = field(default_factory=dict)


class ConnectionStatistics(Struct, frozen=True, kw_only=True):
    """The connections to NATS: the lattice's, and those of links with settings of their own.

    Attributes:
        open: Number of connections in use.
        connected: Number of those that are connected now.
        reconnects: Number of times that a connection was restored.
        failed_requests: Number of requests that had no answer when a connection was lost.
    """

    open: int = 0
    connected: int = 0
    reconnects: int = 0
    failed_requests: int = 0


class ProcessStatistics(Struct, frozen=True, kw_only=True):
    """The process.

    Attributes:
        resident_bytes: Resident memory.
        cpu_seconds: CPU time, in user and system mode.
        garbage_collections: Number of runs of Python's garbage collector, of all generations.
        remembered_ids: Number of invocation ids that are remembered to refuse repetitions.
    """

    resident_bytes: int = 0
    cpu_seconds: float = 0.0
    garbage_collections: int = 0
    remembered_ids: int = 0


class InstanceStatistics(Struct, frozen=True, kw_only=True):
    """The `data` of one instance.

    Attributes:
        format: Version of this format, 1.
        lattice: Lattice prefix.
        provider_key: Public key of the provider.
        link_name: Link name that the host started the provider with.
        host_id: Public key of the host.
        uptime_seconds: Time since the provider became ready.
        is_healthy: Whether health is well.
        message: Message of health: the reason if it is not well, else remarks.
        latency_bounds_seconds: Upper bounds of the latency buckets.
        operations: Operations that have been called.
        refused: Number of invocations that were refused before they reached a link, by the class of the error.
        in_flight: Number of calls that wait for their answer.
        max_in_flight: Limit of that number.
        in_flight_bytes: Size of their payloads.
        max_in_flight_bytes: Limit of that size.
        link_count: Number of links in force.
        links: The links; those that do not work come first. As many as fit into a message, at most 256.
        buckets: The buckets of the links, at most 256.
        caches: The caches of the links, at most 256.
        connections: The connections to NATS.
        process: The process.
    """

    format: int = FORMAT_VERSION
    lattice: str = ""
    provider_key: str = ""
    link_name: str = ""
    host_id: str = ""
    uptime_seconds: float = 0.0
    is_healthy: bool = True
    message: str = ""
    latency_bounds_seconds: list[float] = field(default_factory=list)
    operations: list[OperationStatistics] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    max_in_flight: int = 0
    in_flight_bytes: int = 0
    max_in_flight_bytes: int = 0
    link_count: int = 0
    links: list[LinkStatistics] = field(default_factory=list)
    buckets: list[BucketStatistics] = field(default_factory=list)
    caches: list[CacheStatistics] = field(default_factory=list)
    connections: ConnectionStatistics = ConnectionStatistics()
    process: ProcessStatistics = ProcessStatistics()
