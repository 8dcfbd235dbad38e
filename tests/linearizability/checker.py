"""The decision whether a history is linearizable: whether each call could have taken effect at one moment of its duration.

Each key is checked by itself, because linearizability is a local property (Herlihy and Wing, 1990). The search is the one
of Wing and Gong, in the form of Lowe ("Testing for linearizability", 2017). It goes through the events in order and keeps
all configurations that are possible so far. An operation takes effect as late as possible: when an operation returns that
must come after it.

Four rules keep the number of configurations small without losing any solution:

1. Equal configurations are kept once.
2. An operation that fits and changes nothing takes effect at once.
3. Among equal operations of unknown outcome, the oldest takes effect first.
4. If two configurations differ only in the operations of unknown outcome that have taken effect, the one with fewer of
   them is kept: it can do everything that the other can.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.linearizability.history import Operation, Outcome, by_key, shown
from tests.linearizability.model import State, step

MAX_CONFIGURATIONS = 200_000
"""Bound of memory and time. A search that exceeds it is given up as undecided."""

_SHOWN_STATES = 6
_SHOWN_OPERATIONS = 60


class Configuration(NamedTuple):
    """One possible course of the history so far.

    Attributes:
        state: Value of the key.
        done: Numbers of the operations that have taken effect and not yet returned.
        used: Numbers of the operations of unknown outcome that have taken effect.
    """

    state: State
    done: frozenset[int]
    used: frozenset[int]


class UndecidedError(Exception):
    """The history has too many possible courses to try them all."""


class Violation(NamedTuple):
    """An answer that no order of the operations explains.

    Attributes:
        operation: First operation whose answer is impossible.
        states: Possible values of the key before it, over all orders of the earlier operations.
        since: Last time before it at which the key had the same value in all orders.
        certain: Value of the key at that time.
        window: Operations under way since then, in the order of their invocation.
        writer: Earlier operation that wrote the value which was answered; `None` if there is no such operation.
    """

    operation: Operation
    states: list[State]
    since: float
    certain: State
    window: list[Operation]
    writer: Operation | None

    def __str__(self) -> str:
        states = ", ".join(shown(state) for state in self.states[:_SHOWN_STATES])
        lines = [
            f"key {self.operation.key!r}: no order of the operations explains",
            f"  {self.operation}",
            f"  possible values before it: {states}{' ...' if len(self.states) > _SHOWN_STATES else ''}",
        ]
        if self.writer is not None and self.writer not in self.window:
            lines.append(f"  the answer is the value written by\n  {self.writer}")
        lines.append(f"  in all orders, its value at {self.since:.4f} was {shown(self.certain)}; since then:")
        lines.extend(f"  {operation}" for operation in self.window[-_SHOWN_OPERATIONS:])
        return "\n".join(lines)


def check(history: Iterable[Operation]) -> list[Violation]:
    """Return the first violation of every key that has one. All keys are absent before the history.

    Raises:
        UndecidedError: The search takes too long.
    """
    found = (check_key(operations) for operations in by_key(history).values())
    return [violation for violation in found if violation is not None]


def check_key(history: list[Operation], initial: State = None) -> Violation | None:
    """Check the operations of one key."""
    search = _Search(initial)
    certain = [(float("-inf"), initial)]
    for time, operation, is_return in _events(history):
        if not is_return:
            search.invoke(operation)
        elif not search.complete(operation):
            return _violation(history, operation, search, certain)
        elif len(states := search.states()) == 1:
            certain.append((time, states[0]))
    return None


def _events(history: list[Operation]) -> Iterator[tuple[float, Operation, bool]]:
    """Yield invocations and returns in order. At equal times invocations come first, so that the calls overlap."""
    happened = [operation for operation in history if operation.outcome is not Outcome.REFUSED]
    events = [(operation.invoked, False, operation.number, operation) for operation in happened]
    answered = (operation for operation in happened if operation.outcome is Outcome.ANSWERED)
    events += [(operation.returned, True, operation.number, operation) for operation in answered]
    for time, is_return, _, operation in sorted(events, key=lambda event: event[:3]):
        yield time, operation, is_return


class _Search:
    """The configurations that are possible after some events."""

    def __init__(self, initial: State) -> None:
        self._configurations = [Configuration(initial, frozenset(), frozenset())]
        self._pending: dict[int, Operation] = {}
        self._unknown: dict[int, Operation] = {}

    def invoke(self, operation: Operation) -> None:
        waiting = self._unknown if operation.outcome is Outcome.UNKNOWN else self._pending
        waiting[operation.number] = operation

    def complete(self, operation: Operation) -> bool:
        """Process the return of an operation. Return whether its answer is possible; if not, nothing changes."""
        reached, seen = _Distinct(), _Distinct()
        # Fewest unknown operations first, so that a configuration is visited before those that it dominates.
        heap = [(len(one.used), order, one) for order, one in enumerate(self._configurations)]
        heapq.heapify(heap)
        orders = itertools.count(len(heap))
        while heap:
            configuration = self._read(heapq.heappop(heap)[2])
            if not seen.add(configuration):
                continue
            if operation.number in configuration.done:
                reached.add(configuration._replace(done=configuration.done - {operation.number}))
                continue
            for following in self._following(configuration):
                heapq.heappush(heap, (len(following.used), next(orders), following))
            if len(heap) > MAX_CONFIGURATIONS:
                raise UndecidedError(f"key {operation.key!r}: over {MAX_CONFIGURATIONS} configurations at\n{operation}")
        if not reached.all:
            return False
        del self._pending[operation.number]
        self._configurations = reached.all
        return True

    def states(self) -> list[State]:
        return sorted({configuration.state for configuration in self._configurations}, key=shown)

    def _read(self, configuration: Configuration) -> Configuration:
        """Apply every pending operation that fits and changes nothing, as its answer shows (rule 2).

        A `Set` to the current value does not count: it may have to take effect after another `Set`.
        """
        state, done, used = configuration
        fitting = [
            number
            for number, operation in self._pending.items()
            if number not in done
            and operation.name != "Set"
            and step(state, operation.name, operation.argument) == (state, operation.result)
        ]
        return Configuration(state, done.union(fitting), used) if fitting else configuration

    def _following(self, configuration: Configuration) -> Iterator[Configuration]:
        state, done, used = configuration
        for number, operation in self._pending.items():
            if number not in done:
                after, result = step(state, operation.name, operation.argument)
                if result == operation.result:
                    yield Configuration(after, done | {number}, used)
        tried = set()
        for number, operation in self._unknown.items():
            what = operation.name, operation.argument
            if number not in used and what not in tried:
                tried.add(what)
                after, _ = step(state, *what)
                if after != state:
                    yield Configuration(after, done, used | {number})


class _Distinct:
    """A set of configurations, without those that an earlier one dominates (rules 1 and 4)."""

    def __init__(self) -> None:
        self.all: list[Configuration] = []
        self._used: dict[tuple[State, frozenset[int]], list[frozenset[int]]] = {}

    def add(self, configuration: Configuration) -> bool:
        """Add a configuration unless an earlier one dominates it. Return whether it was added."""
        state, done, used = configuration
        others = self._used.setdefault((state, done), [])
        if any(other <= used for other in others):
            return False
        others.append(used)
        self.all.append(configuration)
        return True


def _violation(
    history: list[Operation], operation: Operation, search: _Search, certain: list[tuple[float, State]]
) -> Violation:
    since, state = next(found for found in reversed(certain) if found[0] <= operation.invoked)
    window = [other for other in history if other.invoked <= operation.returned and other.returned >= since]
    writers = [
        other
        for other in history
        if operation.name == "Get" and (other.name, other.argument) == ("Set", operation.result)
    ]
    return Violation(
        operation,
        search.states(),
        since,
        state,
        sorted(window, key=lambda other: other.invoked),
        max((other for other in writers if other.invoked < operation.returned), key=lambda o: o.invoked, default=None),
    )
