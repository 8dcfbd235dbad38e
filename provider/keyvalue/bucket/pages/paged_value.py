"""A paged value: its head, the ids of its pages, and the protocol by which its operations ask for pages. Pure.

An operation is a generator. It yields the ids of the pages that it needs next, is sent their bytes, and returns its result.
So it knows neither the event loop nor the stream: `PageStore` reads and writes the pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import NamedTuple, NewType, Protocol, TypeVar

from msgspec import Struct

from provider.keyvalue.kinds import Kind, Value

Result = TypeVar("Result")

PageId = NewType("PageId", str)
"""The subject of a page within the stream of pages: `{hash of the stored key}.{operation id}.{n}`. It is never used again."""

_HASH_BYTES = 16
"""Length of the hash of a key. Each page names its key in a header as well, so a collision damages nothing."""


class Wanted(NamedTuple):
    """The pages that an operation asks for.

    Attributes:
        now: The pages without which the operation cannot go on; none: it only lets others go on.
        soon: Pages that it will ask for next, in this order, unless it ends before: a hint to read them ahead.
    """

    now: tuple[PageId, ...]
    soon: tuple[PageId, ...] = ()


PAUSE = Wanted(())
"""Yielded by an operation that computes for long, so that other calls are answered meanwhile."""

Operation = Generator[Wanted, Mapping[PageId, bytes], Result]
"""An operation on a paged value. It is sent the bytes of at least all pages in `Wanted.now`."""


class Head(Struct, frozen=True, kw_only=True):
    """The one message of a paged value that is ever overwritten.

    Attributes:
        kind: Text, binary value, list or set.
        root: The page at the top of the tree.
        height: Number of levels of the tree; 1: the root is a leaf.
        count: Number of elements, the buffer included. For a text or a binary value: its bytes.
        size: Bytes of all elements in UTF-8, the buffer included.
        sequence: The highest sequence of any of the pages, in their stream. Every page of the key up to it belongs to this
            head, or to none that can still be written.
        added: Members of the set that are not in the tree yet, in ascending order; elements of the list behind those of
            the tree.
        removed: Members of the tree that the set has no more, in ascending order.
    """

    kind: Kind
    root: PageId
    height: int
    count: int
    size: int
    sequence: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Edit(NamedTuple):
    """The change of a value, to be carried out in this order: write the pages, write the head, remove pages.

    Attributes:
        value: The new value. Its data is a `Head`, but for `sequence`, which the acknowledgements of the new pages tell; or
            the data of a value that fits into one message. `None`: there is no value any more.
        pages: The new pages.
        replaced: Pages that the head before reached and the new one does not.
        replaces_all: Whether that is all of them; then none is named.
        replaced_bytes: Size of the pages that are named.
    """

    value: Value | None
    pages: Mapping[PageId, bytes]
    replaced: tuple[PageId, ...] = ()
    replaces_all: bool = False
    replaced_bytes: int = 0


class DamagedPageError(Exception):
    """A page was read that no provider could have written for its place in the tree."""

    def __init__(self, page_id: PageId, reason: str) -> None:
        super().__init__(page_id, reason)
        self.page_id = page_id
        self.reason = reason


class AbsentPageError(Exception):
    """A page is certainly not in the stream: its leader says so under a read lease of that stream.

    The value is damaged only if a strong read of the head, made after this error, still finds the same revision.
    """

    def __init__(self, page_id: PageId) -> None:
        super().__init__(page_id)
        self.page_id = page_id


class PageStore(Protocol):
    """The pages of all keys of one bucket."""

    async def read(self, bucket_key: str, wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        """Return the pages in `wanted.now`, from the cache or the stream, and begin to read those in `wanted.soon`.

        Args:
            bucket_key: The key as stored, which each page has to name.
            wanted: The pages.
            deadline: On the event loop's clock.

        Raises:
            AbsentPageError: A page is not there, or names another key.
            errors.StoreError: The pages could not be read in time, or never can be.
        """
        ...

    async def write(self, bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        """Write pages, several at a time; return the highest sequence once all are acknowledged.

        Args:
            bucket_key: The key as stored.
            pages: The pages; without any, nothing is done and 0 is returned.
            expires_at_ms: The end of the value, by the server's clock; 0: none. Pages may end some time after it.
            deadline: On the event loop's clock.

        Raises:
            errors.StoreError: At least one page was not acknowledged; none of them is reachable.
        """
        ...

    def remove_later(self, bucket_key: str, page_ids: Collection[PageId], size: int) -> None:
        """Remove pages of so many bytes that a committed head has replaced, once the readers of the head before had time to end."""
        ...

    def remove_all_later(self, bucket_key: str, up_to_sequence: int, size: int) -> None:
        """Remove all pages of a key up to a sequence, likewise: those of a head that was deleted or replaced whole."""
        ...

    def remove_now(self, bucket_key: str, page_ids: Iterable[PageId]) -> None:
        """Remove pages of an attempt that is certainly lost, in the background: no head ever reached them."""
        ...


def is_paged(value: Value | None) -> bool:
    return value is not None and type(value.data) is Head


def key_hash(bucket_key: str) -> str:
    """Return the first token of the ids of a key's pages."""
    return hashlib.blake2b(bucket_key.encode(), digest_size=_HASH_BYTES).hexdigest()


def page_prefix(bucket_key: str, operation_id: bytes) -> str:
    """Return the beginning of the ids of the pages that an attempt writes; the number of the page follows.

    An operation id has a dot in it, which separates tokens of a subject, so it becomes a dash.
    """
    return f"{key_hash(bucket_key)}.{operation_id.decode().replace('.', '-')}."
