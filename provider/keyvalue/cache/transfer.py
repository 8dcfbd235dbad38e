"""The transfer of what a replica lacks, page by page, from another one that has it. Pure.

The receiver asks for one page after the other, so it sets the pace, and asks again for a page that was lost.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from provider.keyvalue.cache.causality import Context, Dot
from provider.keyvalue.cache.items.cells import Cell
from provider.keyvalue.cache.items.collections import Elements
from provider.keyvalue.cache.items.item import Item, is_text, size_of
from provider.keyvalue.cache.merge import Merge
from provider.keyvalue.cache.messages import (
    ELEMENT,
    MEMBER,
    TEXT,
    BytesState,
    CellState,
    ElementState,
    ItemState,
    MemberState,
    Piece,
    PieceRequest,
    TallyState,
    TextState,
    TransferPage,
    TransferRequest,
    context_of,
    context_state,
    unpack_plain,
)
from provider.keyvalue.cache.pieces.cutting import MAX_PIECE_BYTES, MAX_TEXT_BYTES, Cut, Whole
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.trust.admission import Admission
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError

MAX_PAGE_BYTES = 24 * 1024
"""Size of a page. Building and merging one takes the event loop about a millisecond; calls wait no longer than that."""

_PAGE_CELLS = 128
"""Cells on a page, as small ones cost more for their number than for their bytes: 128 take as long as 24 KiB."""

_MAX_CONTEXT_BESIDE_CELLS = 1000
"""Entries of a context, of about 16 bytes each, that fit into a message beside the largest cell."""

_ITEM_BYTES = 40
"""Size of an item or a key on a page beyond its text: dot, time, expiry."""

_STATES: dict[int, type[TextState | MemberState | ElementState]] = {
    TEXT: TextState,
    MEMBER: MemberState,
    ELEMENT: ElementState,
}

_MAX_TRANSFERS = 16
"""Transfers under way at a sender; each holds a list of keys."""

_IDLE_SECONDS = 15.0
"""A transfer that has not been continued for so long is dropped. Its receiver gives up after three seconds."""

_PAUSED_SECONDS = 1.0
"""A transfer that has not been continued for so long gives way to a new one. Its receiver repeats requests by then."""


_COUNTED_SECONDS = 60.0
"""Time for which the transfers that each receiver begins are counted."""

_MAX_COUNTED = 4096
"""Receivers for which they are counted at once."""

_MAX_CUT_BYTES = 2 * MAX_TEXT_BYTES
"""Memory of the pages that are cut into pieces. One that is dropped is cut again when a piece of it is requested."""


class _Transfer:
    """One transfer at its sender."""

    def __init__(self, name: str, replica: Replica, receiver: Context, requested_at: float) -> None:
        self.name = name
        self.keys, self.is_full = missing_keys(replica, receiver)
        self.receiver = receiver
        self.context = replica.context.copy()
        self.deferred = {key: frozenset(dots) for key, dots in replica.deferred.items()}
        self.requested_at = requested_at
        self.next_key = 0
        self.after: Dot | None = None
        """Last dot of the part of the next cell that has been made."""
        self.waiting: CellState | None = None
        """Cell, or part of one, that did not fit into the last page."""
        self.page: TransferPage | None = None
        """Last page sent, in case it is requested again."""
        self.cut: Cut | None = None
        """That page in pieces, if it does not fit into a message."""

    @property
    def is_sent(self) -> bool:
        return self.waiting is None and self.next_key == len(self.keys)


class Sender:
    """The sending side of the transfers from one replica.

    Args:
        replica: Replica whose state is sent.

    Attributes:
        page_bytes: Size of a page, unless a single item is larger.
        event_bytes: Size of a key and a text beyond which a page is sent in pieces.
        piece_bytes: Size of a piece.
    """

    def __init__(self, replica: Replica) -> None:
        self.page_bytes = MAX_PAGE_BYTES
        self.event_bytes = MAX_TEXT_BYTES
        self.piece_bytes = MAX_PIECE_BYTES
        self._replica = replica
        self._transfers: dict[str, _Transfer] = {}
        self._begun: Counter[str] = Counter()
        """By receiver, the number of transfers that it has begun of late."""
        self._counted_since = 0.0

    def answer(self, receiver: str, request: TransferRequest, now: float) -> TransferPage:
        """Return the page that is requested.

        Args:
            receiver: Id of the replica that requests it. It has at most one transfer at a time.
            request: Its request.
            now: Seconds of a steady clock.
        """
        transfer = self._transfers.get(receiver)
        if transfer is None or request.transfer != transfer.name or transfer.page is None:
            if request.transfer or request.context is None or not self._has_room(receiver, now):
                return _no_page(request)
            transfer = _Transfer(secrets.token_urlsafe(9), self._replica, context_of(request.context), now)
            self._transfers[receiver] = transfer
            return self._next_page(transfer, 0)
        transfer.requested_at = now
        if request.page == transfer.page.page:
            return transfer.page
        if request.page != transfer.page.page + 1 or transfer.page.is_last:
            return _no_page(request)
        return self._next_page(transfer, request.page)

    def respond(self, receiver: str, request: TransferRequest | PieceRequest, now: float) -> TransferPage | Piece:
        """Return the page that is requested, or a piece of it if it does not fit into a message; see `answer`."""
        if isinstance(request, PieceRequest):
            return self._piece(receiver, request, now)
        page = self.answer(receiver, request, now)
        transfer = self._transfers.get(receiver)
        if transfer is None or page is not transfer.page or not _is_long(page, self.event_bytes):
            return page
        return self._cut(transfer, page).piece(0)

    def _piece(self, receiver: str, request: PieceRequest, now: float) -> TransferPage | Piece:
        transfer = self._transfers.get(receiver)
        page = transfer.page if transfer is not None and transfer.name == request.transfer else None
        if transfer is None or page is None or page.page != request.page or not _is_long(page, self.event_bytes):
            return _no_page(request)
        transfer.requested_at = now
        cut = self._cut(transfer, page)
        return cut.piece(request.number) if request.number < cut.count else _no_page(request)

    def _cut(self, transfer: _Transfer, page: TransferPage) -> Cut:
        """Return a page cut into pieces. Others that are kept so make room, the one not requested for longest first."""
        if transfer.cut is None:
            transfer.cut = Cut(page.page, page, self.piece_bytes)
            kept = [other for other in self._transfers.values() if other.cut is not None and other is not transfer]
            kept.sort(key=lambda other: other.requested_at)
            while kept and sum(_cut_bytes(other) for other in (transfer, *kept)) > _MAX_CUT_BYTES:
                kept.pop(0).cut = None
        return transfer.cut

    def _has_room(self, receiver: str, now: float) -> bool:
        """Tell whether a transfer may begin. One that has not been continued makes room for it, or that of a greedy receiver."""
        self._transfers.pop(receiver, None)
        if now - self._counted_since > _COUNTED_SECONDS or len(self._begun) >= _MAX_COUNTED:
            self._begun.clear()
            self._counted_since = now
        idle = [name for name, transfer in self._transfers.items() if now - transfer.requested_at > _IDLE_SECONDS]
        for name in idle:
            del self._transfers[name]
        if len(self._transfers) >= _MAX_TRANSFERS:
            oldest = min(self._transfers, key=lambda name: self._transfers[name].requested_at)
            if now - self._transfers[oldest].requested_at < _PAUSED_SECONDS and not self._transfers[oldest].is_sent:
                # Receivers that begin one transfer after the other must not keep a joiner, which needs one, from its own.
                oldest = max(self._transfers, key=lambda name: self._begun[name])
                if self._begun[oldest] <= self._begun[receiver] + 1:
                    return False
            del self._transfers[oldest]
        self._begun[receiver] += 1
        return True

    def _next_page(self, transfer: _Transfer, number: int) -> TransferPage:
        cells: list[CellState] = []
        size = 0
        context = context_state(transfer.context) if number == 0 else None
        # A cell may take a whole message. A large context is therefore sent without any.
        has_room = context is None or transfer.context.size <= _MAX_CONTEXT_BESIDE_CELLS
        while has_room and len(cells) < _PAGE_CELLS and not transfer.is_sent:
            part = transfer.waiting = transfer.waiting or self._next_part(transfer)
            size += _size_of(part)
            if cells and size > self.page_bytes:
                break
            cells.append(part)
            transfer.waiting = None
        is_last = transfer.is_sent
        # As of now, not as of the beginning: tombstones that were discarded while pages were sent are not on them.
        discarded = dict(self._replica.discarded) if is_last else {}
        transfer.cut = None
        transfer.page = TransferPage(transfer.name, number, is_last, transfer.is_full, context, discarded, cells)
        return transfer.page

    def _next_part(self, transfer: _Transfer) -> CellState:
        """Return the next cell as of the beginning of the transfer, or a part of it that fits into a page.

        The parts are ranges of the items in the order of their dots. Each is made when it is sent, as there may be millions
        of items. One that is removed meanwhile is removed at the receiver too.
        """
        key, after = transfer.keys[transfer.next_key], transfer.after
        replica = self._replica
        cell = replica.cells.get(key) or Cell()
        items: list[ItemState] = []
        size, until = 0, None
        for item, kind in _items_with_kinds(cell, after):
            # Later items are left out: the context that was sent does not cover them. They will be asked for later.
            if not transfer.context.has(item.replica, item.count):
                continue
            is_known = transfer.receiver.has(item.replica, item.count)
            item_size = _ITEM_BYTES + (0 if is_known else size_of(item.value))
            if items and size + item_size > self.page_bytes:
                until = (items[-1].replica, items[-1].count)
                break
            items.append(_item_state(kind, item, is_known=is_known))
            size += item_size
        transfer.after = until
        if until is None:
            transfer.next_key += 1
        vector = replica.journals.vector(key)
        if after is not None:
            return CellState(key, vector, [], items, [], after, until)
        deferred = sorted({*transfer.deferred.get(key, ()), *replica.deferred.get(key, ())})
        # Tallies are sent as they are now: any version of one may be merged at any time.
        tallies = [TallyState(*structs.astuple(tally)) for tally in (cell.tallies or {}).values()]
        return CellState(key, vector, deferred, items, tallies, None, until)


class Receiver:
    """The receiving side of one transfer.

    Args:
        replica: Replica whose state the pages are merged into.
        admission: Check of the pages.

    Attributes:
        is_done: Whether the last page has been merged.
        keys: Number of cells, and parts of cells, received.
        values: Number of those that brought anything but the word that a key is deleted.
    """

    def __init__(self, replica: Replica, admission: Admission) -> None:
        self._replica = replica
        self._admission = admission
        self._transfer = ""
        self._page = -1
        self._merge: Merge | None = None
        self._is_full = False
        self._whole: Whole | None = None
        self._page_transfer = ""
        """Transfer that the pieces of a page belong to. It is not known before page 0 if that comes in pieces."""
        self._pieces = 0
        self.is_done = False
        self.keys = 0
        self.values = 0

    @property
    def vector(self) -> dict[str, int]:
        """Version vector of the sender, as far as it has been received."""
        return self._merge.context.vector if self._merge is not None else {}

    @property
    def size_bytes(self) -> int:
        """Memory that the transfer takes beside the values that it has brought."""
        return self._merge.size_bytes if self._merge is not None else 0

    @property
    def is_needless(self) -> bool:
        """True if everything that the sender had when the transfer began has come from others."""
        return self._merge is not None and self._replica.context.covers(self._merge.context)

    def next_request(self) -> TransferRequest | PieceRequest:
        """Return the request for the next piece of a page of which some have arrived, else that for the next page."""
        if self._whole is None:
            return self.request()
        return PieceRequest(self._page_transfer, self._page + 1, self._pieces)

    def request(self) -> TransferRequest:
        """Return the request for the next page."""
        context = context_state(self._replica.context) if self._page < 0 else None
        return TransferRequest(self._transfer, self._page + 1, context)

    def collect(self, answer: TransferPage | Piece) -> TransferPage | None:
        """Return the page that an answer brings; None if it is a piece, and further ones are to be requested.

        Raises:
            ForeignMessageError: The piece is not the one that was requested. The transfer has to be ended.
        """
        if isinstance(answer, TransferPage):
            return answer
        if self._whole is None:
            frame = unpack_plain(answer.frame)
            if not isinstance(frame, TransferPage):
                raise ForeignMessageError("a piece of a message that is no page")
            self._whole, self._page_transfer, self._pieces = Whole(answer), frame.transfer, 0
        if answer.number != self._pieces:
            raise ForeignMessageError("not the piece that was requested")
        self._pieces += 1
        if not self._whole.add(answer):
            return None
        page = self._whole.message()
        self._whole = None
        return page if isinstance(page, TransferPage) else None

    def receive(self, page: TransferPage, now_ms: int) -> None:
        """Merge the page that was requested; see `receiving`."""
        for _ in self.receiving(page, now_ms):
            pass

    def receiving(self, page: TransferPage, now_ms: int) -> Iterator[None]:
        """Merge the page that was requested, in slices. Other work may be done in between.

        Raises:
            ForeignMessageError: The page cannot be used. The transfer has to be ended.
        """
        if not page.transfer:
            raise ForeignMessageError("the transfer has ended")
        if page.page != self._page + 1:
            raise ForeignMessageError("not the page that was requested")
        self._admission.check_page(page, now_ms)
        if page.context is not None and self._merge is None:
            self._transfer, self._is_full = page.transfer, page.is_full
            self._merge = Merge(self._replica, context_of(page.context))
        if self._merge is None:
            raise ForeignMessageError("a first page without a context")
        for cell in page.cells:
            # Without progress from page to page, a transfer would never end, and none from another replica would begin.
            if not self._merge.is_next(cell):
                raise ForeignMessageError("a part of a transfer that does not follow the one before")
            yield from self._merge.adding(cell)
        self.keys += len(page.cells)
        self.values += sum(bool(cell.items or cell.tallies) for cell in page.cells)
        self._page = page.page
        if page.is_last:
            yield from self._merge.finishing(page.discarded, is_full=self._is_full)
            self.is_done = True

    def end(self) -> None:
        """End the transfer; see `ending`."""
        for _ in self.ending():
            pass

    def ending(self) -> Iterator[None]:
        """End the transfer, in slices. If it is not done, keep what can be kept of it."""
        merge, self._merge = self._merge, None
        if merge is not None and not self.is_done:
            yield from merge.abandoning()


def missing_keys(replica: Replica, context: Context) -> tuple[list[str], bool]:
    """Return the keys that changed beyond a context, and whether all keys must be sent.

    They must be if the context lacks an event whose tombstone has been discarded: its key is in no journal any more.
    """
    is_full = any(count > context.vector.get(author, 0) for author, count in replica.discarded.items())
    if is_full or not context.vector:
        return list(replica.all_keys()), is_full
    # Values first: a receiver keeps the names of deleted keys aside, up to a multiple of what it has.
    return sorted(replica.journals.keys_beyond(context), key=replica.key_tombstones.__contains__), False


def _items_with_kinds(cell: Cell, after: Dot | None) -> Iterator[tuple[Item, int]]:
    """Iterate in the order of dots over the items behind a dot, with their kinds."""
    if cell.members is None and cell.elements is None:
        texts = sorted(cell.texts(), key=lambda text: text.dot)
        return ((text, TEXT) for text in texts if after is None or text.dot > after)
    if cell.text is None and cell.elements is None and cell.members is not None:
        return ((item, MEMBER) for item in cell.members.between(after, None))
    if cell.text is None and cell.members is None and cell.elements is not None:
        return ((item, ELEMENT) for item in cell.elements.between(after, None))
    members, elements = cell.members, cell.elements
    return (
        (item, MEMBER if members is not None and members.get(item.dot) is item else _kind_of(elements, item))
        for item in cell.items(after)
    )


def _kind_of(elements: Elements | None, item: Item) -> int:
    return ELEMENT if elements is not None and elements.get(item.dot) is item else TEXT


def _item_state(kind: int, item: Item, *, is_known: bool) -> ItemState:
    value: Any = None if is_known else item.value  # a long value stands for a text or a binary value
    if value is not None and not is_text(value):
        return BytesState(item.replica, item.count, item.clock, value, item.expires_at_ms)
    return _STATES[kind](item.replica, item.count, item.clock, value, item.expires_at_ms)


def _size_of(cell: CellState) -> int:
    values = sum(_ITEM_BYTES + size_of(state.value or "") for state in cell.items)
    return _ITEM_BYTES + size_of(cell.key) + values + 2 * _ITEM_BYTES * len(cell.tallies)


def _is_long(page: TransferPage, event_bytes: int) -> bool:
    """Tell whether the only item of a page is a text that does not fit into a message with its key."""
    if len(page.cells) != 1 or len(page.cells[0].items) != 1 or page.cells[0].items[0].kind != TEXT:
        return False
    cell = page.cells[0]
    return size_of(cell.key) + size_of(cell.items[0].value or "") > event_bytes


def _cut_bytes(transfer: _Transfer) -> int:
    return transfer.cut.size_bytes if transfer.cut is not None else 0


def _no_page(request: TransferRequest | PieceRequest) -> TransferPage:
    return TransferPage("", request.page, True, False, None, {}, [])
