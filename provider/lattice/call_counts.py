"""The calls that have been answered, counted by link and operation. Pure: durations are given."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable

from contracts.statistics import LATENCY_BOUNDS_SECONDS, OperationStatistics
from provider.lattice.protocol import LinkKey

UNKNOWN_OPERATION = "UnknownOperationError"
"""The reason under which calls of other operations are counted: their names are the callers', without a bound."""


class OperationCounts:
    """The calls of one operation, on one link or several."""

    __slots__ = ("failed", "last_error", "latency_counts", "requests", "seconds")

    def __init__(self) -> None:
        self.requests = 0
        self.failed: dict[str, int] = {}
        self.last_error = ""
        self.seconds = 0.0
        self.latency_counts = [0] * (len(LATENCY_BOUNDS_SECONDS) + 1)

    @property
    def errors(self) -> int:
        """Number of calls that failed."""
        return sum(self.failed.values())

    def add(self, seconds: float, error: str) -> None:
        """Count a call. `error` is the class of its error; "" if it succeeded."""
        self.requests += 1
        self.seconds += seconds
        self.latency_counts[bisect_left(LATENCY_BOUNDS_SECONDS, seconds)] += 1
        if error:
            self.failed[error] = self.failed.get(error, 0) + 1
            self.last_error = error

    def merge(self, other: OperationCounts) -> None:
        """Add the calls of another link."""
        self.requests += other.requests
        self.seconds += other.seconds
        self.last_error = other.last_error or self.last_error
        for number, count in enumerate(other.latency_counts):
            self.latency_counts[number] += count
        for error, count in other.failed.items():
            self.failed[error] = self.failed.get(error, 0) + count

    def statistics(self, operation: str) -> OperationStatistics:
        return OperationStatistics(
            operation=operation,
            succeeded=self.requests - self.errors,
            failed=dict(self.failed),
            seconds=self.seconds,
            latency_counts=list(self.latency_counts),
        )


class CallCounts:
    """The counts of all links. The calls of links that have ended stay in the totals.

    Args:
        operations: Names of the operations that are counted.

    Attributes:
        operations: The same names.
        refused: Number of invocations that were refused before they reached a link, by the class of the error.
    """

    def __init__(self, operations: Collection[str]) -> None:
        self.operations = operations
        self.refused: dict[str, int] = {}
        self._links: dict[LinkKey, dict[str, OperationCounts]] = {}
        self._ended: dict[str, OperationCounts] = {}

    def begin_link(self, key: LinkKey) -> None:
        """Count the calls of a link apart from now on."""
        self._links.setdefault(key, {})

    def end_link(self, key: LinkKey) -> None:
        """Move the calls of a link to those of ended links."""
        _merge(self._ended, self._links.pop(key, {}))

    def count(self, key: LinkKey, operation: str, seconds: float, error: str) -> bool:
        """Count a call that was answered, and return whether its operation is a known one.

        Args:
            key: Link of the call.
            operation: Name of the operation.
            seconds: Duration of the call.
            error: Class of its error; "" if it succeeded.
        """
        by_operation = self._links.get(key, self._ended)
        counts = by_operation.get(operation)
        if counts is None:
            if operation not in self.operations:
                self.refuse(UNKNOWN_OPERATION)
                return False
            counts = by_operation[operation] = OperationCounts()
        counts.add(seconds, error)
        return True

    def refuse(self, error: str) -> None:
        """Count an invocation that was refused, by the class of the error."""
        self.refused[error] = self.refused.get(error, 0) + 1

    def of_link(self, key: LinkKey) -> dict[str, OperationCounts]:
        """Return the counts of a link, by operation."""
        return self._links.get(key, {})

    def totals(self) -> dict[str, OperationCounts]:
        """Return the counts of all operations that have been called, on all links together."""
        totals: dict[str, OperationCounts] = {}
        for by_operation in (self._ended, *self._links.values()):
            _merge(totals, by_operation)
        return totals


def _merge(into: dict[str, OperationCounts], by_operation: dict[str, OperationCounts]) -> None:
    for operation, counts in by_operation.items():
        into.setdefault(operation, OperationCounts()).merge(counts)


def latencies(counts: Iterable[OperationCounts]) -> list[int]:
    """Return the latency counts of several operations together."""
    together = OperationCounts()
    for one in counts:
        together.merge(one)
    return together.latency_counts
