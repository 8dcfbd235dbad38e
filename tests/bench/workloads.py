"""The requests of each measurement, and those that prepare it. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from contracts.keyvalue import Del, Get, Increment, ListAdd, ListRange, Request, Set, SetAdd

KEYS = 1000
"""Keys that are used in turn: far more than are ever in flight, and few enough to be written in a moment."""

SET_MEMBERS_BEFORE = 750
SET_MEMBERS_ADDED = 500
"""A set grows from 750 to 1,250 members, 1,000 on average. Then the next set is used."""

FILLED_VALUE_BYTES = 100

ELEMENT_BYTES = 30
"""Size of an element of the large values, and of the small ones beside them."""

RANGE_ELEMENTS = 100
LARGE_SET_KEY, LARGE_LIST_KEY, RANGE_TEXT_KEY = "bench.large.set", "bench.large.list", "bench.range.text"

_VALUE = "twenty characters :)"


class WorkloadName(enum.StrEnum):
    GET = "Get"
    SET = "Set"
    INCREMENT = "Increment"
    SET_ADD = "SetAdd"
    FILL = "Fill"
    CHURN = "Churn"
    SMALL_SETS = "SetAdd to 1,000"
    LARGE_SET = "SetAdd to the large set"
    SMALL_LISTS = "ListAdd to 1,000"
    LARGE_LIST = "ListAdd to the large list"
    RANGE = "ListRange of 100 from its middle"
    RANGE_TEXT = "Get of a text of that size"


ROWS = (WorkloadName.GET, WorkloadName.SET, WorkloadName.INCREMENT, WorkloadName.SET_ADD)
"""The workloads of rows. The others are for measurements of size, and of large values."""


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


def member_name(number: int | str) -> str:
    """Return a member of a set; consecutive ones are far apart in its order."""
    return hashlib.shake_128(f"{number}".encode()).hexdigest(ELEMENT_BYTES // 2)


def element_name(number: int | str) -> str:
    return f"{number}".rjust(ELEMENT_BYTES, ".")


def _small_sets(count: int, tag: str) -> Workload:
    """As `SET_ADD`, with members of the size of the large set's."""
    sets = [f"bench.small.set.{tag}.{number}" for number in range(-(-count // SET_MEMBERS_ADDED))]
    before = [SetAdd(key, member_name(f"before-{member}")) for key in sets for member in range(SET_MEMBERS_BEFORE)]
    measured = [SetAdd(sets[number // SET_MEMBERS_ADDED], member_name(number)) for number in range(count)]
    return Workload(list(before), list(measured))


def _small_lists(count: int, tag: str) -> Workload:
    lists = [f"bench.small.list.{tag}.{number}" for number in range(-(-count // SET_MEMBERS_ADDED))]
    before = [ListAdd(key, element_name(number)) for key in lists for number in range(SET_MEMBERS_BEFORE)]
    measured = [ListAdd(lists[number // SET_MEMBERS_ADDED], element_name(number)) for number in range(count)]
    return Workload(list(before), list(measured))


def _large_set(count: int, tag: str) -> Workload:
    return Workload([], [SetAdd(LARGE_SET_KEY, member_name(f"{tag}.{number}")) for number in range(count)])


def _large_list(count: int, tag: str) -> Workload:
    return Workload([], [ListAdd(LARGE_LIST_KEY, element_name(f"{tag}.{number}")) for number in range(count)])


def _range(count: int, tag: str) -> Workload:
    """Read ranges behind the middle; the tag is the length of the list."""
    length = int(tag)
    starts = [length // 2 + number * RANGE_ELEMENTS // 2 % (length // 4) for number in range(count)]
    return Workload([], [ListRange(LARGE_LIST_KEY, start, start + RANGE_ELEMENTS - 1) for start in starts])


def _range_text(count: int, tag: str) -> Workload:
    return Workload([], [Get(RANGE_TEXT_KEY)] * count)


_MAKERS: dict[WorkloadName, Callable[[int, str], Workload]] = {
    WorkloadName.GET: _get,
    WorkloadName.SET: _set,
    WorkloadName.INCREMENT: _increment,
    WorkloadName.SET_ADD: _set_add,
    WorkloadName.FILL: _fill,
    WorkloadName.CHURN: _churn,
    WorkloadName.SMALL_SETS: _small_sets,
    WorkloadName.LARGE_SET: _large_set,
    WorkloadName.SMALL_LISTS: _small_lists,
    WorkloadName.LARGE_LIST: _large_list,
    WorkloadName.RANGE: _range,
    WorkloadName.RANGE_TEXT: _range_text,
}
