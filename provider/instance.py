"""The state of this provider instance for machines: the `data` of its service statistics."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from typing import Any

from contracts.host import HostData
from contracts.statistics import (
    LATENCY_BOUNDS_SECONDS,
    MOST_NAME_CHARACTERS,
    InstanceStatistics,
    LinkStatistics,
    ProcessStatistics,
    SignatureStatistics,
)
from provider import errors
from provider.keyvalue.store import Store
from provider.lattice.call_counts import latencies
from provider.lattice.protocol import LinkKey
from provider.lattice.seen_ids import SeenIds
from provider.lattice.signature_processes.pool import SignaturePool, SignatureProcesses
from provider.links import SHOWN_CHARACTERS, Links
from provider.plain_text import cut
from provider.serving.calls import Calls

_REASON_CHARACTERS = 200
"""A reason in the statistics; the longest one, of a refused permission with a subject, is about this long."""


class Instance:
    """Everything that statistics tell of this process.

    Args:
        host_data: Host data with the names of the instance.
        calls: Calls in flight, with the counts of those that have been answered.
        links: Links in force and their stores.
        seen_ids: Memory of invocation ids; None if it is turned off.
        signatures: Helper processes that check signatures; None where nothing is signed.
        health: Tells whether health is well, with its message.
    """

    def __init__(
        self,
        host_data: HostData,
        calls: Calls,
        links: Links,
        seen_ids: SeenIds | None,
        signatures: SignaturePool[Any] | None,
        health: Callable[[], tuple[bool, str]],
    ) -> None:
        self._host_data = host_data
        self._counts = calls.counts
        self._calls = calls
        self._links = links
        self._seen_ids = seen_ids
        self._signatures = signatures
        self._health = health
        self._began = time.monotonic()

    def statistics(self, most: int) -> InstanceStatistics:
        """Return the state of the instance, with at most `most` links and `most` stores of each kind."""
        host_data, limits = self._host_data, self._calls.limits
        is_healthy, message = self._health()
        found = self._links.items()
        # Links that do not work come first, so that they are not the ones left out.
        shown = sorted(found, key=lambda item: _reason(item[1]) is None)[:most]
        buckets, caches = self._links.store_statistics()
        return InstanceStatistics(
            lattice=host_data.lattice_rpc_prefix,
            provider_key=host_data.provider_key,
            link_name=host_data.link_name,
            host_id=host_data.host_id,
            uptime_seconds=time.monotonic() - self._began,
            is_healthy=is_healthy,
            message=cut(message, 2 * _REASON_CHARACTERS),
            latency_bounds_seconds=list(LATENCY_BOUNDS_SECONDS),
            operations=[counts.statistics(operation) for operation, counts in self._counts.totals().items()],
            refused=dict(self._counts.refused),
            in_flight=self._calls.in_flight,
            max_in_flight=limits.max_in_flight,
            in_flight_bytes=self._calls.in_flight_bytes,
            max_in_flight_bytes=limits.max_in_flight_bytes,
            link_count=len(found),
            links=[self._link(key, store) for key, store in shown],
            buckets=buckets[:most],
            caches=caches[:most],
            connections=self._links.connection_statistics(),
            signatures=SignatureStatistics() if self._signatures is None else _signatures(self._signatures.state),
            process=_process(len(self._seen_ids) if self._seen_ids is not None else 0),
        )

    def _link(self, key: LinkKey, found: Store | errors.LinkError) -> LinkStatistics:
        actor_id, _, link_name = key
        by_operation = self._counts.of_link(key)
        store = None if isinstance(found, errors.LinkError) else found
        reason = _reason(found)
        return LinkStatistics(
            actor_id=cut(actor_id, SHOWN_CHARACTERS),
            link_name=cut(link_name, SHOWN_CHARACTERS),
            backend=store.backend if store is not None else "",
            store=cut(store.shared.name, MOST_NAME_CHARACTERS) if store is not None else "",
            is_healthy=reason is None,
            reason=cut(reason or "", _REASON_CHARACTERS),
            succeeded={operation: counts.requests - counts.errors for operation, counts in by_operation.items()},
            failed={operation: counts.errors for operation, counts in by_operation.items() if counts.errors},
            seconds=sum(counts.seconds for counts in by_operation.values()),
            latency_counts=latencies(by_operation.values()),
            watch=self._links.watch_statistics(key),
        )


def _reason(found: Store | errors.LinkError) -> str | None:
    return str(found) if isinstance(found, errors.LinkError) else found.unhealthy


def _signatures(state: SignatureProcesses) -> SignatureStatistics:
    return SignatureStatistics(
        processes=state.wanted,
        running=state.running,
        restarts=state.restarts,
        checked=state.checked,
        checked_in_place=state.checked_in_place,
    )


def _process(remembered_ids: int) -> ProcessStatistics:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessStatistics(
        resident_bytes=_resident_bytes(),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        garbage_collections=sum(generation["collections"] for generation in gc.get_stats()),
        remembered_ids=remembered_ids,
    )


def _resident_bytes() -> int:
    """Return the resident memory. Source: proc(5), the second field of /proc/self/statm, in pages."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (a path object costs more than the read)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
