"""The invocations being served: limits on how many there may be, and exactly one reply to each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from contracts import extensions, operations
from contracts import keyvalue as kv
from contracts.codec import MalformedError
from contracts.lattice import CHUNK_THRESHOLD_BYTES, encode_failure, encode_success
from provider import errors
from provider.config import ProcessLimits
from provider.keyvalue.byte_values import SetBytesMany
from provider.keyvalue.conditional import CONDITIONS
from provider.keyvalue.store import SharedStore, Store, complete
from provider.keyvalue.tables import CHANGES
from provider.lattice.call_counts import CallCounts
from provider.lattice.chunks import ChunkStore
from provider.lattice.protocol import InvocationAccepted
from provider.tasks import TaskOwner
from provider.telemetry.export import Telemetry

_log = logging.getLogger(__name__)

SHOWN_ID_CHARACTERS = 256
"""The length to which an error's reply repeats the invocation's id; a host's ids have 36 characters."""

_SHOWN_OPERATION_CHARACTERS = 100
"""The length to which an error text repeats the operation's name; the longest of the contract has 29 characters."""

_OVERDUE_GRACE_SECONDS = 0.15
"""The time after its deadline in which a store may still answer a call with a more telling error."""

_TICK_SECONDS = 0.05
"""The time between two looks for overdue calls: a third of the grace, so that the caller is still waiting."""

_CHANGING = frozenset({*CHANGES, *CONDITIONS, extensions.SetMany, extensions.DeleteMany, SetBytesMany})

_EXPECTED = (errors.ProviderError, MalformedError, operations.UnknownOperationError)
"""The errors that a caller may be told; any other is a defect."""


class InvocationCall(Struct, eq=False):
    """An invocation being served; a `provider.keyvalue.store.Call`.

    Attributes:
        calls: The calls that this one belongs to; they answer it.
        event: The verified invocation.
        reply_subject: NATS subject of the reply; b"" if the caller wants none.
        header: NATS headers of the message, for traces.
        size_bytes: Size of the message, or of the payload if that is sent apart in chunks.
        began: Arrival, by `time.monotonic`.
        deadline: The latest moment for the store's answer, on the event loop's clock.
        request: The decoded operation; `None` until it has been decoded.
        shared: The store that is held open for this call; `None` unless the call is in flight.
    """

    calls: Calls
    event: InvocationAccepted
    reply_subject: bytes
    header: bytes
    size_bytes: int
    began: float
    deadline: float
    request: kv.Request | None = None
    shared: SharedStore[Any] | None = None
    is_done: bool = False

    def answer(self, result: Any) -> None:
        if not self.is_done:
            self.calls.succeed(self, operations.encode_response(result))

    def fail(self, error: BaseException) -> None:
        if self.is_done:  # its frames would hold the payload until the next collection
            errors.bare(error)
        else:
            self.calls.fail(self, error)

    @property
    def is_change(self) -> bool:
        """True if the operation may have changed something, so that a lost outcome is not a failure."""
        return type(self.request) in _CHANGING


class Calls:
    """All invocations being served.

    Args:
        limits: Limits on number and size.
        chunks: The object store for payloads that are too large for a message.
        reply: Publishes a reply to a subject; raises `errors.MessageTooLargeError`.
        counts: Counts every call that ends.
        telemetry: Traces every call that ends, if the host asked for traces.
        tasks: Owner of the tasks that send large answers.

    Attributes:
        limits: Limits on number and size.
        counts: Counts of the calls that have ended.
    """

    def __init__(
        self,
        limits: ProcessLimits,
        chunks: ChunkStore,
        reply: Callable[[bytes, bytes], None],
        counts: CallCounts,
        telemetry: Telemetry,
        tasks: TaskOwner,
    ) -> None:
        self.limits = limits
        self._chunks = chunks
        self._reply = reply
        self.counts = counts
        self._telemetry = telemetry
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[InvocationCall, None] = {}
        self._in_flight_bytes = 0
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

    def refusal(self, call: InvocationCall) -> errors.InvocationError | None:
        """Return the reason for not accepting a call, or `None` if it is accepted."""
        limits, size_bytes = self.limits, call.size_bytes
        if call.event.invocation.is_chunked and size_bytes > limits.max_invocation_bytes:
            return errors.InvocationTooLargeError(size_bytes, limits.max_invocation_bytes)
        if self._is_stopping:
            return errors.ShuttingDownError()
        if len(self._in_flight) >= limits.max_in_flight:
            return errors.OverloadedError("max_in_flight", limits.max_in_flight)
        if self._in_flight_bytes + size_bytes > limits.max_in_flight_bytes:
            return errors.OverloadedError("max_in_flight_bytes", limits.max_in_flight_bytes)
        return None

    def keep(self, call: InvocationCall, store: Store) -> None:
        """Count a call as in flight and hold its store open until the call is done, even if its link is deleted."""
        call.shared = store.shared
        call.shared.hold()
        self._in_flight[call] = None
        self._in_flight_bytes += call.size_bytes

    def check_keys(self, request: kv.Request) -> None:
        """Raise `errors.TooManyKeysError` if a request names more keys than one call may."""
        maximum = self.limits.max_keys_per_call
        keys = request.keys if isinstance(request, kv.KeysRequest) else ()
        count = len(request.items) if isinstance(request, extensions.SetMany | SetBytesMany) else len(keys)
        if count > maximum:
            raise errors.TooManyKeysError(count, maximum)

    # --- the end of one call

    def succeed(self, call: InvocationCall, response: bytes) -> None:
        """Reply with an encoded result. A result that is too large for a message travels in chunks, and later."""
        if len(response) > CHUNK_THRESHOLD_BYTES:
            size_bytes = len(response)
            put = self._put_chunks(call, response)
            sent = complete(call, put, lambda _: self._reply_success(call, b"", size_bytes))
            self._tasks.start(sent, "send a large answer")
        else:
            self._reply_success(call, response, len(response))

    def fail(self, call: InvocationCall, error: BaseException) -> None:
        """Reply with an error; see `provider.keyvalue.store.Call.fail`."""
        call.is_done = True
        invocation = call.event.invocation
        if isinstance(error, asyncio.CancelledError):
            shown: BaseException = cut_off(call)
        elif isinstance(error, _EXPECTED):
            shown = error
        else:
            _log.error("internal_error", extra={"operation": invocation.operation}, exc_info=error)
            shown = errors.InternalError(type(error).__name__)
        text = f"{invocation.operation[:_SHOWN_OPERATION_CHARACTERS]}: {shown}"
        self._reply(call.reply_subject, encode_failure(invocation.id[:SHOWN_ID_CHARACTERS], text))
        self._end(call, 0, errors.bare(error))

    async def _put_chunks(self, call: InvocationCall, response: bytes) -> None:
        try:
            await self._chunks.put(f"{call.event.invocation.id}-r", response, call.deadline)
        except errors.ChunkError as error:
            if not call.is_change:
                raise
            raise errors.OutcomeUnknownError(f"its answer could not be sent: {error}") from None

    def _reply_success(self, call: InvocationCall, response: bytes, size_bytes: int) -> None:
        if call.is_done:  # it became overdue while its answer was being sent in chunks
            return
        try:
            self._reply(call.reply_subject, encode_success(call.event.invocation.id, response, size_bytes))
        except errors.MessageTooLargeError as error:  # the server's limit is lower than the lattice's chunk size
            self.fail(call, _unsent(call, error))
            return
        call.is_done = True
        self._end(call, size_bytes, None)

    def _end(self, call: InvocationCall, response_bytes: int, error: BaseException | None) -> None:
        """Forget a call that has been replied to, and count, trace and log it."""
        if call.shared is not None:
            del self._in_flight[call]
            self._in_flight_bytes -= call.size_bytes
            call.shared.release()
            call.shared = None
            if self._is_stopping and not self._in_flight:
                self._drained.set()
        seconds = time.monotonic() - call.began
        invocation = call.event.invocation
        error_name = "" if error is None else type(error).__name__
        self.counts.count(call.event.link, invocation.operation, seconds, error_name)
        if self._telemetry.is_on:
            self._telemetry.invocation(invocation, call.header, seconds, error)
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
                _log.error("call_overdue", extra={"operation": call.event.invocation.operation})
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
            call.fail(cut_off(call))


def _unsent(call: InvocationCall, error: errors.MessageTooLargeError) -> errors.ProviderError:
    """Return the error of a call that was carried out and whose answer is too large to send."""
    too_large = errors.ResponseTooLargeError(error.size, error.maximum)
    return errors.OutcomeUnknownError(str(too_large)) if call.is_change else too_large


def cut_off(call: InvocationCall) -> errors.ProviderError:
    """Return the error of a call that was still in flight when the provider stopped."""
    return errors.OutcomeUnknownError("the provider is shutting down") if call.is_change else errors.ShuttingDownError()


def _overdue(call: InvocationCall) -> errors.ProviderError:
    if call.is_change:
        return errors.OutcomeUnknownError("the provider took too long")
    return errors.StoreTimeoutError(int((time.monotonic() - call.began) * 1000), "the provider is too busy")


def _log_call(call: InvocationCall, seconds: float, response_bytes: int, error: BaseException | None) -> None:
    actor_id, _, link_name = call.event.link
    fields = {
        "operation": call.event.invocation.operation,
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
