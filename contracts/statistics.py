"""The `data` of the NATS service statistics: one JSON object that describes one running provider.

The exporter, `top` and OTLP are built on it. Counters begin with the process, those of a store when it is opened. A reader
ignores fields that it does not know, and takes the default for those that are missing.

Source: ADR-32 (service API, field `data` of an endpoint's or a service's statistics).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

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


MOST_ROWS = 256
"""Links, and stores of each kind, in one answer: about 300 bytes each, far below the 1 MiB of a message."""

MOST_NAME_CHARACTERS = 200
"""Length to which names are cut: a bucket's has at most 255 characters, an actor's key 56."""

Text = Annotated[str, Meta(max_length=512)]
"""A name or a reason. Any client may answer in the name of a service, so readers refuse larger answers."""

Count = Annotated[int, Meta(ge=0)]
MOST_NUMBERS = 64
"""Numbers by one name: more than there are operations or reasons, and than a cache usually has replicas."""

Counts = Annotated[dict[Text, Count], Meta(max_length=MOST_NUMBERS)]
"""Numbers by operation, by reason or by replica."""

Latencies = Annotated[list[Count], Meta(max_length=64)]
Seconds = Annotated[float, Meta(ge=0)]


class OperationStatistics(Struct, frozen=True, kw_only=True):
    """The calls of one operation that have been answered, on all links together.

    Attributes:
        operation: Name of the operation.
        succeeded: Number of calls answered with a result.
        failed: Number of calls answered with an error, by the class of the error.
        seconds: Time from arrival to answer, of all calls together.
        latency_counts: Number of calls in each bucket of `latency_bounds_seconds`; the last number is of those beyond.
    """

    operation: Text
    succeeded: Count = 0
    failed: Counts = field(default_factory=dict)
    seconds: Seconds = 0.0
    latency_counts: Latencies = field(default_factory=list)


class WatchStatistics(Struct, frozen=True, kw_only=True):
    """The watch of a link. All instances share one position; the counts are of this one.

    Attributes:
        is_healthy: Whether the actor receives changes.
        delivered: Number of changes that the actor has taken from this instance.
        failed_calls: Number of calls of the actor that failed.
        dead_letters: Number of changes that the actor did not take, and that are dead letters now.
        pending: Number of changes that wait behind the last one that this instance received, as of the last ten seconds.
        current_seconds: Age of the change that the actor is being called with; 0 if there is no such change.
    """

    is_healthy: bool = True
    delivered: Count = 0
    failed_calls: Count = 0
    dead_letters: Count = 0
    pending: Count = 0
    current_seconds: Seconds = 0.0


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

    actor_id: Text
    link_name: Text
    backend: Text = ""
    store: Text = ""
    is_healthy: bool = True
    reason: Text = ""
    succeeded: Counts = field(default_factory=dict)
    failed: Counts = field(default_factory=dict)
    seconds: Seconds = 0.0
    latency_counts: Latencies = field(default_factory=list)
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
        pages: Number of messages in the stream of the pages of large values, as of the last ten seconds.
        pages_bytes: Size of that stream on one server.
        pages_removed: Number of pages that this instance has collected, because no value names them any more.
    """

    bucket: Text
    links: Count = 0
    is_open: bool = False
    is_healthy: bool = True
    replicas: Count = 0
    messages: Count = 0
    size_bytes: Count = 0
    max_bytes: Count = 0
    changes: Count = 0
    writes: Count = 0
    conflicts: Count = 0
    failed_in_a_row: Count = 0
    has_lease: bool | None = None
    lease_renewals: Count = 0
    lease_misses: Count = 0
    expired: Count = 0
    pages: Count = 0
    pages_bytes: Count = 0
    pages_removed: Count = 0


class CacheStatistics(Struct, frozen=True, kw_only=True):
    """One replica of a cache.

    Attributes:
        cache: State subject of the cache.
        replica: Id of this replica, new at each start.
        seen: Number of changes that this replica has seen, by the id of the replica that made them; at most 64 replicas.
        links: Number of links that share it.
        is_connected: Whether the other replicas can be reached.
        is_joined: Whether the replica has caught up with the others.
        is_healthy: Whether it works.
        keys: Number of keys that hold a value.
        max_keys: Limit of the number of keys; 0: no limit.
        size_bytes: Size of keys and values, with 100 bytes for each key and item.
        max_bytes: Limit of that size; 0: no limit.
        tombstones: Number of deleted keys and counters that are remembered until every replica knows of them.
        tombstones_discarded: Number of them that were discarded.
        peers: Number of other replicas that are heard.
        missing_events: Lag: number of changes that a peer has, by its last heartbeat, and this replica has not.
        silent_seconds: Time since the last heartbeat of the peer that has been silent longest.
        pages_received: Number of pages that this replica has pulled from others.
        pages_sent: Number of pages that it has sent to others.
        messages_refused: Number of messages on its subjects that were not believed, by reason.
    """

    cache: Text
    replica: Text = ""
    seen: Counts = field(default_factory=dict)
    links: Count = 0
    is_connected: bool = False
    is_joined: bool = False
    is_healthy: bool = True
    keys: Count = 0
    max_keys: Count = 0
    size_bytes: Count = 0
    max_bytes: Count = 0
    tombstones: Count = 0
    tombstones_discarded: Count = 0
    peers: Count = 0
    missing_events: Count = 0
    silent_seconds: Seconds = 0.0
    pages_received: Count = 0
    pages_sent: Count = 0
    messages_refused: Counts = field(default_factory=dict)


class ConnectionStatistics(Struct, frozen=True, kw_only=True):
    """The connections to NATS: the lattice's, and those of links with settings of their own.

    Attributes:
        open: Number of connections in use.
        connected: Number of those that are connected now.
        reconnects: Number of times that a connection was restored.
        failed_requests: Number of requests that had no answer when a connection was lost.
    """

    open: Count = 0
    connected: Count = 0
    reconnects: Count = 0
    failed_requests: Count = 0


class ProcessStatistics(Struct, frozen=True, kw_only=True):
    """The process.

    Attributes:
        resident_bytes: Resident memory.
        cpu_seconds: CPU time, in user and system mode.
        garbage_collections: Number of runs of Python's garbage collector, of all generations.
        remembered_ids: Number of invocation ids that are remembered to refuse repetitions.
    """

    resident_bytes: Count = 0
    cpu_seconds: Seconds = 0.0
    garbage_collections: Count = 0
    remembered_ids: Count = 0


class SignatureStatistics(Struct, frozen=True, kw_only=True):
    """The checks of signatures. Helper processes take part when calls wait for one another.

    Attributes:
        processes: Number of helper processes that are wanted.
        running: Number of those that are ready.
        restarts: Number of helpers that have ended and were replaced, or are to be.
        checked: Number of signatures that helpers have checked.
        checked_in_place: Number of signatures that the provider's own process has checked.
    """

    processes: Count = 0
    running: Count = 0
    restarts: Count = 0
    checked: Count = 0
    checked_in_place: Count = 0


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
        signatures: The checks of signatures.
        process: The process.
    """

    format: Count = FORMAT_VERSION
    lattice: Text = ""
    provider_key: Text = ""
    link_name: Text = ""
    host_id: Text = ""
    uptime_seconds: Seconds = 0.0
    is_healthy: bool = True
    message: Text = ""
    latency_bounds_seconds: Annotated[list[float], Meta(max_length=63)] = field(default_factory=list)
    operations: Annotated[list[OperationStatistics], Meta(max_length=64)] = field(default_factory=list)
    refused: Counts = field(default_factory=dict)
    in_flight: Count = 0
    max_in_flight: Count = 0
    in_flight_bytes: Count = 0
    max_in_flight_bytes: Count = 0
    link_count: Count = 0
    links: Annotated[list[LinkStatistics], Meta(max_length=MOST_ROWS)] = field(default_factory=list)
    buckets: Annotated[list[BucketStatistics], Meta(max_length=MOST_ROWS)] = field(default_factory=list)
    caches: Annotated[list[CacheStatistics], Meta(max_length=MOST_ROWS)] = field(default_factory=list)
    connections: ConnectionStatistics = ConnectionStatistics()
    signatures: SignatureStatistics = SignatureStatistics()
    process: ProcessStatistics = ProcessStatistics()
