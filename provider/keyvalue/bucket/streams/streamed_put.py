"""Puts of texts and binary values of any size: their bytes become pages while they arrive, in the memory of two pages.

The head is a change of the engine, so it is written exactly once like any other. It expects the message that was the key's last
before the first page was written: where the collector takes the pages for lost, it has replaced that message before.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from contracts.extensions import SwapResponse
from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.cas import AlreadyWrittenError, ConflictError, MaybeWrittenError, NotWrittenError
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Entry, Write
from provider.keyvalue.bucket.pages.page_codec import Child
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, DamagedPageError, Head, PageId, page_prefix
from provider.keyvalue.bucket.pages.tree_edits import NewPages, build_on_pieces, full_pieces
from provider.keyvalue.bucket.pages.tree_reads import Leaves
from provider.keyvalue.bucket.pages.value_writer import check_size
from provider.keyvalue.conditional import Put, PutPaged
from provider.keyvalue.kinds import Kind, Value
from provider.tasks import cancel

_MOST_ATTEMPTS = 4
"""Times that the pages are written while other writers are first. The last three copy them, which takes as long as a put."""

_PAUSE_SECONDS = 0.02
"""Pause after a marker that no server took, or whose outcome is not known."""


class StreamedPut:
    """A put of a value that arrives in parts.

    Args:
        bucket: The bucket.
        engine: Its engine, which writes the head.
        put: The put, but for its payload.
        bucket_key: The key as stored.
        deadline: Returns the deadline of the next step, on the event loop's clock: of a page, or of the head. The parts may
            take any time.
    """

    def __init__(
        self, bucket: Bucket, engine: Engine, put: Put, bucket_key: str, deadline: Callable[[], float]
    ) -> None:
        self._bucket = bucket
        self._engine = engine
        self._key = put.key
        self._expires = put.expires
        self._revision = put.revision
        self._bucket_key = bucket_key
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._page_ids: list[PageId] = []
        """The pages that were made, until a head with them is sent."""

    async def run(self, parts: AsyncIterator[bytes]) -> SwapResponse:
        """Put the value. After an error or an unmet condition nothing has changed, unless the outcome is unknown.

        Args:
            parts: The bytes of the value, of which there is at least one. An exception of theirs ends the put.

        Raises:
            errors.ValueTooLargeError, errors.CollectionFullError: The value is larger than one may be.
            errors.StoreError: The value could not be stored.
        """
        if not self._bucket.paging.limits().allows_new:
            raise errors.StoreRefusedError(
                "a value that does not fit into one message needs pages, and a bucket with history, or a sealed one, has none"
            )
        try:
            for _ in range(_MOST_ATTEMPTS):
                base = await self._base()
                revision = 0 if base.value is None or base.is_expired(self._bucket.now_ms()) else base.revision
                # An entry without proof may be old: then the engine decides.
                if base.is_checked and not self._is_met(revision):
                    return SwapResponse(False, revision)
                copied, self._page_ids = self._page_ids, []
                try:
                    head = await self._write_pages(parts)
                finally:
                    self._remove(copied)
                response = await self._write_head(head, base.revision)
                if response.success or not self._is_met(response.revision):
                    return response
                # Another write came first. For the collector, pages from before that write are lost: all have to be new.
                parts = self._pieces_of(head)
            raise errors.StoreUnreachableError("other writers of the key are always first")
        finally:
            self._remove(self._page_ids)

    def _is_met(self, revision: int) -> bool:
        """Tell whether a revision, 0 for no value, meets the condition."""
        return self._revision is None or self._revision == revision

    async def _base(self) -> Entry:
        """Return the message that the head is to replace, or else a marker that is written for it."""
        deadline = self._deadline()
        while True:
            entry = await self._bucket.read_latest(self._bucket_key, deadline)
            if entry.revision:
                return entry
            marker = Write(self._bucket_key, self._key, None, b"", _new_id(), 0, is_fence=True)
            try:
                return Entry(await self._bucket.write(marker, deadline), None)
            except (ConflictError, AlreadyWrittenError):
                continue
            except (MaybeWrittenError, NotWrittenError) as error:
                if self._loop.time() + _PAUSE_SECONDS >= deadline:
                    raise errors.StoreUnreachableError(error.reason) from None
                await asyncio.sleep(_PAUSE_SECONDS)

    # --- pages

    async def _write_pages(self, parts: AsyncIterator[bytes]) -> Head:
        """Write the pages of the value and return its head."""
        paging = self._bucket.paging
        limits = paging.limits()
        made = NewPages(page_prefix(self._bucket_key, _new_id()), limits.sizes.piece)
        leaves: list[Child] = []
        decoder, is_text, size = codecs.getincrementaldecoder("utf-8")(), True, 0
        async with _Writing(self._put_page) as writing, contextlib.aclosing(_cut(parts, made.page_bytes)) as pieces:
            async for piece in pieces:
                size += len(piece)
                check_size(self._key, size, limits.max_value_bytes)
                is_text = is_text and _decodes(decoder, piece)
                leaves.append(made.add(piece, len(piece)))
                await writing.add(made)
            kind = Kind.TEXT if is_text and _decodes(decoder, b"", is_last=True) else Kind.BINARY
            tree = await paging.run(self._bucket_key, build_on_pieces(kind, leaves, made), self._deadline())
            await writing.add(made)
            await writing.settle()
        paging.store.remover.note_write(self._bucket_key, writing.sequences)
        return Head(
            kind=kind,
            root=tree.root.page_id,
            height=tree.height,
            count=size,
            size=size,
            sequence=max(writing.sequences),
        )

    async def _put_page(self, page_id: PageId, page: bytes) -> int:
        self._page_ids.append(page_id)
        return await self._bucket.paging.store.write(self._bucket_key, {page_id: page}, 0, self._deadline())

    async def _pieces_of(self, head: Head) -> AsyncIterator[bytes]:
        leaves = Leaves(head, most_ahead=0)
        try:
            while piece := await self._bucket.paging.run(self._bucket_key, leaves.next_piece(), self._deadline()):
                yield piece
        except (AbsentPageError, DamagedPageError):
            raise errors.StoreUnreachableError("its pages were removed before its head was written") from None

    # --- the head

    async def _write_head(self, head: Head, base_revision: int) -> SwapResponse:
        """Write the head upon the message that was there before the pages."""
        request = PutPaged(self._key, Value(head.kind, head), base_revision, self._expires)
        page_ids, self._page_ids = self._page_ids, []
        try:
            response: SwapResponse = await self._engine.change(request, self._bucket_key, self._deadline())
        except errors.OutcomeUnknownError:
            raise
        except errors.StoreError:
            # Refused by a leader that may be deposed, so that its successor stores it: the collector finds the pages.
            if self._bucket.traits.replicas <= 1:
                self._page_ids = page_ids
            raise
        if not response.success:
            self._page_ids = page_ids
        return response

    def _remove(self, page_ids: list[PageId]) -> None:
        if page_ids:
            self._bucket.paging.store.remove_now(self._bucket_key, page_ids)


class _Writing:
    """The writes of pages one after the other, each while the next page is collected; an async context manager.

    Args:
        put: Writes a page and returns its sequence.

    Attributes:
        sequences: The sequences of the pages.
    """

    def __init__(self, put: Callable[[PageId, bytes], Coroutine[Any, Any, int]]) -> None:
        self.sequences: list[int] = []
        self._put = put
        self._under_way: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._under_way is not None:
            await cancel(self._under_way)

    async def add(self, made: NewPages) -> None:
        """Begin to write new pages, once those before are stored."""
        while made.made:
            await self.settle()
            page_id = next(iter(made.made))
            self._under_way = asyncio.get_running_loop().create_task(self._put(page_id, made.made.pop(page_id)))

    async def settle(self) -> None:
        """Wait until all pages are stored."""
        if self._under_way is not None:
            self.sequences.append(await self._under_way)
            self._under_way = None


async def _cut(parts: AsyncIterator[bytes], piece_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield bytes that arrive in parts as pieces of one size, but for the last."""
    collected = bytearray()
    async for part in parts:
        collected += part
        for piece in full_pieces(collected, piece_bytes):
            yield piece
    if collected:
        yield bytes(collected)


def _decodes(decoder: codecs.IncrementalDecoder, piece: bytes, *, is_last: bool = False) -> bool:
    try:
        decoder.decode(piece, is_last)
    except UnicodeDecodeError:
        return False
    return True


def _new_id() -> bytes:
    return secrets.token_urlsafe(12).encode()
