"""The effect of every operation on a key without concurrency. Shares no code with the provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

State = None | str | tuple[str, ...] | frozenset[str]
"""The value of a key: absent, a text (for a counter its decimal digits), a list or a set."""

Step = Callable[[Any, Any], tuple[State, Any]]


def step(state: State, name: str, argument: Any) -> tuple[State, Any]:
    """Return the value of a key after an operation, and the operation's answer.

    If the value is of another kind than the operation needs, it stays as it is and the answer is `WRONG_KIND`.
    """
    kind, apply = _STEPS[name]
    if state is not None and kind is not None and not isinstance(state, kind):
        return state, WRONG_KIND
    return apply(state, argument)


WRONG_KIND = "wrong kind"


def _increment(state: str | None, amount: int) -> tuple[State, Any]:
    total = int(state or 0) + amount
    return str(total), total


def _delete(state: State, _: None) -> tuple[State, Any]:
    return None, state is not None


def _list_add(state: tuple[str, ...] | None, value: str) -> tuple[State, Any]:
    found = (*(state or ()), value)
    return found, len(found)


def _set_add(state: frozenset[str] | None, member: str) -> tuple[State, Any]:
    members = state or frozenset()
    return members | {member}, int(member not in members)


def _set_del(state: frozenset[str] | None, member: str) -> tuple[State, Any]:
    members = state or frozenset()
    return (members - {member}) or None, int(member in members)


_STEPS: dict[str, tuple[type | None, Step]] = {
    "Get": (str, lambda state, _: (state, state)),
    "Set": (None, lambda _, value: (value, None)),
    "Del": (None, _delete),
    "Contains": (None, lambda state, _: (state, state is not None)),
    "Increment": (str, _increment),
    "ListAdd": (tuple, _list_add),
    "ListRange": (tuple, lambda state, _: (state, state or ())),
    "ListClear": (tuple, _delete),
    "SetAdd": (frozenset, _set_add),
    "SetDel": (frozenset, _set_del),
    "SetQuery": (frozenset, lambda state, _: (state, state or frozenset())),
    "SetClear": (frozenset, _delete),
}

READS = frozenset({"Get", "Contains", "ListRange", "SetQuery"})
