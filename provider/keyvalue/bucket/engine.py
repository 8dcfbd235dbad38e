"""Atomic changes over a store that can only compare and set.

All changes of one key go through that key's lane. Those that arrive while a write of the key is under way are combined
into the next single write; each caller gets its own intermediate result. An acknowledged change happened exactly once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from contracts import keyvalue as kv
from contracts.extensions import SwapResponse
from provider import errors
from provider.keyvalue.bucket.entries import NO_ENTRY, Entry, Write
from provider.keyvalue.conditional import CONDITIONS, Put
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import CHANGES, OVERWRITES, Value
from provider.tasks import TaskOwner

_MAX_CALLS_PER_WRITE = 1024
_ATTEMPT_SECONDS = 0.7
_IMMEDIATE_RETRIES = 3
_MAX_JITTER_SECONDS = 0.001
_PAUSE_SECONDS = 0.02
_TICK_SECONDS = 0.02
_CACHED_ENTRIES = 1024
_ANOTHER_ATTEMPT = "another attempt at it was written"

CACHED_BYTES = 8 * 1024 * 1024


class CompareAndSetStore(Protocol):
    """What the engine needs of a store."""

    def now_ms(self) -> int:
        """Return the time by the store's clock, in milliseconds since 1970."""
        ...

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Read an entry from where writes are decided.

        Raises:
            errors.StoreError: It could not be read.
        """
        ...

    async def write(self, write: Write, deadline: float) -> int:
        """Write and return the new revision.

        Raises:
            ConflictError: Something else stands there; nothing was written.
            WrittenBeforeError: Another attempt at the same change has been written.
            NotWrittenError: The store could not be reached; nothing was written.
            UnknownError: What became of the write is not known.
            errors.StoreError: It is refused for good.
        """
        ...

    async def claim(self, message_id: bytes, deadline: float) -> int | None:
        """See to it that nothing more is written under a message id; returns the revision of what has been, if any.

        Raises:
            errors.OutcomeUnknownError: It could not be done in time.
        """
        ...


class ConflictError(Exception):
    """A compare-and-set lost, as far as the one who answered knows.

    Attributes:
        is_certain: Nobody else can have accepted it. With several replicas a leader that was deposed may refuse what its
            successor stores.
    """

    def __init__(self, *, is_certain: bool = True) -> None:
        super().__init__()
        self.is_certain = is_certain


class WrittenBeforeError(Exception):
    """The stream has a message of the same id: another attempt, at `revision`. Nothing was written now."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision


class NotWrittenError(Exception):
    """Nothing was written; trying again is safe. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownError(Exception):
    """The write may have happened. `reason` says why that is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Call:
    """One change that somebody waits for."""

    __slots__ = ("began", "deadline", "future", "is_sent", "request")

    def __init__(
        self, request: kv.SingleKeyRequest, began: float, deadline: float, future: asyncio.Future[Any]
    ) -> None:
        self.request = request
        self.began = began
        self.deadline = deadline
        self.future = future
        self.is_sent = False


class _Plan(NamedTuple):
    """What a batch makes of an entry: each call's result or error, in order, and what is to be written."""

    outcomes: list[tuple[_Call, Any, errors.StoreError | None]]
    value: Value | None
    is_change: bool
    keeps_history: bool


class _Attempts:
    """Attempts at one batch that were refused, but perhaps not by everybody, so that one may have been written.

    With several replicas a leader that was deposed refuses what its successor stores. All attempts have one message id,
    of which the stream takes one message; which attempt that is can be told from its revision.
    """

    def __init__(self, message_id: bytes) -> None:
        self.message_id = message_id
        self._plans: dict[bytes, tuple[int, _Plan]] = {}

    def __bool__(self) -> bool:
        return bool(self._plans)

    def add(self, operation_id: bytes, expected_revision: int, plan: _Plan) -> None:
        self._plans[operation_id] = expected_revision, plan

    def named(self, operation_id: bytes) -> _Plan | None:
        """Return the plan of the attempt that wrote what stands there; `None`: none of them did."""
        found = self._plans.get(operation_id)
        return found[1] if found is not None else None

    def written_plan(self, revision: int) -> _Plan:
        """Return the plan of the attempt that was written at a revision.

        It was written upon the revision that it expected and nothing in between, and every revision that an attempt
        expected was there once: so it is the one that expected the latest of those before.

        Raises:
            errors.OutcomeUnknownError: It is none of those that are known.
        """
        before = [attempt for attempt in self._plans.values() if attempt[0] < revision]
        if not before:
            raise errors.OutcomeUnknownError(_ANOTHER_ATTEMPT)
        return max(before, key=lambda attempt: attempt[0])[1]


class Engine:
    """The lanes of one store.

    Args:
        store: Where the values are.
        tasks: Owns the tasks of lanes at work.
        cached_bytes: How large the values may be that it keeps for the next change of a key, all together.
    """

    def __init__(self, store: CompareAndSetStore, tasks: TaskOwner, cached_bytes: int = CACHED_BYTES) -> None:
        self._store = store
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, list[_Call]] = {}
        self._calls: dict[_Call, None] = {}
        self._cache = _EntryCache(cached_bytes)
        self._operation_prefix = secrets.token_urlsafe(6).encode() + b"."
        self._operations = itertools.count()
        self._tick: asyncio.TimerHandle | None = None

    async def change(self, request: kv.SingleKeyRequest, bucket_key: str, deadline: float) -> Any:
        """Carry out one change and return its result.

        Args:
            request: One of the types in `values.CHANGES` or `atomics.CONDITIONS`.
            bucket_key: The key as stored.
            deadline: When the caller must have an answer, on the event loop's clock.

        Raises:
            errors.OutcomeUnknownError: It may or may not have happened.
            errors.StoreError: Any other: it did not happen.
        """
        call = _Call(request, self._loop.time(), deadline, self._loop.create_future())
        self._calls[call] = None
        if self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._expire)
        lane = self._lanes.get(bucket_key)
        if lane is None:
            self._lanes[bucket_key] = [call]
            self._tasks.start(self._run(bucket_key), bucket_key)
        else:
            lane.append(call)
        try:
            return await call.future
        finally:
            del self._calls[call]

    def forget(self) -> None:
        """Drop what is remembered of entries; the store may be another one now."""
        self._cache.clear()

    def close(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    async def _run(self, bucket_key: str) -> None:
        """Work a lane off until it is empty."""
        lane = self._lanes[bucket_key]
        try:
            while lane:
                size = _batch_size(lane)
                batch = [call for call in lane[:size] if not call.future.done()]
                del lane[:size]
                while batch:
                    batch = await self._settle(bucket_key, batch)
        finally:
            del self._lanes[bucket_key]

    async def _settle(self, bucket_key: str, batch: list[_Call]) -> list[_Call]:
        """Answer the calls of a batch, by one write if they fit into it; returns those that have to wait for the next."""
        rest: list[_Call] = []
        attempts = _Attempts(self._new_id())
        while True:
            try:
                await self._write_batch(bucket_key, batch, attempts)
            except errors.ValueTooLargeError as error:
                if attempts:
                    if await self._was_written(batch, attempts):
                        return rest
                    attempts = _Attempts(self._new_id())
                if len(batch) > 1:
                    middle = len(batch) // 2
                    batch, rest = batch[:middle], batch[middle:] + rest
                    continue
                _fail(batch[0], error)
            except errors.StoreError as error:
                unknown = errors.OutcomeUnknownError("a write was refused by a leader that may have been deposed")
                for call in batch:
                    _fail(call, unknown if attempts else error)
            return rest

    async def _was_written(self, batch: list[_Call], attempts: _Attempts) -> bool:
        """Tell whether an attempt at a batch was written after all, and if so, or if that stays unknown, answer it.

        Otherwise nothing is written under the attempts' message id any more.
        """
        try:
            revision = await self._store.claim(attempts.message_id, max(call.deadline for call in batch))
            if revision is None:
                return False
            _answer(attempts.written_plan(revision), revision)
        except errors.OutcomeUnknownError as unknown:
            for call in batch:
                _fail(call, unknown)
        return True

    async def _write_batch(self, bucket_key: str, batch: list[_Call], attempts: _Attempts) -> None:
        """Plan a batch on what stands there and write it, again and again until nobody else was first.

        Args:
            bucket_key: The key as stored.
            batch: Calls to answer.
            attempts: Made before; added to.

        Raises:
            errors.StoreError: Nothing of the batch has happened, unless it is an `OutcomeUnknownError`.
        """
        entry, is_fresh = self._cache.take(bucket_key), False
        conflicts = 0
        while batch := [call for call in batch if not call.future.done()]:
            deadline = max(call.deadline for call in batch)
            is_blind = entry is None and not attempts and _is_overwrite(batch[0].request)
            if entry is None and not is_blind:
                entry = await self._store.read_latest(bucket_key, deadline)
                is_fresh = True
                written = attempts.named(entry.operation_id)
                if written is not None:
                    _answer(written, entry.revision)
                    return
                batch = [call for call in batch if not call.future.done()]
            plan = self._plan(batch, entry or NO_ENTRY)
            if plan.is_change:
                expected = None if is_blind or entry is None else entry.revision
                if await self._attempt(bucket_key, batch, plan, expected, attempts):
                    return
                conflicts += 1
                if conflicts > _IMMEDIATE_RETRIES:
                    await asyncio.sleep(random.random() * _MAX_JITTER_SECONDS)
            elif is_fresh:
                if entry is not None and not entry.is_checked:
                    raise errors.StoreFullError("nothing is to be changed, and no room to look whether that is so")
                await self._answer_unchanged(plan, attempts, deadline)
                return
            entry = None

    async def _answer_unchanged(self, plan: _Plan, attempts: _Attempts, deadline: float) -> None:
        """Answer a plan that changes nothing, unless an attempt before it has been written after all.

        Raises:
            errors.OutcomeUnknownError: That could not be found out.
        """
        revision = await self._store.claim(attempts.message_id, deadline) if attempts else None
        _answer(attempts.written_plan(revision) if revision is not None else plan, revision or 0)

    async def _attempt(
        self, bucket_key: str, batch: list[_Call], plan: _Plan, expected: int | None, attempts: _Attempts
    ) -> bool:
        """Write a plan; false: somebody else was first, or so it is said.

        Raises:
            errors.StoreError: As for `_write_batch`.
        """
        operation_id = self._new_id()
        payload = encode_payload(plan.value) if plan.value is not None else b""
        write = Write(
            bucket_key,
            batch[0].request.key,
            plan.value,
            payload,
            operation_id,
            expected,
            plan.keeps_history,
            attempts.message_id,
        )
        try:
            await self._write(write, batch, plan)
        except ConflictError as error:
            if not error.is_certain and expected is not None:
                attempts.add(operation_id, expected, plan)
            return False
        except WrittenBeforeError as error:
            if expected is not None:
                attempts.add(operation_id, expected, plan)
            _answer(attempts.written_plan(error.revision), error.revision)
        return True

    def _new_id(self) -> bytes:
        return self._operation_prefix + b"%x" % next(self._operations)

    def _plan(self, batch: list[_Call], entry: Entry) -> _Plan:
        now_ms = self._store.now_ms()
        before = None if entry.is_expired(now_ms) else entry.value
        value, is_change, keeps_history = before, False, False
        outcomes: list[tuple[_Call, Any, errors.StoreError | None]] = []
        for call in batch:
            try:
                change = CHANGES.get(type(call.request))
                if change is not None:
                    value, result, is_write, _ = change(call.request, value, now_ms)
                else:
                    condition, revision = CONDITIONS[type(call.request)], entry.revision if before is not None else 0
                    value, result, is_write, keeps_history = condition(call.request, value, revision, now_ms)
            except errors.StoreError as error:
                outcomes.append((call, None, errors.bare(error)))
            else:
                is_change = is_change or is_write
                outcomes.append((call, result, None))
        is_change = is_change and not (before is None and value is None and entry is not NO_ENTRY)
        return _Plan(outcomes, value, is_change, keeps_history)

    async def _write(self, write: Write, batch: list[_Call], plan: _Plan) -> None:
        """Write a plan and answer its calls.

        Raises:
            ConflictError: Somebody else was first, or the store was not there: nothing of the plan has happened. By
                the time it is tried again some callers may have been told so, so it must be planned again.
            errors.StoreError: As for `change`, for every call.
        """
        loop = self._loop
        revision: int | None = None
        unknown_reason = ""
        while revision is None:
            deadline = max((call.deadline for call in batch if not call.future.done()), default=0.0)
            if loop.time() >= deadline:
                raise _late(unknown_reason, batch[0], loop.time())
            for call in batch:
                call.is_sent = True
            try:
                revision = await self._store.write(write, min(deadline, loop.time() + _ATTEMPT_SECONDS))
            except UnknownError as error:
                unknown_reason = error.reason
            except errors.StoreError as error:
                raise _refused(error, batch, unknown_reason) from None
            except (ConflictError, NotWrittenError) as error:
                if not unknown_reason:
                    await self._not_written(batch, error, deadline)
                await asyncio.sleep(_PAUSE_SECONDS)
            if revision is None:
                revision = await self._find(write, deadline, unknown_reason)
        self._cache.put(write.bucket_key, Entry(revision, plan.value), len(write.payload))
        _answer(plan, revision)

    async def _not_written(self, batch: list[_Call], error: ConflictError | NotWrittenError, deadline: float) -> None:
        """Note that a write has not happened, as far as is known; raises always."""
        if isinstance(error, ConflictError):
            if error.is_certain:
                _mark_unsent(batch)
            raise error
        _mark_unsent(batch)
        if self._loop.time() + _PAUSE_SECONDS >= deadline:
            raise errors.StoreUnreachableError(error.reason)
        await asyncio.sleep(_PAUSE_SECONDS)
        raise ConflictError

    async def _find(self, write: Write, deadline: float, reason: str) -> int | None:
        """Look whether a write of unknown outcome has happened: its revision, or `None` when it may be sent again.

        Raises:
            errors.OutcomeUnknownError: Something else stands there now, so it cannot be told.
        """
        try:
            current = await self._store.read_latest(write.bucket_key, deadline)
        except errors.StoreError:
            raise errors.OutcomeUnknownError(reason) from None
        if current.operation_id == write.operation_id:
            return current.revision
        if write.expected_revision is None:
            raise errors.OutcomeUnknownError(reason)
        if current.revision == write.expected_revision:
            return None
        raise errors.OutcomeUnknownError(f"{reason}, and the key was written by somebody else since")

    def _expire(self) -> None:
        """Answer the calls whose deadline has come, whatever their lane is waiting for."""
        now = self._loop.time()
        for call in list(self._calls):
            if call.deadline <= now and not call.future.done():
                _fail(call, _late("no answer from the store in time" if call.is_sent else "", call, now))
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if self._calls else None


class _EntryCache:
    """The entries last written, so that the next change of a key needs no read. Bounded by count and bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self._bytes = 0
        self._max_bytes = max_bytes

    def take(self, bucket_key: str) -> Entry | None:
        """Remove and return an entry: whoever takes it may change its value."""
        entry, size = self._entries.pop(bucket_key, (None, 0))
        self._bytes -= size
        return entry

    def put(self, bucket_key: str, entry: Entry, size: int) -> None:
        self.take(bucket_key)
        self._entries[bucket_key] = (entry, size)
        self._bytes += size
        while len(self._entries) > _CACHED_ENTRIES or self._bytes > self._max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._bytes -= dropped

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


def _is_overwrite(request: kv.Request) -> bool:
    """Tell whether a change does not depend on what stands there."""
    return type(request) in OVERWRITES or (isinstance(request, Put) and request.revision is None)


def _batch_size(lane: list[_Call]) -> int:
    """Return how many calls at the head of a lane may share a write: one that depends on a revision goes by itself."""
    for number, call in enumerate(lane[:_MAX_CALLS_PER_WRITE]):
        if type(call.request) in CONDITIONS:
            return max(number, 1)
    return _MAX_CALLS_PER_WRITE


def _answer(plan: _Plan, revision: int) -> None:
    """Answer the calls of a plan; `revision` is that of the write, if there was one."""
    for call, result, error in plan.outcomes:
        if error is not None:
            _fail(call, error)
        elif not call.future.done():
            if type(result) is SwapResponse and result.success:
                is_there = plan.value is not None
                result = SwapResponse(True, revision if is_there else 0)  # noqa: PLW2901  (the call's own)
            call.future.set_result(result)


def _fail(call: _Call, error: errors.StoreError) -> None:
    if not call.future.done():
        call.future.set_exception(error)


def _refused(error: errors.StoreError, batch: list[_Call], unknown_reason: str) -> errors.StoreError:
    """Return what a refusal is when the same write may have been made before."""
    if unknown_reason:
        return errors.OutcomeUnknownError(unknown_reason)
    if isinstance(error, errors.ValueTooLargeError):
        _mark_unsent(batch)
    return error


def _mark_unsent(batch: list[_Call]) -> None:
    for call in batch:
        call.is_sent = False


def _late(unknown_reason: str, call: _Call, now: float) -> errors.StoreError:
    if unknown_reason:
        return errors.OutcomeUnknownError(unknown_reason)
    return errors.StoreTimeoutError(int((now - call.began) * 1000), "the key's earlier writes are still under way")
