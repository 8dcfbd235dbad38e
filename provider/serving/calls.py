"""The calls being served: limits on how many there may be, and exactly one answer to each. It knows no host."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from msgspec import Struct

from contracts import extensions, operations
from contracts import keyvalue as kv
from contracts.codec import MalformedError
from provider import errors
from provider.config import ProcessLimits
from provider.keyvalue.byte_values import SetBytesMany
from provider.keyvalue.conditional import CONDITIONS
from provider.keyvalue.store import SharedStore, Store
from provider.keyvalue.tables import CHANGES
from provider.lattice.call_counts import CallCounts
from provider.lattice.protocol import LinkKey
from provider.memory import return_freed
from provider.room import Room
from provider.telemetry.export import Telemetry

_log = logging.getLogger(__name__)

_OVERDUE_GRACE_SECONDS = 0.15
"""The time after its deadline in which a store may still answer a call with a more telling error."""

_TICK_SECONDS = 0.05
"""The time between two looks for overdue calls: a third of the grace, so that the caller is still waiting."""

_FREED_SECONDS = 0.1
"""Time from the end of a call until its large payload is certainly free."""

_CHANGING = frozenset({*CHANGES, *CONDITIONS, extensions.SetMany, extensions.DeleteMany, SetBytesMany})

_EXPECTED = (errors.ProviderError, MalformedError, operations.UnknownOperationError)
"""The errors that a caller may be told; any other is a defect."""


class ServedCall(Struct, eq=False, kw_only=True):
    """A call being served; a `provider.keyvalue.store.Call`. Each family of hosts has its own way to send the answer.

    Attributes:
        calls: The calls that this one belongs to.
        link: Link by which the caller calls.
        operation: Name of the operation, as the caller's host knows it.
        header: NATS headers of the message, for traces.
        size_bytes: Size of the message, or of the payload if that is sent apart.
        began: Arrival, by `time.monotonic`.
        deadline: The latest moment for the store's answer, on the same clock.
        request: The decoded operation; `None` until it has been decoded.
        shared: The store that is held open for this call; `None` unless the call is in flight.
        room_bytes: Size of the room that its payload takes; 0 unless the payload is sent apart.
        answer_bytes: Size of the room that its answer takes; 0 unless the answer is large.
    """

    calls: Calls
    link: LinkKey
    operation: str
    header: bytes
    size_bytes: int
    began: float
    deadline: float
    request: kv.Request | None = None
    shared: SharedStore[Any] | None = None
    room_bytes: int = 0
    answer_bytes: int = 0
    is_done: bool = False

    async def take_room(self, size_bytes: int) -> None:
        if self.answer_bytes < size_bytes:
            await self.calls.take_answer_room(self, size_bytes)

    def answer(self, result: Any) -> None:
        """Send the operation's result, unless the call has been answered, and end the call; see `Calls.end`."""
        raise NotImplementedError

    def send_failure(self, error: BaseException) -> None:
        """Send an error that the caller may be told."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        if self.is_done:  # its frames would hold the payload until the next collection
            errors.bare(error)
        else:
            self.calls.fail(self, error)

    @property
    def is_change(self) -> bool:
        """True if the operation may have changed something, so that a lost outcome is not a failure."""
        return type(self.request) in _CHANGING

    @property
    def trace_context(self) -> dict[str, str] | None:
        """The caller's trace, where it is not in the headers."""
        return None


class Calls:
    """All calls being served.

    Args:
        limits: Limits on number and size.
        counts: Counts every call that ends.
        telemetry: Traces every call that ends, if the host asked for traces.

    Attributes:
        limits: Limits on number and size.
        counts: Counts of the calls that have ended.
    """

    def __init__(self, limits: ProcessLimits, counts: CallCounts, telemetry: Telemetry) -> None:
        self.limits = limits
        self.counts = counts
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[ServedCall, None] = {}
        self._in_flight_bytes = 0
        self._room = Room(limits.max_invocation_bytes)
        self._answers = Room(limits.max_answer_bytes)
        self._is_stopping = False
        self._drained = asyncio.Event()
        self._logs_calls = _log.isEnabledFor(logging.DEBUG)

    @property
    def in_flight(self) -> int:
        """Number of calls that wait for their answer."""
        return len(self._in_flight)

    @property
    def in_flight_bytes(self) -> int:
        """Size of their payloads."""
        return self._in_flight_bytes

    def refusal(self, call: ServedCall) -> errors.InvocationError | None:
        """Return the reason for not accepting a call, or `None` if it is accepted."""
        limits, size_bytes = self.limits, call.size_bytes
        if self._is_stopping:
            return errors.ShuttingDownError()
        if len(self._in_flight) >= limits.max_in_flight:
            return errors.OverloadedError("max_in_flight", limits.max_in_flight)
        if self._in_flight_bytes + size_bytes > limits.max_in_flight_bytes:
            return errors.OverloadedError("max_in_flight_bytes", limits.max_in_flight_bytes)
        return None

    def keep(self, call: ServedCall, store: Store) -> None:
        """Count a call as in flight and hold its store open until the call is done, even if its link is deleted."""
        call.shared = store.shared
        call.shared.hold()
        self._in_flight[call] = None
        self._in_flight_bytes += call.size_bytes

    async def take_room(self, call: ServedCall) -> None:
        """Wait for room for the payload of a call. The end of the call gives it back.

        Raises:
            errors.NoRoomError: There was no room until the call's deadline.
        """
        try:
            await self._room.take(call.size_bytes, call.deadline)
        except TimeoutError:
            raise errors.NoRoomError(call.size_bytes, self.limits.max_invocation_bytes) from None
        call.room_bytes = call.size_bytes
        if call.is_done:  # it became overdue meanwhile
            self._give_back_room(call)

    async def take_answer_room(self, call: ServedCall, size_bytes: int) -> None:
        """Wait for room for the answer of a call; see `provider.keyvalue.store.Call.take_room`."""
        # A call that kept its share while it waits for more could wait for another that does so, too.
        self._give_back_answer(call)
        await self._answers.take(size_bytes, call.deadline)
        call.answer_bytes = size_bytes
        if call.is_done:
            self._give_back_answer(call)

    def give_back_answer_room(self, size_bytes: int) -> None:
        """Give back the room of an answer whose call has ended before the answer was sent."""
        self._answers.give_back(size_bytes)
        self._loop.call_later(_FREED_SECONDS, return_freed)

    def _give_back_room(self, call: ServedCall) -> None:
        if call.room_bytes:
            self._room.give_back(call.room_bytes)
            call.room_bytes = 0

    def _give_back_answer(self, call: ServedCall) -> None:
        if call.answer_bytes:
            self._answers.give_back(call.answer_bytes)
            call.answer_bytes = 0

    def check_keys(self, request: kv.Request) -> None:
        """Raise `errors.TooManyKeysError` if a request names more keys than one call may."""
        if isinstance(request, kv.SingleKeyRequest):
            return
        maximum = self.limits.max_keys_per_call
        keys = request.keys if isinstance(request, kv.KeysRequest) else ()
        count = len(request.items) if isinstance(request, extensions.SetMany | SetBytesMany) else len(keys)
        if count > maximum:
            raise errors.TooManyKeysError(count, maximum)

    # --- the end of one call

    def fail(self, call: ServedCall, error: BaseException) -> None:
        """Send an error and end the call; see `provider.keyvalue.store.Call.fail`."""
        if isinstance(error, asyncio.CancelledError):
            shown: BaseException = _cut_off(call)
        elif isinstance(error, _EXPECTED):
            shown = error
        else:
            _log.error("internal_error", extra={"operation": call.operation}, exc_info=error)
            shown = errors.InternalError(type(error).__name__)
        call.is_done = True
        call.send_failure(shown)
        self.end(call, 0, errors.bare(error))

    def end(self, call: ServedCall, response_bytes: int, error: BaseException | None) -> None:
        """Forget a call that has been answered, and count, trace and log it."""
        call.is_done = True
        if call.shared is not None:
            del self._in_flight[call]
            self._in_flight_bytes -= call.size_bytes
            call.shared.release()
            call.shared = None
            if call.room_bytes or call.answer_bytes:  # large payloads only
                self._give_back_room(call)
                self._give_back_answer(call)
                self._loop.call_later(_FREED_SECONDS, return_freed)
            if self._is_stopping and not self._in_flight:
                self._drained.set()
        seconds = time.monotonic() - call.began
        kind = "" if error is None else type(error).__name__
        is_known = self.counts.count(call.link, call.operation, seconds, kind)
        if self._telemetry.is_on:
            self._telemetry.call(call.operation if is_known else "", call.header, call.trace_context, seconds, error)
        if self._logs_calls:
            _log_call(call, seconds, response_bytes, error)

    # --- the end of all calls

    async def answer_overdue(self) -> None:
        """Answer, for as long as the provider runs, the calls that no store has answered in time.

        A store answers every call by its deadline. This is for the store that does not, by a defect or because the
        process is too busy: a caller must not be left without an answer.
        """
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            limit = self._loop.time() - _OVERDUE_GRACE_SECONDS
            for call in [call for call in self._in_flight if call.deadline < limit]:
                _log.error("call_overdue", extra={"operation": call.operation})
                call.fail(_overdue(call))

    async def drain(self, patience_seconds: float) -> None:
        """Accept no more calls and wait for those in flight; after that time, fail the ones that are left."""
        self._is_stopping = True
        if self._in_flight:
            try:
                async with asyncio.timeout(patience_seconds):
                    await self._drained.wait()
            except TimeoutError:
                _log.warning("calls_cut_off", extra={"calls": len(self._in_flight)})
        for call in list(self._in_flight):
            call.fail(_cut_off(call))


def _cut_off(call: ServedCall) -> errors.ProviderError:
    """Return the error of a call that was still in flight when the provider stopped."""
    return errors.OutcomeUnknownError("the provider is shutting down") if call.is_change else errors.ShuttingDownError()


def _overdue(call: ServedCall) -> errors.ProviderError:
    if call.is_change:
        return errors.OutcomeUnknownError("the provider took too long")
    return errors.StoreTimeoutError(int((time.monotonic() - call.began) * 1000), "the provider is too busy")


def _log_call(call: ServedCall, seconds: float, response_bytes: int, error: BaseException | None) -> None:
    actor_id, _, link_name = call.link
    fields = {
        "operation": call.operation,
        "key": _keys_of(call.request),
        "microseconds": int(seconds * 1e6),
        "link_name": link_name,
        "actor_id": actor_id,
    }
    if error is None:
        _log.debug("invocation_served", extra={**fields, "result_bytes": response_bytes})
    else:
        _log.debug("invocation_failed", extra={**fields, "error": str(error)})


def _keys_of(request: kv.Request | None) -> str:
    match request:
        case kv.KeysRequest():
            return ", ".join(request.keys)
        case extensions.SetMany():
            return ", ".join(item.key for item in request.items)
        case extensions.ListKeys():
            return request.prefix
    return getattr(request, "key", "")
