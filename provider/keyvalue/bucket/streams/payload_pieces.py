"""The payload of a value with pages, piece by piece: a value of any size can be printed in the memory of a few pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec

from provider import errors
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.pages.paged_reads import MemberReader
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, DamagedPageError, Head, Operation
from provider.keyvalue.bucket.pages.paging import Paging
from provider.keyvalue.bucket.pages.tree_reads import Leaves
from provider.keyvalue.kinds import Kind


async def payload_pieces(
    paging: Paging, bucket_key: str, entry: Entry, deadline: Callable[[], float]
) -> AsyncIterator[bytes]:
    """Yield the payload of a value with pages: a text as it is, a list or a set as a JSON array.

    Args:
        paging: The paged values of the bucket.
        bucket_key: The key as stored.
        entry: The entry, whose value is a head.
        deadline: Returns the deadline of the read of one page.

    Raises:
        errors.StoreError: A page could not be read, or the value was changed or damaged meanwhile.
    """
    assert entry.value is not None
    head: Head = entry.value.data
    try:
        if head.kind in (Kind.LIST, Kind.SET):
            async for piece in _array(paging, bucket_key, head, deadline):
                yield piece
            return
        leaves = Leaves(head)
        while (piece_of_text := await paging.run(bucket_key, leaves.next_piece(), deadline())) is not None:
            yield piece_of_text
    except (AbsentPageError, DamagedPageError) as error:
        await paging.reader.after_absence(bucket_key, bucket_key, entry.revision, error, deadline())
        raise errors.StoreUnreachableError("the value was changed while it was read") from None


async def _array(paging: Paging, bucket_key: str, head: Head, deadline: Callable[[], float]) -> AsyncIterator[bytes]:
    begin = b"["
    next_elements = _elements_of(head)
    while (elements := await paging.run(bucket_key, next_elements(), deadline())) is not None:
        if elements:
            yield begin + msgspec.json.encode(elements)[1:-1]
            begin = b","
    if head.kind is Kind.LIST and head.added:
        yield begin + msgspec.json.encode(head.added)[1:-1]
        begin = b","
    yield b"[]" if begin == b"[" else b"]"


def _elements_of(head: Head) -> Callable[[], Operation[list[str] | None]]:
    """Return the operation that reads the next elements: of a set with its recent changes, of a list without them."""
    return MemberReader(head).next_members if head.kind is Kind.SET else Leaves(head).next_elements
