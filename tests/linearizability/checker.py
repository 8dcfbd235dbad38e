"""Decides whether a history is linearizable: whether the calls could have happened one by one, each between its ends.

Keys are independent, so each is checked by itself (linearizability is a local property; Herlihy and Wing, 1990). The
search is the one of Wing and Gong, in the form of Lowe ("Testing for linearizability", 2017): the events are gone
through in order, with all configurations that are possible so far, and an operation takes effect no earlier than is
needed, which is when some operation returns that has to come after it.

Four rules keep the number of configurations small, and lose nothing:

1. Equal configurations are one.
2. An operation that fits and changes nothing takes effect at once.
3. Of equal operations of unknown outcome the eldest takes effect first.
4. Of two configurations that differ only in operations of unknown outcome which have taken effect, the one with fewer
   can do all that the other can.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.linearizability.history import Operation, Outcome, by_key, shown
from tests.linearizability.model import State, step

MAX_CONFIGURATIONS = 200_000
_SHOWN_STATES = 6
_SHOWN_OPERATIONS = 60


class Configuration(NamedTuple):
    """One way in which the history can have gone so far.

    Attributes:
        state: What the key holds.
        done: The numbers of the operations that have taken effect and have not returned yet.
        used: The numbers of the operations of unknown outcome that have taken effect.
    """

    state: State
    done: frozenset[int]
    used: frozenset[int]


class UndecidedError(Exception):
    """There are too many ways in which a history may have gone to try them all."""


class Violation(NamedTuple):
    """An answer that no order of the operations explains.

    Attributes:
        operation: Its answer is the first that cannot be.
        states: What the key may have held before it, in any order of what came before.
        since: The last time before it at which the key held one thing, whatever the order.
        certain: What it held then.
        window: The operations that were under way since then, in the order in which they began.
        writer: The one that wrote, long before, what the operation has answered.
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
            f"  the key may have held: {states}{' ...' if len(self.states) > _SHOWN_STATES else ''}",
        ]
        if self.writer is not None and self.writer not in self.window:
            lines.append(f"  what was answered is what was written by\n  {self.writer}")
        lines.append(f"  whatever the order, at {self.since:.4f} it held {shown(self.certain)}; since then:")
        lines.extend(f"  {operation}" for operation in self.window[-_SHOWN_OPERATIONS:])
        return "\n".join(lines)


def check(history: Iterable[Operation]) -> list[Violation]:
    """Return the first violation of every key that has one; before a history nothing stands anywhere.

    Raises:
        UndecidedError: See there.
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
    """Yield invocations and returns in order. Where the clock does not tell them apart, calls overlap."""
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
        """Let an operation return; if it could not answer so, say no and change nothing."""
        reached, seen = _Distinct(), _Distinct()
        # Fewest unknown operations first, so that a configuration is seen before those that it dominates.
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
        """Let everything take effect that fits and, by its answer, changes nothing, whenever it does.

        A `Set` of what is there already is no such thing: it may be due behind another one.
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
    """Configurations none of which dominates one that was added after it."""

    def __init__(self) -> None:
        self.all: list[Configuration] = []
        self._used: dict[tuple[State, frozenset[int]], list[frozenset[int]]] = {}

    def add(self, configuration: Configuration) -> bool:
        """Add one and return whether it can do anything that the others cannot."""
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
