"""The rows of the view, from two rounds of statistics: rates, latencies and lag. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from contracts.statistics import BucketStatistics, CacheStatistics, InstanceStatistics, LinkStatistics
from provider.commands.instances import MOST_INSTANCES, RunningInstance


@dataclass(frozen=True)
class Activity:
    """The calls between two rounds. Rates are per second; latencies are in seconds, None without a call.

    Attributes:
        calls: Rate of all calls.
        errors: Rate of calls answered with an error.
        median: Latency of the slower half.
        p99: Latency of the slowest hundredth.
    """

    calls: float = 0.0
    errors: float = 0.0
    median: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class InstanceRow:
    """One provider process."""

    id: str
    lattice: str
    host_id: str
    version: str
    uptime_seconds: float
    is_healthy: bool
    message: str
    activity: Activity
    in_flight: int
    cpu_share: float
    resident_bytes: int
    links: int


@dataclass(frozen=True)
class LinkRow:
    """One link, on all instances together.

    Attributes:
        instances: Number of instances that have the link.
        reason: Reason of an instance in which it does not work; "" if it works in all.
        watch_pending: Changes that wait for the actor; None without a watch.
        watch_seconds: Age of the change that the actor is being called with.
        dead_letters: Changes that the actor did not take.
        operations: By operation, the number of calls that succeeded and that failed since the start.
    """

    lattice: str
    actor_id: str
    link_name: str
    backend: str
    store: str
    instances: int
    reason: str
    activity: Activity
    watch_pending: int | None = None
    watch_seconds: float = 0.0
    dead_letters: int = 0
    operations: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """The identity of the link."""
        return self.lattice, self.actor_id, self.link_name


@dataclass(frozen=True)
class StoreRow:
    """One bucket, or one cache on all its replicas.

    Attributes:
        kind: `bucket` or `cache`.
        items: Messages of a bucket, keys of a cache.
        limit_bytes: Limit of the size; 0: no limit.
        changes: Rate of changes of a bucket.
        writes: Rate of the writes that carry them.
        conflicts: Rate of repeated writes.
        lag: Changes that a replica of a cache lacks, at most; None for a bucket.
        replicas: Replicas of a bucket's stream, or of a cache.
        is_healthy: Whether it works in all instances.
    """

    lattice: str
    kind: str
    name: str
    is_healthy: bool
    items: int
    size_bytes: int
    limit_bytes: int
    replicas: int
    changes: float = 0.0
    writes: float = 0.0
    conflicts: float = 0.0
    lag: int | None = None


@dataclass(frozen=True)
class Overview:
    """Everything that one picture of the view shows. `gone` is the number of instances that have answered before."""

    instances: list[InstanceRow]
    links: list[LinkRow]
    stores: list[StoreRow]
    activity: Activity
    gone: int = 0


class Rounds:
    """Remembers the last round of statistics, to tell rates by the next one."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], RunningInstance] = {}
        self._seen: set[tuple[str, str]] = set()
        self._asked_at = 0.0

    def next(self, instances: Sequence[RunningInstance], now: float) -> Overview:
        """Return the rows of a round.

        Args:
            instances: Instances that have answered.
            now: Time of the answers, in seconds of a steady clock.
        """
        pairs = [
            _Pair(found, self._before.get((found.data.lattice, found.id)), now - self._asked_at) for found in instances
        ]
        self._before = {(found.data.lattice, found.id): found for found in instances}
        # Any client may answer in the name of instances without an end.
        self._seen = self._before.keys() | (self._seen if len(self._seen) < MOST_INSTANCES else set())
        self._asked_at = now
        return Overview(
            instances=[_instance_row(pair) for pair in pairs],
            links=_link_rows(pairs),
            stores=_store_rows(pairs),
            activity=_activity([_calls_of(pair) for pair in pairs]),
            gone=len(self._seen) - len(self._before),
        )


class _Pair:
    """One instance in this round and in the last one. After a restart, counters begin anew."""

    def __init__(self, now: RunningInstance, before: RunningInstance | None, seconds: float) -> None:
        self.now = now
        is_restarted = before is not None and before.data.uptime_seconds > now.data.uptime_seconds
        self.before = None if before is None or is_restarted else before.data
        # The first round of an instance tells its mean since the start.
        self.seconds = max(seconds if self.before is not None else now.data.uptime_seconds, 0.001)

    @property
    def data(self) -> InstanceStatistics:
        return self.now.data


@dataclass
class _Calls:
    """Calls counted between two rounds, and the time between them."""

    succeeded: int
    failed: int
    latency_counts: list[int]
    bounds: Sequence[float]
    seconds: float


def _difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    padded = [*before, *[0] * (len(now) - len(before))]
    return [max(later - earlier, 0) for later, earlier in zip(now, padded, strict=False)]


def _activity(found: Iterable[_Calls]) -> Activity:
    calls = errors = 0.0
    bounds: Sequence[float] = ()
    counts: list[int] = []
    for one in found:
        calls += (one.succeeded + one.failed) / one.seconds
        errors += one.failed / one.seconds
        bounds = one.bounds
        counts = [a + b for a, b in zip(one.latency_counts, counts or [0] * len(one.latency_counts), strict=False)]
    return Activity(calls, errors, quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.99))


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return an upper bound of the latency of a share of the calls; between two bounds it is interpolated.

    Args:
        bounds: Upper bounds of the buckets in seconds.
        counts: Number of calls in each bucket, and beyond the last one.
        share: Share of the calls, from 0 to 1.

    Returns:
        None without a call, or if the two lists do not belong together.
    """
    total = sum(counts)
    if not total or len(counts) != len(bounds) + 1:
        return None
    wanted, below, lower = share * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count if count else bound
        below, lower = below + count, bound
    return bounds[-1]


# --- instances


def _calls_of(pair: _Pair) -> _Calls:
    data, before = pair.data, pair.before
    width = len(data.latency_bounds_seconds) + 1

    def sums(found: InstanceStatistics | None) -> tuple[int, int, list[int]]:
        operations = found.operations if found is not None else []
        counts = [sum(one) for one in zip(*(item.latency_counts for item in operations), strict=False)]
        failed = sum(sum(item.failed.values()) for item in operations)
        return sum(item.succeeded for item in operations), failed, counts or [0] * width

    (succeeded, failed, counts), (succeeded_before, failed_before, counts_before) = sums(data), sums(before)
    return _Calls(
        max(succeeded - succeeded_before, 0),
        max(failed - failed_before, 0),
        _difference(counts, counts_before),
        data.latency_bounds_seconds,
        pair.seconds,
    )


def _instance_row(pair: _Pair) -> InstanceRow:
    data = pair.data
    cpu_before = pair.before.process.cpu_seconds if pair.before is not None else 0.0
    return InstanceRow(
        id=pair.now.id,
        lattice=data.lattice,
        host_id=data.host_id,
        version=pair.now.version,
        uptime_seconds=data.uptime_seconds,
        is_healthy=data.is_healthy,
        message=data.message,
        activity=_activity([_calls_of(pair)]),
        in_flight=data.in_flight,
        cpu_share=max(data.process.cpu_seconds - cpu_before, 0.0) / pair.seconds,
        resident_bytes=data.process.resident_bytes,
        links=data.link_count,
    )


# --- links


def _link_rows(pairs: Sequence[_Pair]) -> list[LinkRow]:
    found: dict[tuple[str, str, str], list[tuple[LinkStatistics, LinkStatistics | None, _Pair]]] = {}
    for pair in pairs:
        before = {(link.actor_id, link.link_name): link for link in (pair.before.links if pair.before else ())}
        for link in pair.data.links:
            key = pair.data.lattice, link.actor_id, link.link_name
            found.setdefault(key, []).append((link, before.get(key[1:]), pair))
    return [_link_row(lattice, items) for (lattice, _, _), items in found.items()]


def _link_row(lattice: str, items: list[tuple[LinkStatistics, LinkStatistics | None, _Pair]]) -> LinkRow:
    links = [link for link, _, _ in items]
    first = next((link for link in links if link.store), links[0])
    watches = [link.watch for link in links if link.watch is not None]
    succeeded, failed = Counter[str](), Counter[str]()
    for link in links:
        succeeded.update(link.succeeded)
        failed.update(link.failed)
    return LinkRow(
        lattice=lattice,
        actor_id=first.actor_id,
        link_name=first.link_name,
        backend=first.backend,
        store=first.store,
        instances=len(links),
        reason=next((link.reason or "does not work" for link in links if not link.is_healthy), ""),
        activity=_activity(_calls_of_link(*item) for item in items),
        watch_pending=max((watch.pending for watch in watches), default=None),
        watch_seconds=max((watch.current_seconds for watch in watches), default=0.0),
        dead_letters=sum(watch.dead_letters for watch in watches),
        operations={
            name: (succeeded[name], failed[name])
            for name in sorted(succeeded | failed, key=lambda name: -succeeded[name])
        },
    )


def _calls_of_link(link: LinkStatistics, before: LinkStatistics | None, pair: _Pair) -> _Calls:
    def sums(found: LinkStatistics | None) -> tuple[int, int, list[int]]:
        if found is None:
            return 0, 0, []
        return sum(found.succeeded.values()), sum(found.failed.values()), found.latency_counts

    (succeeded, failed, counts), (succeeded_before, failed_before, counts_before) = sums(link), sums(before)
    return _Calls(
        max(succeeded - succeeded_before, 0),
        max(failed - failed_before, 0),
        _difference(counts, counts_before),
        pair.data.latency_bounds_seconds,
        pair.seconds,
    )


# --- stores


def _store_rows(pairs: Sequence[_Pair]) -> list[StoreRow]:
    buckets: dict[tuple[str, str], list[tuple[BucketStatistics, BucketStatistics | None, float]]] = {}
    caches: dict[tuple[str, str], list[CacheStatistics]] = {}
    for pair in pairs:
        before = {bucket.bucket: bucket for bucket in (pair.before.buckets if pair.before is not None else ())}
        for bucket in pair.data.buckets:
            item = bucket, before.get(bucket.bucket), pair.seconds
            buckets.setdefault((pair.data.lattice, bucket.bucket), []).append(item)
        for cache in pair.data.caches:
            caches.setdefault((pair.data.lattice, cache.cache), []).append(cache)
    rows = [_bucket_row(lattice, items) for (lattice, _), items in buckets.items()]
    return rows + [_cache_row(lattice, items) for (lattice, _), items in caches.items()]


def _bucket_row(lattice: str, items: list[tuple[BucketStatistics, BucketStatistics | None, float]]) -> StoreRow:
    def rate(name: str) -> float:
        total = 0.0
        for bucket, before, seconds in items:
            now, earlier = getattr(bucket, name), getattr(before, name) if before is not None else 0
            # A bucket that was opened again counts anew.
            total += (now - earlier if now >= earlier else now) / seconds
        return total

    buckets = [bucket for bucket, _, _ in items]
    return StoreRow(
        lattice=lattice,
        kind="bucket",
        name=buckets[0].bucket,
        is_healthy=all(bucket.is_healthy for bucket in buckets),
        items=max(bucket.messages for bucket in buckets),
        size_bytes=max(bucket.size_bytes for bucket in buckets),
        limit_bytes=max(bucket.max_bytes for bucket in buckets),
        replicas=max(bucket.replicas for bucket in buckets),
        changes=rate("changes"),
        writes=rate("writes"),
        conflicts=rate("conflicts"),
    )


def _cache_row(lattice: str, caches: list[CacheStatistics]) -> StoreRow:
    return StoreRow(
        lattice=lattice,
        kind="cache",
        name=caches[0].cache,
        is_healthy=all(cache.is_healthy and cache.is_joined for cache in caches),
        items=max(cache.keys for cache in caches),
        size_bytes=max(cache.size_bytes for cache in caches),
        limit_bytes=max(cache.max_bytes for cache in caches),
        replicas=len(caches),
        lag=max(cache.missing_events for cache in caches),
    )
