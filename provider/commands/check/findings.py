"""The findings of a check: one line each, with what to do. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from msgspec import Struct


class State(enum.Enum):
    """The kind of a finding. A note changes no exit code: it names a thing that was not looked at, or does not matter now."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        about: The thing, as `server nats://hub:4222` or `bucket users`.
        text: The state that it is in. It holds no secret.
        advice: An imperative that mends it; "" if there is nothing to do.
    """

    state: State
    about: str
    text: str
    advice: str = ""


def ok(about: str, text: str) -> Finding:
    return Finding(State.OK, about, text)


def note(about: str, text: str, advice: str = "") -> Finding:
    return Finding(State.NOTE, about, text, advice)


def warning(about: str, text: str, advice: str) -> Finding:
    return Finding(State.WARNING, about, text, advice)


def failed(about: str, text: str, advice: str) -> Finding:
    return Finding(State.FAILED, about, text, advice)


EXIT_CODES = {State.FAILED: 1, State.WARNING: 3}
"""Exit code by the worst state; 2 is for a command line that is not valid."""


def heavier(state: State, other: State) -> State:
    """Return the one of two states that matters more."""
    order = list(State)
    return max(state, other, key=order.index)


def worst(findings: Iterable[Finding]) -> State:
    """Return `FAILED`, `WARNING` or `OK`."""
    states = {finding.state for finding in findings}
    return next((state for state in EXIT_CODES if state in states), State.OK)
