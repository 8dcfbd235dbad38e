"""The compare-and-set store that the engine works on, and the outcomes of one write to it.

A write that returns was stored. Every other outcome is an exception, and each of them calls for another next step.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from provider.keyvalue.bucket.entries import Entry, Write

MAX_PAYLOAD = "the server's max_payload"
"""The limit of one message, as `errors.ValueTooLargeError` names it. A value that is over it may get pages."""


class CompareAndSetStore(Protocol):
    """The operations of a store that the engine needs."""

    @property
    def expires_by_itself(self) -> bool:
        """True if the store can remove a value at its end."""
        ...

    def now_ms(self) -> int:
        """Return the time by the store's clock, in milliseconds since 1970."""
        ...

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Read an entry from the replica that decides about writes.

        Raises:
            errors.StoreError: The entry could not be read.
        """
        ...

    def write(self, write: Write, deadline: float) -> asyncio.Future[int]:
        """Send an entry and return the future of its revision.

        Raises (from the future):
            ConflictError: The key has another revision than expected; nothing was written.
            AlreadyWrittenError: The store has another attempt at the same change.
            NotWrittenError: The store could not be reached; nothing was written.
            MaybeWrittenError: The write was sent, and there was no answer to it.
            errors.StoreError: The store refuses the write for good.
        """
        ...

    async def fence(self, message_id: bytes, deadline: float) -> int | None:
        """Prevent every later write under a message id.

        Returns:
            The revision of the message that was written under the id before; `None` if there is no such message.

        Raises:
            errors.OutcomeUnknownError: The id could not be fenced in time.
        """
        ...


class ConflictError(Exception):
    """A compare-and-set was rejected, as far as the server that answered knows.

    Attributes:
        is_certain: Whether no other server can have accepted it. With several replicas it is not certain: a deposed
            leader may reject a write that its successor stores.
    """

    def __init__(self, *, is_certain: bool = True) -> None:
        super().__init__()
        self.is_certain = is_certain


class AlreadyWrittenError(Exception):
    """The stream has a message with the same id: another attempt, stored at `revision`. Nothing was written now."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision


class NotWrittenError(Exception):
    """Nothing was written, so the write may be repeated. `reason` is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MaybeWrittenError(Exception):
    """The write may have been stored. `reason` is the cause of the doubt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
