"""The messages that a replica does not take in: the error with its reason, and the count of each reason. Pure."""

from __future__ import annotations

import enum


class Refusal(enum.Enum):
    """The reason for which a message is refused, as logs and health name it."""

    FOREIGN = "not a message of a replica"
    VERSION = "another version of the format"
    DAMAGED = "damaged"
    CONTENT = "content that no replica sends"
    CLOCK = "a clock too far ahead"
    LIMIT = "over a limit"


class ForeignMessageError(ValueError):
    """Bytes that no replica of this version sends, or that this replica has no room for.

    Attributes:
        refusal: Reason for the refusal.
        version: Version of the format that they claim to be, if it is another one than this replica's; else None.
    """

    def __init__(self, text: str, refusal: Refusal = Refusal.CONTENT, version: int | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal
        self.version = version
