"""The compare-and-set store that the engine works on, and the outcomes of one write to it.

A write that returns was stored. Every other outcome is an exception, and each of them calls for another next step.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Generator
from typing import Protocol

from msgspec import Struct

from provider import errors
from provider.keyvalue.bucket.entries import Entry, Write

_log = logging.getLogger(__name__)

MAX_PAYLOAD = "the server's max_payload"
"""The limit of one message, as `errors.ValueTooLargeError` names it. A value that is over it may get pages."""


def id_maker() -> Callable[[], bytes]:
    """Return a function that makes ids of attempts, unique among all providers: 48 random bits for this engine, and a count."""
    prefix, numbers = secrets.token_urlsafe(6).encode() + b".", itertools.count()
    return lambda: prefix + b"%x" % next(numbers)


class SentWrite(Struct, eq=False):
    """A write under way, and later its outcome, which is the write's revision or an error.

    It is awaited, or gives its outcome to one function in the turn in which that is known. So it costs a quarter of a
    future, which has its callbacks called one by one in later turns.

    Attributes:
        deadline: Time by which the store must have an answer, on the event loop's clock.
        is_done: Whether the outcome is known.
        error: The outcome, unless the write was stored.
    """

    deadline: float
    is_done: bool = False
    error: BaseException | None = None
    _revision: int = 0
    _then: Callable[[], object] | None = None

    def answer(self, result: int) -> None:
        self._revision = result
        self._end()

    def fail(self, error: BaseException) -> None:
        if self.is_done:
            _log.error("internal_error", exc_info=error)  # a defect of the function that was given the outcome
            return
        self.error = errors.bare(error)
        self._end()

    def then(self, function: Callable[[], object]) -> None:
        """Call a function when the outcome is known; at once if it is."""
        if self.is_done:
            function()
        else:
            self._then = function

    def revision(self) -> int:
        """Return the revision of a write that was stored, or raise the other outcome."""
        if self.error is not None:
            raise self.error
        return self._revision

    def __await__(self) -> Generator[object, None, int]:
        if not self.is_done:
            known = asyncio.Event()
            self._then = known.set
            yield from known.wait().__await__()
        return self.revision()

    def _end(self) -> None:
        self.is_done = True
        if self._then is not None:
            then, self._then = self._then, None  # it refers to this write, for which the collector would be needed
            then()


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

    def write(self, write: Write, deadline: float) -> SentWrite:
        """Send an entry. The outcome is known in a later turn of the event loop: the entry's revision, or an error.

        Raises (when it is awaited):
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
