"""Reads of paged values as callers ask for them: a head by any consistency, then its pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from contracts import keyvalue as kv
from contracts.encoded_texts import EncodedGet, EncodedTexts
from contracts.extensions import GetMany, GetResult
from provider import errors
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.pages import paged_reads as reads
from provider.keyvalue.bucket.pages.paged_value import (
    AbsentPageError,
    DamagedPageError,
    Head,
    Operation,
    Result,
    is_paged,
)
from provider.keyvalue.bucket.pages.runner import PageRunner
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.store import Call
from provider.keyvalue.values import MANY_BYTES, MAX_ANSWER_BYTES, Answer, check_kind
from provider.room import Room, TakesRoom

_log = logging.getLogger(__name__)

_SMALL_BYTES = 1024 * 1024
"""Values of this size take no room, as those of one message do not: they would wait behind large ones."""

_MOST_DAMAGED = 100
"""Damaged values that health remembers: it names one of them."""

ReadLatest = Callable[[str, float], Awaitable[Entry]]
"""Reads the entry under a key with strong consistency, before a deadline."""


Read = Callable[[Any, Value | None], Any]
ReadOfMany = Callable[[Any, Sequence[Value | None]], Any]

_KINDS: dict[type[kv.Request], Kind] = {kv.Get: Kind.TEXT, kv.SetQuery: Kind.SET, kv.ListRange: Kind.LIST}
"""The only kind that an operation reads."""


class ValueChangedError(Exception):
    """One of several values has changed since their heads were read, and its pages are not there any more."""


class DamagedValues:
    """The keys whose values were found damaged, for health."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        """Revision and text of the error, by key."""

    @property
    def reason(self) -> str:
        """The text about one of them, or ""."""
        return next((text for _, text in self._found.values()), "")

    @property
    def keys(self) -> list[str]:
        return list(self._found)

    def note(self, bucket_key: str, revision: int, text: str) -> None:
        """Remember a damaged value by the text of its error, and log it once."""
        if self._found.get(bucket_key, (0, ""))[0] != revision and len(self._found) < _MOST_DAMAGED:
            self._found[bucket_key] = revision, text
            _log.error("value_damaged", extra={"reason": text})

    def drop(self, bucket_key: str, revision: int) -> None:
        """Forget a key that has another revision now: its value was replaced."""
        if self._found and self._found.get(bucket_key, (revision, ""))[0] != revision:
            del self._found[bucket_key]


class ValueReader:
    """Reads the values behind heads.

    Args:
        runner: Carries out the operations.
        read_latest: Reads a head anew, for certain.
        max_answer_bytes: Size of the largest answer.

    Attributes:
        damaged: The values that were found damaged.
        room: The room of the values that are read for no call.
    """

    def __init__(self, runner: PageRunner, read_latest: ReadLatest, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self.damaged = DamagedValues()
        self._runner = runner
        self._read_latest = read_latest
        self._max_answer_bytes = max_answer_bytes
        self.room = Room(max_answer_bytes)
        self._loop = asyncio.get_running_loop()

    async def read(self, request: kv.SingleKeyRequest, read: Read, bucket_key: str, entry: Entry, call: Call) -> Any:
        """Return the result of an operation that reads one key with a paged value.

        Args:
            request: The operation.
            read: The operation as a function of a whole value.
            bucket_key: The key as stored.
            entry: The entry.
            call: The call that is answered; it takes the room that the value needs until it is done.

        Raises:
            errors.DamagedValueError: A page of the value is missing or not readable.
            errors.AnswerTooLargeError: The answer is larger than it may be.
            errors.StoreError: The pages could not be read in time; or as the operation says.
        """
        if isinstance(request, kv.Contains):
            return read(request, entry.value)
        if type(request) in _KINDS:
            check_kind(request.key, entry.value, _KINDS[type(request)])
        if isinstance(request, (kv.Get, kv.ListRange, kv.SetQuery)):
            while is_paged(entry.value):
                operation, size = self._part(request, head_of(entry))
                try:
                    return await self._within_room([bucket_key], operation, size, call.deadline, call)
                except (AbsentPageError, DamagedPageError) as error:
                    entry = await self.after_absence(request.key, bucket_key, entry.revision, error, call.deadline)
                    if is_paged(entry.value):
                        check_kind(request.key, entry.value, _KINDS[type(request)])
            return read(request, entry.value)
        entry = await self.whole(type(request).__name__, request.key, bucket_key, entry, call.deadline, call)
        return read(request, entry.value)

    async def whole(
        self, operation: str, key: str, bucket_key: str, entry: Entry, deadline: float, call: TakesRoom | None = None
    ) -> Entry:
        """Return an entry with its whole value. The members of a paged set are in ascending order.

        Args:
            operation: Name of the operation that reads it, for errors.
            key: The caller's key, for errors.
            bucket_key: The key as stored.
            entry: The entry; one that is not paged is returned as it is.
            deadline: On the event loop's clock.
            call: As for `read`. `None`: the room is given back at the end of the read.

        Raises:
            errors.StoreError: As for `read`.
        """
        while is_paged(entry.value):
            head = head_of(entry)
            try:
                data = await self._within_room([bucket_key], self._whole(operation, head), head.size, deadline, call)
            except (AbsentPageError, DamagedPageError) as error:
                entry = await self.after_absence(key, bucket_key, entry.revision, error, deadline)
            else:
                value = Value(head.kind, data, entry.value.expires_at_ms if entry.value is not None else 0)
                return Entry(entry.revision, value, entry.operation_id, head.size, entry.end)
        return entry

    async def read_many(
        self,
        request: kv.KeysRequest,
        read: ReadOfMany,
        bucket_keys: Sequence[str],
        entries: Sequence[Entry],
        call: Call,
    ) -> Any:
        """Return the result of an operation that reads several keys some of which have paged values.

        Args:
            request: The operation.
            read: The operation as a function of whole values.
            bucket_keys: Its keys as stored.
            entries: Their entries, all of one moment where the bucket can tell it.
            call: As for `read`.

        Raises:
            ValueChangedError: A value has changed since. All of them have to be read anew.
            errors.TooMuchAtOnceError: The values together are larger than one call may read.
            errors.StoreError: As for `read`.
        """
        if isinstance(request, (kv.SetUnion, kv.SetIntersection)):
            return await self._merged_sets(request, bucket_keys, entries, call)
        is_get = isinstance(request, GetMany)
        # A list or a set is no text, whatever its pages have.
        wanted = [is_paged(entry.value) and not (is_get and head_of(entry).kind is not Kind.TEXT) for entry in entries]
        size = sum(
            head_of(entry).size if is_wanted else entry.size for entry, is_wanted in zip(entries, wanted, strict=True)
        )
        if size > MANY_BYTES:
            raise errors.TooMuchAtOnceError(len(entries), MANY_BYTES)
        await self._take_room(size, call.deadline, call)
        values = [entry.value for entry in entries]
        failures: dict[int, errors.StoreError] = {}
        for index, entry in enumerate(entries):
            if not wanted[index]:
                continue
            name, key = type(request).__name__, request.keys[index]
            try:
                values[index] = (await self.whole(name, key, bucket_keys[index], entry, call.deadline, call)).value
            except errors.DamagedValueError as error:
                if not is_get:
                    raise
                values[index], failures[index] = None, errors.bare(error)
        results = read(request, values)
        # The other keys of a GetMany go on.
        for index, failure in failures.items():
            results[index] = GetResult(request.keys[index], "", True, str(failure))
        return results

    async def _merged_sets(
        self,
        request: kv.SetUnion | kv.SetIntersection,
        bucket_keys: Sequence[str],
        entries: Sequence[Entry],
        call: Call,
    ) -> EncodedTexts:
        for key, entry in zip(request.keys, entries, strict=True):
            check_kind(key, entry.value, Kind.SET)
        sets = [entry.value.data if entry.value is not None else () for entry in entries]
        sizes = [head_of(entry).size if is_paged(entry.value) else entry.size for entry in entries]
        merge, size = (
            (reads.union_of, sum(sizes)) if isinstance(request, kv.SetUnion) else (reads.intersection_of, min(sizes))
        )
        operation = merge(sets, self._answer(type(request).__name__))
        try:
            return await self._within_room(bucket_keys, operation, size, call.deadline, call)
        except (AbsentPageError, DamagedPageError) as error:
            index = _owner(error, entries)
            key, bucket_key = request.keys[index], bucket_keys[index]
            await self.after_absence(key, bucket_key, entries[index].revision, error, call.deadline)
        raise ValueChangedError

    async def after_absence(
        self,
        key: str,
        bucket_key: str,
        revision: int,
        error: AbsentPageError | DamagedPageError,
        deadline: float,
    ) -> Entry:
        """Return the entry that has taken the place of one whose pages are not there any more.

        Whoever replaces a head removes its pages after a while. So a page that is absent damages a value only if its head is
        still the one that was read, and only a strong read can tell that.

        Raises:
            errors.DamagedValueError: The head is still the same.
            errors.StoreError: The head could not be read, or time is over.
        """
        entry = await self._read_latest(bucket_key, deadline)
        self.damaged.drop(bucket_key, entry.revision)
        if not entry.is_checked:
            raise errors.StoreFullError(
                "a page is missing, and there is no room for the write that would prove its loss"
            )
        if entry.revision == revision:
            reason = error.reason if isinstance(error, DamagedPageError) else "is missing"
            self.damaged.note(bucket_key, revision, str(errors.DamagedValueError(key, error.page_id, reason)))
            raise errors.DamagedValueError(key, error.page_id, reason) from None
        if self._loop.time() >= deadline:
            raise errors.StoreTimeoutError(0, "the value changes faster than its pages can be read") from None
        return entry

    async def _within_room(
        self,
        bucket_keys: Sequence[str],
        operation: Operation[Result],
        size: int,
        deadline: float,
        call: TakesRoom | None,
    ) -> Result:
        """Read what is so large when its turn has come."""
        await self._take_room(size, deadline, call)
        try:
            return await self._runner.run(bucket_keys, operation, deadline)
        finally:
            if call is None and size > _SMALL_BYTES:
                self.room.give_back(size)

    async def _take_room(self, size: int, deadline: float, call: TakesRoom | None) -> None:
        """Wait for room: together, large values take the memory of one answer, from their first page until they are sent."""
        if size <= _SMALL_BYTES:
            return
        began = self._loop.time()
        try:
            await (self.room.take(size, deadline) if call is None else call.take_room(size))
        except TimeoutError:
            waited_ms = int((self._loop.time() - began) * 1000)
            raise errors.StoreTimeoutError(waited_ms, "other large values are being read") from None

    def _part(
        self, request: kv.Get | kv.ListRange | kv.SetQuery, head: Head
    ) -> tuple[Operation[EncodedGet | EncodedTexts], int]:
        """Return the read of a text or of elements, and about how many bytes it has."""
        answer = self._answer(type(request).__name__)
        if isinstance(request, kv.Get):
            return reads.get_response(head, answer), head.size
        if isinstance(request, kv.SetQuery):
            answer.check(head.size)
            return reads.collected(reads.MemberReader(head), answer), head.size
        answer = self._answer("ListRange", "; ask for fewer elements at once")
        reader = reads.RangeReader(head, request.start, request.stop)
        return reads.collected(reader, answer), head.size * reader.length // head.count

    def _whole(self, operation: str, head: Head) -> Operation[Any]:
        answer = self._answer(operation)
        answer.check(head.size)
        match head.kind:
            case Kind.TEXT:
                return reads.text_of(head, answer)
            case Kind.LIST:
                return reads.elements_of(head)
            case Kind.SET:
                return _members(head)
        return reads.bytes_of(head, answer)

    def _answer(self, operation: str, advice: str = "") -> Answer:
        return Answer(operation, self._max_answer_bytes, advice)


def _members(head: Head) -> Operation[dict[str, None]]:
    return dict.fromkeys((yield from reads.elements_of(head)))


def head_of(entry: Entry) -> Head:
    """Return the head of an entry whose value has pages."""
    assert entry.value is not None
    head: Head = entry.value.data
    return head


def _owner(error: AbsentPageError | DamagedPageError, entries: Sequence[Entry]) -> int:
    """Return the index of the entry whose page an error names; pages of one key begin alike."""
    prefix = error.page_id.partition(".")[0]
    for index, entry in enumerate(entries):
        if is_paged(entry.value) and entry.value is not None and entry.value.data.root.startswith(prefix):
            return index
    return 0
