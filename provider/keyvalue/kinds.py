"""A value: its kind, its data and its end. Pure, and loaded by every command that reads a value, so it imports little."""

from __future__ import annotations

import enum
from typing import Any

NEVER_MS = -1
"""The end of a value that outlives the maximum age of its bucket: another client gave it the TTL "never"."""


class Kind(enum.Enum):
    """The kinds of value, by the names that errors and stored headers use."""

    TEXT = "text"
    COUNTER = "counter"
    LIST = "list"
    SET = "set"
    BINARY = "binary value"
    """Bytes that are no text: of a component, of another client, or of the command line. An actor can only replace them."""


class Value:
    """A value and the time of its end.

    Attributes:
        kind: The kind of value.
        data: `str` for a text, `int` for a counter, `list[str]` for a list, `bytes` for a binary value; for a set
            `dict[str, None]`, whose keys are the members in the order in which they were added. A long text or binary value
            may be a `LongText` or `LongBytes`.
        expires_at_ms: The time of the end, in milliseconds since 1970 by the store's clock; 0: the value has no end of its
            own; `NEVER_MS`: it has none, nor one by its bucket.
    """

    __slots__ = ("data", "expires_at_ms", "kind")

    def __init__(self, kind: Kind, data: Any, expires_at_ms: int = 0) -> None:
        self.kind = kind
        self.data = data
        self.expires_at_ms = expires_at_ms

    def copy(self) -> Value:
        data = self.data.copy() if isinstance(self.data, (list, dict)) else self.data
        return Value(self.kind, data, self.expires_at_ms)

    def is_expired(self, now_ms: int) -> bool:
        return 0 < self.expires_at_ms <= now_ms

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Value)
            and self.kind is other.kind
            and self.data == other.data
            and self.expires_at_ms == other.expires_at_ms
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Value({self.kind.value}, expires_at_ms={self.expires_at_ms})"
