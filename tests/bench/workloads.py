"""The requests of each measurement, and those that prepare it. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from contracts.keyvalue import Del, Get, Increment, Request, Set, SetAdd

KEYS = 1000
"""Keys that are used in turn: far more than are ever in flight, and few enough to be written in a moment."""

SET_MEMBERS_BEFORE = 750
SET_MEMBERS_ADDED = 500
"""A set grows from 750 to 1,250 members, 1,000 on average. Then the next set is used."""

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
"""The workloads of rows. The others are for measurements of size."""


@dataclass(frozen=True)
class Workload:
    """Requests in the order in which they are sent.

    Attributes:
        before: Requests that are answered before the measurement.
        measured: Requests that are measured.
    """

    before: list[Request]
    measured: list[Request]


def workload(name: WorkloadName, count: int, tag: str) -> Workload:
    """Return the requests of one measurement.

    Args:
        name: Name of the workload.
        count: Number of measured requests.
        tag: Part of every key, so that two measurements share none.
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
    """Add new members to one set at a time."""
    sets = [f"bench.members.{tag}.{number}" for number in range(-(-count // SET_MEMBERS_ADDED))]
    before = [SetAdd(key, f"before-{member}") for key in sets for member in range(SET_MEMBERS_BEFORE)]
    measured = [SetAdd(sets[number // SET_MEMBERS_ADDED], f"member-{number}") for number in range(count)]
    return Workload(list(before), list(measured))


def filled_key(tag: str, number: int) -> str:
    return f"bench.fill.{tag}.{number}"


def _fill(count: int, tag: str) -> Workload:
    """Set every key once, to a value of its own that compresses to half its size, as typical texts do."""
    keys = [filled_key(tag, number) for number in range(count)]
    values = [hashlib.shake_128(key.encode()).hexdigest(FILLED_VALUE_BYTES // 2) for key in keys]
    return Workload([], [Set(key, value, 0) for key, value in zip(keys, values, strict=True)])


def _churn(count: int, tag: str) -> Workload:
    """Set and delete keys in turn, so that half of them exist at any time."""
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
