"""The payload of a value with pages, piece by piece: a value of any size can be printed in the memory of a few pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec

from provider import errors
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.pages.paged_reads import reader_of
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, DamagedPageError, Head
from provider.keyvalue.bucket.pages.paging import Paging
from provider.keyvalue.bucket.pages.tree_reads import Leaves
from provider.keyvalue.bucket.pages.value_reader import head_of
from provider.keyvalue.kinds import Kind


async def payload_size(paging: Paging, bucket_key: str, entry: Entry, deadline: Callable[[], float]) -> int:
    """Return the size of the payload in bytes. That of a list or a set is counted, which reads all of its pages; see `payload_pieces`."""
    head = head_of(entry)
    if head.kind not in (Kind.LIST, Kind.SET):
        return head.count
    size = 0
    async for piece in payload_pieces(paging, bucket_key, entry, deadline):
        size += len(piece)
    return size


async def payload_pieces(
    paging: Paging, bucket_key: str, entry: Entry, deadline: Callable[[], float], *, reads_ahead: bool = True
) -> AsyncGenerator[bytes, None]:
    """Yield the payload of a value with pages: a text as it is, a list or a set as a JSON array.

    Args:
        paging: The paged values of the bucket.
        bucket_key: The key as stored.
        entry: The entry, whose value is a head.
        deadline: Returns the deadline of the read of one page.
        reads_ahead: Whether the pages of a text are read before they are needed; else one is in memory at a time.

    Raises:
        errors.StoreError: A page could not be read, or the value was changed or damaged meanwhile.
    """
    head = head_of(entry)
    try:
        if head.kind in (Kind.LIST, Kind.SET):
            async for piece in _array(paging, bucket_key, head, deadline):
                yield piece
            return
        leaves = Leaves(head, most_ahead=None if reads_ahead else 0)
        while (piece_of_text := await paging.run(bucket_key, leaves.next_piece(), deadline())) is not None:
            yield piece_of_text
    except (AbsentPageError, DamagedPageError) as error:
        await paging.reader.after_absence(bucket_key, bucket_key, entry.revision, error, deadline())
        raise errors.StoreUnreachableError("the value was changed while it was read") from None


async def _array(paging: Paging, bucket_key: str, head: Head, deadline: Callable[[], float]) -> AsyncIterator[bytes]:
    begin, reader = b"[", reader_of(head)
    while (part := await paging.run(bucket_key, reader.next_part(), deadline())) is not None:
        if part[0]:
            yield begin + msgspec.json.encode(part[0])[1:-1]
            begin = b","
    yield b"[]" if begin == b"[" else b"]"
