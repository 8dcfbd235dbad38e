"""What callers did and were told: operations with the times at which they were invoked and returned."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Outcome(enum.Enum):
    """What a caller knows afterwards."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """An error that says that nothing has changed."""
    UNKNOWN = "unknown"
    """It may have happened at any time since it was invoked, may happen yet, or never will."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one key.

    Attributes:
        number: Unique in its history.
        caller: Who made it, for people.
        key: As the actor wrote it.
        name: Of the operation, as the interface has it.
        argument: Besides the key; hashable.
        invoked: When it began, in seconds of one clock for the whole history.
        returned: When the caller knew; of an operation of unknown outcome, when the caller gave up.
        outcome: What the caller knew then.
        result: What it was answered, hashable; of one that was not answered, the reason in words.
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
        said = {Outcome.ANSWERED: "->", Outcome.REFUSED: "refused:", Outcome.UNKNOWN: "unknown:"}[self.outcome]
        argument = "" if self.argument is None else f" {shown(self.argument)}"
        return (
            f"{self.invoked:10.4f} .. {self.returned:10.4f}  {self.caller:<10} {self.name}{argument} "
            f"{said} {shown(self.result)}"
        )


def shown(value: Any) -> str:
    """Return a value or a state for people: members in order, nothing as a dash."""
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
    """Write a history as JSON, an operation a line, in the order in which they were invoked."""
    ordered = sorted(operations, key=lambda operation: operation.invoked)
    path.write_text("".join(json.dumps(_as_dict(operation)) + "\n" for operation in ordered), encoding="utf-8")


def _as_dict(operation: Operation) -> dict[str, Any]:
    fields = {name: getattr(operation, name) for name in Operation.__slots__}
    fields["outcome"] = operation.outcome.value
    if isinstance(operation.result, frozenset):
        fields["result"] = sorted(operation.result)
    return fields
