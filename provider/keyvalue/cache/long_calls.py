"""The calls that read or search large sets and lists: in slices, between which other calls are served.

An answer is the set or list as it was when the call began, whatever changes meanwhile: `items.walks` says how.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec

from contracts import keyvalue as kv
from contracts.encoded_texts import EncodedTexts
from contracts.extensions import EntryResponse, GetEntry
from contracts.long_values import LONG_BYTES, LongText
from provider import errors
from provider.keyvalue.cache.items.cells import Cell
from provider.keyvalue.cache.items.collections import Elements
from provider.keyvalue.cache.items.walks import MemberWalk, element_parts, intersection_parts, union_parts
from provider.keyvalue.cache.operations import CacheLimits, Mutation, remove_found, search_of, whole_key
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.conditional import entry_response
from provider.keyvalue.kinds import Kind
from provider.keyvalue.store import Call
from provider.keyvalue.values import Answer, check_kind, range_bounds

_LONG_ITEMS = 4096
"""Items of a set or list from which on a call is carried out in slices. Fewer take less than a millisecond."""

_SLICE_SECONDS = 0.001
"""Time of a slice. Of all calls together, one slice is made in each turn of the event loop."""

LONG_OPERATIONS = frozenset({kv.SetQuery, kv.ListRange, kv.ListDel, kv.SetUnion, kv.SetIntersection, GetEntry})
"""The operations that go through a whole set or list."""


class LongCalls:
    """The calls about large sets and lists of one replica.

    Args:
        replica: The replica.
        max_answer_bytes: Size of the largest answer.
    """

    def __init__(self, replica: Replica, max_answer_bytes: int) -> None:
        self._replica = replica
        self._max_answer_bytes = max_answer_bytes
        self._turn = asyncio.Lock()
        """Held for a slice, so that a turn of the loop has one, however many calls wait."""

    def is_long(self, request: kv.Request, prefix: str) -> bool:
        """Tell whether a call of one of `LONG_OPERATIONS` is carried out in slices."""
        if isinstance(request, kv.ListRange) and 0 <= request.start <= request.stop < request.start + _LONG_ITEMS:
            return False
        return any(items.count > _LONG_ITEMS for cell in self._cells(request, prefix) for items in cell.collections())

    async def perform(self, request: kv.Request, prefix: str, limits: CacheLimits, call: Call) -> Any:
        """Carry out a call and return its result.

        Args:
            request: The operation.
            prefix: Prefix of the link's keys.
            limits: Limits of every change.
            call: The call. Its work ends early if it is overdue.

        Raises:
            errors.AnswerTooLargeError: The answer is larger than it may be.
            errors.StoreTimeoutError: The call's time is over.
            errors.StoreError: As for a small set or list.
        """
        for key in _keys_of(request):
            whole_key(prefix, key)
        if isinstance(request, kv.ListDel):
            return await self._list_del(request, prefix, limits, call)
        size_bytes = sum(items.text_bytes for cell in self._cells(request, prefix) for items in cell.collections())
        try:
            await call.take_room(min(size_bytes, self._max_answer_bytes))
        except TimeoutError:
            raise errors.StoreTimeoutError(0, "other large values are being read") from None
        with ExitStack() as stack:
            if isinstance(request, GetEntry):
                return await self._entry(request, prefix, stack, call)
            return await self._encoded(request, self._parts(request, prefix, stack), call)

    async def _entry(self, request: GetEntry, prefix: str, stack: ExitStack, call: Call) -> EntryResponse:
        """Return an entry with a set or list as a JSON array, which is made part by part."""
        key, now_ms = prefix + request.key, wall_clock_ms()
        value, revision = self._replica.read(key, now_ms), self._replica.revision(key)
        if value is None or value.kind not in (Kind.SET, Kind.LIST):
            return entry_response(request.key, value, revision, now_ms)
        array: list[bytes] = [b"["]
        size, answer = 1, Answer("GetEntry", self._max_answer_bytes)
        whole = kv.SetQuery(request.key) if value.kind is Kind.SET else kv.ListRange(request.key, 0, -1)
        rest = self._parts(whole, prefix, stack)

        def add_part() -> bool:
            nonlocal size
            part = next(rest, None)
            if part:
                array.append(msgspec.json.encode(part)[1:-1] + b",")
                size += len(array[-1])
            answer.check(size)
            return part is not None

        await self._in_slices(add_part, call)
        array[-1] = array[-1].removesuffix(b",") + b"]"
        text: Any = LongText(array) if size >= LONG_BYTES else b"".join(array).decode()
        return EntryResponse(True, text, value.kind.value, revision, 0)

    def _parts(self, request: kv.Request, prefix: str, stack: ExitStack) -> Iterator[list[Any]]:
        """Return the parts of an answer as of now; the stack ends the reading."""
        now_ms = wall_clock_ms()
        if isinstance(request, kv.ListRange):
            value = self._replica.read(prefix + request.key, now_ms)
            check_kind(request.key, value, Kind.LIST)
            if value is None:
                return iter(())
            elements: Elements = value.data
            start, stop = range_bounds(request.start, request.stop, len(elements))
            return element_parts(elements.positions(start, stop)) if start < stop else iter(())
        keys, walks = _keys_of(request), []
        for key in keys:
            value = self._replica.read(prefix + key, now_ms)
            check_kind(key, value, Kind.SET)
            cell = self._replica.cells.get(prefix + key)
            if value is not None and cell is not None and cell.members is not None:
                walks.append(MemberWalk(cell.members))
                stack.callback(walks[-1].close)
        if isinstance(request, kv.SetIntersection):
            return intersection_parts(walks) if len(walks) == len(keys) else iter(())
        return union_parts(walks)

    async def _encoded(self, request: kv.Request, parts: Iterable[list[Any]], call: Call) -> EncodedTexts:
        answer = Answer(type(request).__name__, self._max_answer_bytes)
        rest = iter(parts)

        def add_part() -> bool:
            part = next(rest, None)
            answer.add(part or [])
            return part is not None

        await self._in_slices(add_part, call)
        return answer.texts

    async def _in_slices(self, step: Callable[[], bool], call: Call) -> None:
        """Repeat a step until it returns false, and let other work be done in between.

        Raises:
            errors.StoreTimeoutError: The call's time is over.
        """
        has_more = True
        while has_more:
            async with self._turn:
                until = time.perf_counter() + _SLICE_SECONDS
                while has_more := step():
                    if time.perf_counter() > until:
                        break
                if has_more:
                    await asyncio.sleep(0)
            if call.is_done:
                raise errors.StoreTimeoutError(0, "the set or list is too large for the time of the call")

    async def _list_del(self, request: kv.ListDel, prefix: str, limits: CacheLimits, call: Call) -> bool:
        """Remove the first element with a text. The search goes through the list while others change it."""
        while True:
            search = search_of(self._mutation(request, prefix, limits), request)
            if search is None:
                return False
            try:
                await self._in_slices(search.step, call)
                # From here on nothing else is done until the element is removed.
                mutation = self._mutation(request, prefix, limits)
                if mutation.cell.elements is search.elements:
                    return remove_found(mutation, search.first())
            finally:
                search.close()
            # The list was cleared meanwhile. Search the one that stands there now.

    def _mutation(self, request: kv.ListDel, prefix: str, limits: CacheLimits) -> Mutation:
        return Mutation(self._replica, limits, prefix + request.key, wall_clock_ms())

    def _cells(self, request: kv.Request, prefix: str) -> list[Cell]:
        cells = (self._replica.cells.get(prefix + key) for key in _keys_of(request))
        return [cell for cell in cells if cell is not None]


def _keys_of(request: kv.Request) -> list[str]:
    return request.keys if isinstance(request, kv.KeysRequest) else [request.key]  # type: ignore[attr-defined]
