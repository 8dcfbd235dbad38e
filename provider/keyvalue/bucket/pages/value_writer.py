"""Changes of paged values: what a batch looks up before it is planned, and the pages that are written before its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from msgspec import structs

from contracts import keyvalue as kv
from contracts.long_values import LongBytes, LongText
from provider import errors
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.pages.head import MOST_BYTES, MOST_ELEMENTS, encode_head
from provider.keyvalue.bucket.pages.page_codec import utf8_size
from provider.keyvalue.bucket.pages.paged_value import (
    AbsentPageError,
    DamagedPageError,
    Edit,
    Head,
    PageId,
    is_paged,
    page_prefix,
)
from provider.keyvalue.bucket.pages.runner import PageRunner, TooManyPagesError
from provider.keyvalue.bucket.pages.settling import MOST_INLINE_BYTES, PageSizes, settle
from provider.keyvalue.bucket.pages.tree_reads import position_of
from provider.keyvalue.bucket.pages.value_reader import ValueReader
from provider.keyvalue.bucket.pages.working_copy import PagedList, PagedSet, working_copy
from provider.keyvalue.bucket.plans import Batch, PendingChange, Prepared
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload

_MOST_LANE_PAGES = 64
"""Pages that the search of a ListDel may read while other changes of the key wait: a few milliseconds."""


_REFUSED_SECONDS = 10.0
"""Time for which a refusal to store pages counts for other values: as long as until the next look at the stream."""


_SHORT_TEXT_CHARACTERS = 512
"""Texts that fit into a message of every server that JetStream works with: most of them, so no limit is asked for."""


_WAYS_OUT = (
    "a higher MAX_BYTES of the stream of pages makes room, and so do Del, ListClear and SetClear, which need none"
)
"""The end of the error that tells of a full stream of pages."""


class PagingLimits(NamedTuple):
    """The limits of a bucket that paged values depend on.

    Attributes:
        sizes: The sizes of pages.
        max_value_bytes: The bucket's limit of one value; -1: no limit.
        allows_new: Whether values may get pages that have none yet.
        max_element_bytes: Largest element of a list or a set.
        is_replicated: Whether the bucket has several replicas.
    """

    sizes: PageSizes
    max_value_bytes: int
    allows_new: bool
    max_element_bytes: int
    is_replicated: bool = False


class LongSearchError(Exception):
    """The element to delete is so far from the beginning of its list that the search must not hold up other changes."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head


class ValueWriter:
    """The part of the engine that knows pages.

    Args:
        runner: Carries out operations on pages.
        reader: Tells what an absent page means.
        limits: Returns the limits, which may change while the bucket is open.
    """

    def __init__(self, runner: PageRunner, reader: ValueReader, limits: Callable[[], PagingLimits]) -> None:
        self._runner = runner
        self._reader = reader
        self._limits = limits
        self._refusal: errors.StoreRefusedError | None = None
        self._refused_until = 0.0

    @property
    def allows_new(self) -> bool:
        """True if values may get pages that have none yet, and the server has not just refused to store pages."""
        return self.refusal is None and self._limits().allows_new

    @property
    def refusal(self) -> errors.StoreRefusedError | None:
        """The reason why the server does not store pages, for some seconds after it has refused to."""
        return self._refusal if asyncio.get_running_loop().time() < self._refused_until else None

    def check_element(self, request: kv.ListAdd | kv.SetAdd) -> None:
        """Check the size of an element; where values get no pages, only that of the whole value matters.

        Raises:
            errors.ElementTooLargeError: It is larger than an element may be.
        """
        limits = self._limits()
        # A character has four bytes at most.
        if len(request.value) * 4 > limits.max_element_bytes and limits.allows_new:
            size = utf8_size(request.value)
            if size > limits.max_element_bytes:
                raise errors.ElementTooLargeError(request.key, size, limits.max_element_bytes)

    def outgrows_message(self, value: Value | None, *, did_not_fit: bool = False) -> bool:
        """Tell, before it is encoded, whether a planned value gets pages for its size.

        Args:
            value: The value.
            did_not_fit: Whether a value of this batch did not fit into a message. Its caller may have left since.
        """
        if value is None or type(value.data) is int:
            return False
        is_text = type(value.data) in (str, bytes, LongText, LongBytes)
        is_short = not is_text or len(value.data) <= _SHORT_TEXT_CHARACTERS
        if (is_short and not did_not_fit) or not self.allows_new:
            return False
        max_element_bytes = self._limits().max_element_bytes
        # A character has one to four bytes, and an element may be half as large as a message.
        return (is_text and len(value.data) > 2 * max_element_bytes) or (
            did_not_fit and (not is_text or len(value.data) * 4 > max_element_bytes)
        )

    def needs_pages(self, value: Value | None, payload: bytes) -> bool:
        """Tell whether a planned value has or gets pages, as far as its size tells."""
        if value is None:
            return False
        if is_working_copy(value):
            return True
        return len(payload) > MOST_INLINE_BYTES and type(value.data) in (list, dict) and self.allows_new

    # --- before the plan

    async def working_entry(self, batch: Batch, entry: Entry) -> Entry | None:
        """Look up what a batch names in a paged value, and return the entry for it to change.

        Changes that need pages which are lost are answered with that, and leave the batch.

        Returns:
            `None`: the value has changed since the entry was read.

        Raises:
            LongSearchError: The batch is a ListDel that has to search on its own first.
            errors.StoreError: The pages could not be read in time.
        """
        assert entry.value is not None
        head: Head = entry.value.data
        if head.kind is Kind.LIST:
            # A search through a list never shares a batch, so that nothing else waits for it.
            batch.keep_apart(kv.ListDel)
        requests = [change.request for change in batch.changes]
        most_pages = None
        if isinstance(requests[0], kv.ListDel):
            most_pages = _MOST_LANE_PAGES
        operation = working_copy(head, requests, _skipped(batch.changes[0]))
        try:
            copy = await self._runner.run([batch.bucket_key], operation, batch.deadline, most_pages)
        except TooManyPagesError:
            raise LongSearchError(head) from None
        except (AbsentPageError, DamagedPageError) as error:
            if not await self._is_damaged(batch, entry, error):
                return None
            copy = head
        value = Value(entry.value.kind, copy, entry.value.expires_at_ms)
        return structs.replace(entry, value=value)

    async def _is_damaged(self, batch: Batch, entry: Entry, error: AbsentPageError | DamagedPageError) -> bool:
        """Answer the changes of a damaged value that need its pages; return false if the value has changed instead."""
        key = batch.changes[0].request.key
        try:
            await self._reader.after_absence(key, batch.bucket_key, entry.revision, error, batch.deadline)
        except errors.DamagedValueError as damage:
            if batch.is_doubtful:  # an earlier attempt may have been stored: the outcome of the whole batch is unknown
                raise
            for change in batch.changes:
                if isinstance(change.request, (kv.SetAdd, kv.SetDel, kv.ListDel)):
                    change.call.fail(errors.bare(damage))
            batch.drop_answered()
            return True
        return False

    async def search(self, bucket_key: str, change: PendingChange, head: Head) -> None:
        """Search the element that a ListDel deletes, so that the next search has to read only newer pages.

        Raises:
            errors.StoreError: The pages could not be read in time, or are damaged.
        """
        request, deadline = change.request, change.call.deadline
        assert isinstance(request, kv.ListDel)
        try:
            await self._runner.run([bucket_key], position_of(head, request.value, _skipped(change)), deadline)
        except (AbsentPageError, DamagedPageError):
            return  # if the value has not changed meanwhile, the batch that it is part of next finds the same

    # --- after the plan

    async def prepare(self, batch: Batch, value: Value, base: Entry, operation_id: bytes) -> Prepared | None:
        """Write the pages of a planned value, and return the head to write.

        Args:
            batch: The changes.
            value: Their result: a working copy, or data that does not fit into one message.
            base: The entry that the head will replace.
            operation_id: Id of the attempt: no page of another attempt has it in its name.

        Returns:
            `None`: the value has changed since the entry was read.

        Raises:
            errors.StoreError: A limit is exceeded, or the pages could not be read or written; no head must be written.
        """
        key, bucket_key, limits = batch.changes[0].request.key, batch.bucket_key, self._limits()
        operation = settle(value, limits.sizes, page_prefix(bucket_key, operation_id))
        try:
            edit = await self._runner.run([bucket_key], operation, batch.deadline)
        except (AbsentPageError, DamagedPageError) as error:
            await self._reader.after_absence(key, bucket_key, base.revision, error, batch.deadline)
            return None
        assert edit.value is not None, "a batch that deletes the value needs no pages"
        if type(edit.value.data) is not Head:
            return Prepared(operation_id, edit.value, encode_payload(edit.value), edit, _head_of(base))
        head = edit.value.data
        check_size(key, head.size, limits.max_value_bytes)
        if head.kind in (Kind.LIST, Kind.SET) and head.count > MOST_ELEMENTS:
            raise errors.CollectionFullError(key, head.count, "elements", MOST_ELEMENTS)
        pages = self._runner.pages
        try:
            sequence = await pages.write(bucket_key, edit.pages, 0, batch.deadline)
        except errors.StoreError as error:
            pages.remove_now(bucket_key, edit.pages)
            if isinstance(error, errors.StoreFullError):
                unmerged = _unmerged(value, _head_of(base), limits.max_element_bytes)
                if unmerged is None:
                    raise errors.StoreFullError(f"{error.reason}; {_WAYS_OUT}") from None
                return Prepared(operation_id, unmerged, encode_head(unmerged.data), Edit(unmerged, {}), _head_of(base))
            if isinstance(error, errors.ValueTooLargeError):
                raise errors.ValueTooLargeError(key, error.size, error.limit, error.maximum) from None
            if isinstance(error, errors.StoreRefusedError):
                self._refusal = errors.bare(type(error)(error.reason))
                self._refused_until = asyncio.get_running_loop().time() + _REFUSED_SECONDS
            raise
        head = structs.replace(head, sequence=max(head.sequence, sequence))
        value = Value(head.kind, head, edit.value.expires_at_ms)
        return Prepared(operation_id, value, encode_head(head), edit, _head_of(base))

    # --- after the head

    def replacement(
        self, value: Value | None, payload: bytes, base: Entry | None, operation_id: bytes
    ) -> Prepared | None:
        """Return the write of a value that needs no new pages, if the entry that it replaces has pages."""
        before = _head_of(base)
        if before is None:
            return None
        # The same head again, such as with another end, keeps its pages. Any other value has none.
        keeps = value is not None and value.data is before
        edit = Edit(value, {}, replaces_all=not keeps)
        return Prepared(operation_id, value, payload, edit, before)

    def committed(self, bucket_key: str, prepared: Prepared) -> None:
        """Remove the pages that a write which is stored now has replaced."""
        before, edit = prepared.before, prepared.edit
        if before is None:
            return
        if edit.replaces_all:
            self._runner.pages.remove_all_later(bucket_key, before.sequence, before.size)
        elif edit.replaced:
            self._runner.pages.remove_later(bucket_key, edit.replaced, edit.replaced_bytes)

    def lost(self, bucket_key: str, edit: Edit) -> None:
        """Remove the pages of a head that was certainly not stored, and never will be."""
        if edit.pages:
            self._runner.pages.remove_now(bucket_key, edit.pages)

    def refused(self, bucket_key: str, edit: Edit) -> None:
        """Remove the pages of a head that a leader has refused for good.

        A leader of several replicas may be deposed, and its successor may store the same head. Its pages are left to the collector.
        """
        if not self._limits().is_replicated:
            self.lost(bucket_key, edit)


def _skipped(change: PendingChange) -> set[PageId]:
    """Return the pages in which a ListDel has found nothing so far."""
    if change.skipped is None:
        change.skipped = set()
    return change.skipped


def _head_of(entry: Entry | None) -> Head | None:
    return entry.value.data if entry is not None and entry.value is not None and is_paged(entry.value) else None


def _unmerged(value: Value, before: Head | None, most_bytes: int) -> Value | None:
    """Return a set that has become smaller, with all of its changes in the buffer of its head, which then needs no new pages.

    Members can be removed so while there is no room for pages. The next change for which there is merges them into the tree.

    Returns:
        `None`: it is no such set, nothing of the tree would be left, or the head is larger than a number of bytes.
    """
    copy = value.data
    if not isinstance(copy, PagedSet) or before is None or len(copy) >= before.count:
        return None
    head = copy.head
    if len(copy) == len(head.added) or len(encode_head(head)) > most_bytes:
        return None
    return Value(value.kind, head, value.expires_at_ms)


def is_working_copy(value: Value) -> bool:
    return type(value.data) in (PagedSet, PagedList)


def check_size(key: str, size: int, max_value_bytes: int) -> None:
    """Check the size of a value, which is that of all its elements.

    Raises:
        errors.ValueTooLargeError, errors.CollectionFullError: It is over a limit.
    """
    if 0 <= max_value_bytes < size:
        raise errors.ValueTooLargeError(key, size, "the bucket's MAX_VALUE_SIZE", max_value_bytes)
    if size > MOST_BYTES:
        raise errors.CollectionFullError(key, size, "bytes", MOST_BYTES)


def payload_of(value: Value | None) -> bytes:
    """Return the payload of a planned value; b"" if it is a working copy, whose payload is not known yet."""
    if value is None or is_working_copy(value):
        return b""
    return encode_head(value.data) if is_paged(value) else encode_payload(value)
