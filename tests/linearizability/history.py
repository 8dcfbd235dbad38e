"""The calls of a test run: operations, the times at which they were invoked and returned, and their results."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Outcome(enum.Enum):
    """The caller's knowledge of a call after its end."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """An error that guarantees that nothing has changed."""
    UNKNOWN = "unknown"
    """The operation may have taken effect at any time since its invocation, may still do so, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one key.

    Attributes:
        number: Unique number in the history.
        caller: Name of the caller, for the reader of a report.
        key: Key as the actor wrote it.
        name: Name of the operation in the interface.
        argument: Hashable argument besides the key.
        invoked: Time of the invocation, in seconds of one clock for the whole history.
        returned: Time of the answer; for an unknown outcome, the time at which the caller gave up.
        outcome: Knowledge of the caller at that time.
        result: Hashable answer; without one, the reason in words.
    """

    number: int
    caller: str
    key: str
    name: str
    argument: Any
    invoked: float
    returned: float
    outcome: Outcome
    result: Any

    def __str__(self) -> str:
        verb = {Outcome.ANSWERED: "->", Outcome.REFUSED: "refused:", Outcome.UNKNOWN: "unknown:"}[self.outcome]
        argument = "" if self.argument is None else f" {shown(self.argument)}"
        return (
            f"{self.invoked:10.4f} .. {self.returned:10.4f}  {self.caller:<10} {self.name}{argument} "
            f"{verb} {shown(self.result)}"
        )


def shown(value: Any) -> str:
    """Format a value or a state for a report, with sorted members and a dash for absence."""
    if value is None:
        return "-"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(value)) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(value) + "]"
    return repr(value)


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        found.setdefault(operation.key, []).append(operation)
    return found


def save(operations: Sequence[Operation], path: Path) -> None:
    """Write a history as lines of JSON, one operation each, in the order of their invocation."""
    ordered = sorted(operations, key=lambda operation: operation.invoked)
    path.write_text("".join(json.dumps(_as_dict(operation)) + "\n" for operation in ordered), encoding="utf-8")


def _as_dict(operation: Operation) -> dict[str, Any]:
    fields = {name: getattr(operation, name) for name in Operation.__slots__}
    fields["outcome"] = operation.outcome.value
    if isinstance(operation.result, frozenset):
        fields["result"] = sorted(operation.result)
    return fields
