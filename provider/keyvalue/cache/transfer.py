"""Sending another replica exactly what it lacks, page by page. Pure.

The asker asks for one page after the other, so that it sets the pace; a page that got lost is asked for again.
"""

from __future__ import annotations

import secrets

from provider.keyvalue.cache.cells import Context, is_drifted
from provider.keyvalue.cache.coverage import Coverage
from provider.keyvalue.cache.messages import (
    ForeignMessageError,
    ItemState,
    Part,
    ReplayPage,
    ReplayRequest,
    TallyState,
    context_of,
    context_state,
)
from provider.keyvalue.cache.replica import Replica, size_of

MAX_PAGE_BYTES = 24 * 1024
_PAGE_KEYS = 64
_ITEM_BYTES = 40
_MAX_TRANSFERS = 16
_IDLE_SECONDS = 15.0
_PAUSED_SECONDS = 1.0
"""A transfer that nobody has gone on with for that long gives way to another."""


class _Transfer:
    """What one asker is being sent."""

    def __init__(self, name: str, replica: Replica, asker: Context, asked_at: float) -> None:
        self.name = name
        self.keys, self.is_full = replica.lacking(asker)
        self.asker = asker
        self.context = replica.context.copy()
        self.doomed = replica.doomed()
        self.asked_at = asked_at
        self.position = 0
        self.waiting: list[Part] = []
        """Parts of a key that did not fit into the last page."""
        self.page: ReplayPage | None = None
        """The last one sent."""

    @property
    def is_sent(self) -> bool:
        return not self.waiting and self.position == len(self.keys)


class Replays:
    """Serves what others lack.

    Args:
        replica: Of whose state.

    Attributes:
        page_bytes: How large a page may be, unless a single item is larger.
    """

    def __init__(self, replica: Replica) -> None:
        self.page_bytes = MAX_PAGE_BYTES
        self._replica = replica
        self._transfers: dict[str, _Transfer] = {}

    def answer(self, asker: str, request: ReplayRequest, now: float) -> ReplayPage:
        """Return the page that somebody asks for.

        Args:
            asker: Who asks. It has one transfer at a time.
            request: What is asked for.
            now: In seconds of any steady clock.
        """
        transfer = self._transfers.get(asker)
        if transfer is None or request.transfer != transfer.name or transfer.page is None:
            if request.transfer or request.context is None or not self._has_room(asker, now):
                return _no_page(request)
            transfer = _Transfer(secrets.token_urlsafe(9), self._replica, context_of(request.context), now)
            self._transfers[asker] = transfer
            return self._next_page(transfer, 0)
        transfer.asked_at = now
        if request.page == transfer.page.page:
            return transfer.page
        if request.page != transfer.page.page + 1 or transfer.page.is_last:
            return _no_page(request)
        return self._next_page(transfer, request.page)

    def _has_room(self, asker: str, now: float) -> bool:
        """Tell whether one more transfer may begin; those that nobody has gone on with make room."""
        self._transfers.pop(asker, None)
        for name in [name for name, transfer in self._transfers.items() if now - transfer.asked_at > _IDLE_SECONDS]:
            del self._transfers[name]
        if len(self._transfers) >= _MAX_TRANSFERS:
            idle = min(self._transfers, key=lambda name: self._transfers[name].asked_at)
            if now - self._transfers[idle].asked_at < _PAUSED_SECONDS and not self._transfers[idle].is_sent:
                return False
            del self._transfers[idle]
        return True

    def _next_page(self, transfer: _Transfer, number: int) -> ReplayPage:
        replica = self._replica
        parts: list[Part] = []
        size = 0
        while len(parts) < _PAGE_KEYS:
            if not transfer.waiting:
                if transfer.position == len(transfer.keys):
                    break
                key = transfer.keys[transfer.position]
                part = replica.part(key, transfer.asker, transfer.context, transfer.doomed.get(key, ()))
                transfer.waiting = split(part, self.page_bytes)[::-1]
                transfer.position += 1
            size += _size_of(transfer.waiting[-1])
            if parts and size > self.page_bytes:
                break
            parts.append(transfer.waiting.pop())
        is_full, is_last = transfer.is_full, transfer.is_sent
        context = context_state(transfer.context) if number == 0 else None
        pruned = dict(replica.pruned) if is_last else {}  # with what was forgotten while pages were sent
        transfer.page = ReplayPage(transfer.name, number, is_last, is_full, context, pruned, parts)
        return transfer.page


class Fetch:
    """Takes in what another replica sends.

    Args:
        replica: Into whose state.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._transfer = ""
        self._page = -1
        self._coverage: Coverage | None = None
        self._is_full = False
        self.is_done = False
        self.keys = 0

    def request(self) -> ReplayRequest:
        """Return what to ask for next."""
        context = context_state(self._replica.context) if self._page < 0 else None
        return ReplayRequest(self._transfer, self._page + 1, context)

    def take(self, page: ReplayPage, now_ms: int) -> None:
        """Take in the page that was asked for.

        Raises:
            ForeignMessageError: It cannot be used, and neither can the transfer.
        """
        if not page.transfer:
            raise ForeignMessageError("the transfer has ended")
        if page.page != self._page + 1:
            raise ForeignMessageError("not the page that was asked for")
        self._check(page, now_ms)
        if page.context is not None and self._coverage is None:
            self._transfer, self._is_full = page.transfer, page.is_full
            self._coverage = self._replica.cover(context_of(page.context))
        if self._coverage is None:
            raise ForeignMessageError("a first page without a context")
        for part in page.parts:
            self._replica.merge(part, self._coverage)
        self.keys += len(page.parts)
        self._page = page.page
        if page.is_last:
            self.is_done = True
            self._replica.absorb(self._coverage, page.pruned, is_full=self._is_full)

    def end(self) -> None:
        """Keep of what has been taken in what can be kept, if that is not all; nothing can be taken any more."""
        if self._coverage is not None and not self.is_done:
            self._replica.abandon(self._coverage)
            self._coverage = None

    def _check(self, page: ReplayPage, now_ms: int) -> None:
        """Refuse times far in the future, and events in the own name that are not known here."""
        own, count = self._replica.id, self._replica.count
        vectors = [page.pruned] if page.context is None else [page.pruned, page.context.vector]
        for part in page.parts:
            vectors.append(part.touched)
            states: list[ItemState | TallyState] = [*part.items, *part.tallies]
            for state in states:
                if is_drifted(state.clock, now_ms):
                    raise ForeignMessageError("a time too far in the future")
                if state.replica == own and state.count > count:
                    raise ForeignMessageError("another replica has this one's id")
        if any(vector.get(own, 0) > count for vector in vectors):
            raise ForeignMessageError("another replica has this one's id")


def split(part: Part, page_bytes: int) -> list[Part]:
    """Cut a key's state into parts that fit into pages."""
    if _size_of(part) <= page_bytes:
        return [part]
    groups: list[list[ItemState]] = [[]]
    size = 0
    for state in sorted(part.items, key=lambda state: (state.replica, state.count)):
        item_size = _ITEM_BYTES + size_of(state.value or "")
        if groups[-1] and size + item_size > page_bytes:
            groups.append([])
            size = 0
        groups[-1].append(state)
        size += item_size
    parts = []
    after = None
    for number, group in enumerate(groups):
        until = (group[-1].replica, group[-1].count) if number < len(groups) - 1 else None
        doomed, tallies = (part.doomed, part.tallies) if number == 0 else ([], [])
        parts.append(Part(part.key, part.touched, doomed, group, tallies, after, until))
        after = until
    return parts


def _size_of(part: Part) -> int:
    values = sum(_ITEM_BYTES + size_of(state.value or "") for state in part.items)
    return _ITEM_BYTES + size_of(part.key) + values + 2 * _ITEM_BYTES * len(part.tallies)


def _no_page(request: ReplayRequest) -> ReplayPage:
    return ReplayPage("", request.page, True, False, None, {}, [])
