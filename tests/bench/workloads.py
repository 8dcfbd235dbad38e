"""Which requests are measured, and which must have been served before. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from contracts.keyvalue import Del, Get, Increment, Request, Set, SetAdd

KEYS = 1000
SET_MEMBERS_BEFORE = 750
SET_MEMBERS_ADDED = 500
"""A set grows from 750 to 1,250 members and then the next one is used, so that it has 1,000 on average."""

FILLED_VALUE_BYTES = 100

_VALUE = "twenty characters :)"


class WorkloadName(enum.StrEnum):
    GET = "Get"
    SET = "Set"
    INCREMENT = "Increment"
    SET_ADD = "SetAdd"
    FILL = "Fill"
    CHURN = "Churn"


ROWS = (WorkloadName.GET, WorkloadName.SET, WorkloadName.INCREMENT, WorkloadName.SET_ADD)
"""What is measured as a row; the others are for measuring size."""


@dataclass(frozen=True)
class Workload:
    """Requests in the order in which they are sent.

    Attributes:
        before: Served before the clock starts.
        measured: What is measured.
    """

    before: list[Request]
    measured: list[Request]


def workload(name: WorkloadName, count: int, tag: str) -> Workload:
    """Make the requests of one measurement.

    Args:
        name: What is measured.
        count: How many measured requests.
        tag: Part of every key, so that no two measurements share one.
    """
    return _MAKERS[name](count, tag)


def _get(count: int, tag: str) -> Workload:
    """Read many keys in turn, so that no two Gets in flight are of one key."""
    keys = [f"bench.get.{tag}.{number}" for number in range(KEYS)]
    return Workload([Set(key, _VALUE, 0) for key in keys], [Get(keys[number % KEYS]) for number in range(count)])


def _set(count: int, tag: str) -> Workload:
    return Workload([], [Set(f"bench.set.{tag}.{number % KEYS}", _VALUE, 0) for number in range(count)])


def _increment(count: int, tag: str) -> Workload:
    """Increment one hot key."""
    return Workload([], [Increment(f"bench.hot.{tag}", 1)] * count)


def _set_add(count: int, tag: str) -> Workload:
    """Add to one set at a time members that it does not have yet."""
    sets = [f"bench.members.{tag}.{number}" for number in range(-(-count // SET_MEMBERS_ADDED))]
    before = [SetAdd(key, f"before-{member}") for key in sets for member in range(SET_MEMBERS_BEFORE)]
    measured = [SetAdd(sets[number // SET_MEMBERS_ADDED], f"member-{number}") for number in range(count)]
    return Workload(list(before), list(measured))


def filled_key(tag: str, number: int) -> str:
    return f"bench.fill.{tag}.{number}"


def _fill(count: int, tag: str) -> Workload:
    """Set every key once, each to something else, that compresses to half as a text of digits does."""
    keys = [filled_key(tag, number) for number in range(count)]
    values = [hashlib.shake_128(key.encode()).hexdigest(FILLED_VALUE_BYTES // 2) for key in keys]
    return Workload([], [Set(key, value, 0) for key, value in zip(keys, values, strict=True)])


def _churn(count: int, tag: str) -> Workload:
    """Set and delete keys in turn, so that half of them are there at any time."""
    keys = [f"bench.churn.{tag}.{number}" for number in range(KEYS)]
    measured: list[Request] = []
    for number in range(count // 2):
        measured += (Set(keys[number % KEYS], _VALUE, 0), Del(keys[(number + KEYS // 2) % KEYS]))
    return Workload([], measured)


_MAKERS: dict[WorkloadName, Callable[[int, str], Workload]] = {
    WorkloadName.GET: _get,
    WorkloadName.SET: _set,
    WorkloadName.INCREMENT: _increment,
    WorkloadName.SET_ADD: _set_add,
    WorkloadName.FILL: _fill,
    WorkloadName.CHURN: _churn,
}
