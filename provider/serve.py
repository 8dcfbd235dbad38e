"""Joins the two halves: one verified invocation -> its link's store -> one reply. Limits and the order of shutdown."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import Any

from msgspec import Struct

from contracts import extensions as wasi
from contracts import keyvalue as kv
from contracts import operations
from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily
from contracts.lattice import CHUNK_THRESHOLD_BYTES, encode_failure, encode_success
from contracts.nkeys import is_usable
from provider import errors
from provider.config import ProviderConfig
from provider.keyvalue.conditional import CONDITIONS
from provider.keyvalue.store import LinkStore
from provider.keyvalue.values import CHANGES, NOT_AT_ONCE
from provider.lattice.chunks import ChunkStore
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.link_records import LinkRecords
from provider.lattice.protocol import InvocationAccepted, InvocationEvent, InvocationRefused, LatticeProtocol, LinkEvent
from provider.lattice.seen_ids import ReplayMemory
from provider.lattice.statistics import ServiceStatistics
from provider.lattice.subscriptions import LatticeConnection
from provider.links import Links
from provider.nats.connection import Connection
from provider.tasks import TaskOwner, cancel
from provider.telemetry import Telemetry

_log = logging.getLogger(__name__)

_STORE_SHARE_OF_TIMEOUT = 0.8
"""Of the caller's time-out, what a store may use; the rest is for the way there and back."""

_OVERDUE_GRACE_SECONDS = 0.15
_TICK_SECONDS = 0.05
_CHANGING = frozenset({*CHANGES, *CONDITIONS, wasi.SetMany, wasi.DeleteMany})
_SHOWN_ID = 256
"""Of an invocation's id, how many characters an error's answer repeats; a host's has 36."""

_EXPECTED = (errors.ProviderError, MalformedError, operations.UnknownOperationError)
"""What a call may be answered with; anything else is a defect."""

_DRAIN_SECONDS = {HostFamily.OTP: 1.5, HostFamily.TEST_HARNESS: 1.5, HostFamily.RUST: 0.2}
"""For calls in flight at shutdown: an OTP host waits 2000 ms for the acknowledgement, a Rust host 300 ms."""


class _Call(Struct, eq=False):
    """An invocation being served. `size` is in bytes, times are in seconds of two clocks."""

    event: InvocationAccepted
    reply: bytes
    header: bytes
    size: int
    began: float
    """By `time.perf_counter`."""
    deadline: float
    """By the event loop's clock."""
    request: kv.Request | None = None
    store: LinkStore | None = None
    """Held until the call is done, whatever becomes of its link; `None`: it is answered at once, or has none."""
    is_answered: bool = False


class Provider:
    """The running provider; it is what stands behind the lattice's subscriptions."""

    def __init__(
        self,
        config: ProviderConfig,
        host_data: HostData,
        connection: Connection,
        links: Links,
        tasks: TaskOwner,
        telemetry: Telemetry,
    ) -> None:
        self._config = config
        self._host_data = host_data
        self._connection = connection
        self._links = links
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._telemetry = telemetry
        self._budget_seconds = host_data.default_rpc_timeout_ms / 1000 * _STORE_SHARE_OF_TIMEOUT
        limits = config.limits
        replay = ReplayMemory(limits.replay_window_seconds, limits.replay_ids) if limits.replay_window_seconds else None
        self._protocol = LatticeProtocol(host_data, _verifier(host_data), replay)
        self._lattice = LatticeConnection(connection, self._protocol, self)
        self._chunks = ChunkStore(connection, host_data.lattice_rpc_prefix, host_data.js_domain or "")
        self._calls: dict[_Call, asyncio.Task[None] | None] = {}
        self._bytes = 0
        self._is_stopping = False
        self._drained = asyncio.Event()
        self._stopped = asyncio.Event()
        self._shutdown_reply = b""
        self._statistics = ServiceStatistics(
            name=f"keyvalue-nats-{host_data.provider_key}",
            instance_id=host_data.instance_id or host_data.host_id,
            version=config.identity.version,
            description=f"{config.identity.contract_id}, link {host_data.link_name}",
            subject=self._protocol.subjects.rpc,
            queue="rpc",
        )
        self._log_invocations = _log.isEnabledFor(logging.DEBUG)

    async def run(self) -> None:
        """Serve until the host, a signal or the host's death ends it."""
        await self._lattice.start(self._host_data)
        await self._statistics.serve(self._connection)
        records = LinkRecords(self._connection, self._protocol, self.on_link, self._host_data.js_domain or "")
        self._tasks.start(records.follow(), "follow link records")
        self._tasks.start(self._answer_overdue(), "answer overdue calls")
        _log.info("ready", extra={"subject": self._protocol.subjects.rpc, "links": len(self._protocol.links)})
        await self._stopped.wait()
        await self._finish()

    def stop(self, reason: str) -> None:
        """Begin to stop. May be called more than once."""
        if not self._stopped.is_set():
            _log.info("stopping", extra={"reason": reason})
            self._stopped.set()

    async def _finish(self) -> None:
        """Finish what is in flight within the host's patience, close the stores, then acknowledge."""
        await self._lattice.stop_invocations()
        self._is_stopping = True
        if self._calls:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS[self._host_data.family]):
                    await self._drained.wait()
            except TimeoutError:
                _log.warning("calls_cut_off", extra={"calls": len(self._calls)})
        for call in list(self._calls):
            self._answer_error(call, _cut_off(call))
        await cancel(*(task for task in self._calls.values() if task is not None))
        await self._tasks.close()
        closing = asyncio.ensure_future(self._links.close())
        await asyncio.wait({closing}, timeout=_DRAIN_SECONDS[self._host_data.family])
        await self._lattice.acknowledge_shutdown(self._shutdown_reply)
        _log.info("stopped")

    # --- what the lattice asks

    def on_invocation(self, event: InvocationEvent, reply: bytes, header: bytes, size: int) -> None:
        if isinstance(event, InvocationRefused):
            _log_refusal(event)
            self._lattice.reply(reply, encode_failure(event.invocation_id[:_SHOWN_ID], str(event.error)))
            return
        invocation = event.invocation
        if isinstance(invocation.content_length, int):
            size = max(size, invocation.content_length)
        deadline = self._loop.time() + self._budget_seconds
        call = _Call(event, reply, header, size, time.perf_counter(), deadline)
        is_chunked = invocation.is_chunked
        try:
            refusal = self._refusal(size, is_chunked=is_chunked)
            if refusal is not None:
                raise refusal
            store = self._links.store(event.link)
        except (errors.InvocationError, errors.LinkUnavailableError) as error:
            self._answer_error(call, error)
            self._note(call, 0, error)
            if is_chunked:
                self._tasks.start(self._discard(call), "remove the payload of a refused invocation")
            return
        if not is_chunked and self._answer_at_once(call, store):
            return
        call.store = store.hold()
        self._bytes += size
        self._calls[call] = None
        if is_chunked or not self._begin(call, store):
            self._start(call)

    def _refusal(self, size: int, *, is_chunked: bool) -> errors.InvocationError | None:
        """Return why a call of this size in bytes is not taken on, or not now; `None` when it is."""
        limits = self._config.limits
        if is_chunked and size > limits.max_invocation_bytes:
            return errors.InvocationTooLargeError(size, limits.max_invocation_bytes)
        if self._is_stopping:
            return errors.ShuttingDownError()
        if len(self._calls) >= limits.max_in_flight:
            return errors.OverloadedError("max_in_flight", limits.max_in_flight)
        if self._bytes + size > limits.max_in_flight_bytes:
            return errors.OverloadedError("max_in_flight_bytes", limits.max_in_flight_bytes)
        return None

    def on_link(self, event: LinkEvent) -> None:
        self._links.apply(event)

    def unhealthy(self) -> str | None:
        return self._links.unhealthy()

    def notice(self) -> str | None:
        return self._links.notice()

    def on_shutdown(self, reply: bytes) -> None:
        self._shutdown_reply = reply
        self.stop("the host asked for it")

    # --- one invocation

    def _answer_at_once(self, call: _Call, store: LinkStore) -> bool:
        """Serve what the store can do without waiting for anything.

        Returns:
            Whether it is done; if not, or when there is trouble on the way, a task begins anew and tells why.
        """
        invocation = call.event.invocation
        try:
            call.request = operations.decode_request(invocation.operation, invocation.msg)
            answer = store.answer_at_once(call.request)
        except _EXPECTED:
            return False
        if answer is NOT_AT_ONCE:
            return False
        response = operations.encode_response(answer)
        if len(response) > CHUNK_THRESHOLD_BYTES:
            return False
        self._answer_success(call, response, len(response))
        self._note(call, len(response), None)
        return True

    def _begin(self, call: _Call, store: LinkStore) -> bool:
        """Serve what the store can do with one request, without a task, which would cost more than all the rest.

        Returns:
            Whether it has begun; if not, or when there is trouble on the way, a task begins anew and tells why.
        """
        try:
            return call.request is not None and store.begin(
                call.request, call.deadline, functools.partial(self._end, call)
            )
        except _EXPECTED:
            return False

    def _end(self, call: _Call, answer: Any, has_answer: bool) -> None:
        response = operations.encode_response(answer) if has_answer else b""
        if not has_answer or len(response) > CHUNK_THRESHOLD_BYTES:
            self._start(call)
            return
        self._answer_success(call, response, len(response))
        self._done(call, len(response), None)

    def _start(self, call: _Call) -> None:
        if call in self._calls:
            self._calls[call] = self._loop.create_task(self._serve(call))

    async def _serve(self, call: _Call) -> None:
        error: Exception | None = None
        response = b""
        invocation = call.event.invocation
        try:
            msg = await self._fetch(call) if invocation.is_chunked else invocation.msg
            call.request = operations.decode_request(invocation.operation, msg)
            self._check_keys(call.request)
            assert call.store is not None
            response = operations.encode_response(await call.store.perform(call.request, call.deadline))
            await self._answer(call, response)
        except _EXPECTED as refusal:
            error = errors.bare(refusal)
            self._answer_error(call, refusal)
        except asyncio.CancelledError:
            error = _cut_off(call)
            self._answer_error(call, error)
            raise
        except Exception as defect:  # noqa: BLE001  (the one place; see conventions)
            error = defect
            _log.exception("internal_error", extra={"operation": invocation.operation})
            self._answer_error(call, errors.InternalError(type(defect).__name__))
        finally:
            self._done(call, len(response), error)

    def _check_keys(self, request: kv.Request) -> None:
        maximum = self._config.limits.max_keys_per_call
        keys = request.keys if isinstance(request, kv.KeysRequest) else ()
        count = len(request.items) if isinstance(request, wasi.SetMany) else len(keys)
        if count > maximum:
            raise errors.TooManyKeysError(count, maximum)

    async def _fetch(self, call: _Call) -> bytes:
        """Fetch and check the payload of a chunked invocation; its store's time begins after that."""
        invocation = call.event.invocation
        assert isinstance(invocation.content_length, int)
        payload = await self._chunks.fetch(invocation.id, invocation.content_length, call.deadline)
        self._protocol.check_payload(call.event, payload)
        call.deadline = self._loop.time() + self._budget_seconds
        return payload

    async def _discard(self, call: _Call) -> None:
        """Remove the payload of an invocation that was verified and is not served: nobody else would."""
        try:
            await self._chunks.remove(call.event.invocation.id, call.deadline)
        except (errors.ChunkError, TimeoutError) as error:
            _log.warning("payload_not_removed", extra={"reason": str(error)})

    async def _answer(self, call: _Call, response: bytes) -> None:
        size = len(response)
        if size > CHUNK_THRESHOLD_BYTES and not call.is_answered:
            try:
                await self._chunks.put(f"{call.event.invocation.id}-r", response, call.deadline)
            except errors.ChunkError as error:
                if not _is_change(call):
                    raise
                raise errors.OutcomeUnknownError(f"its answer could not be sent: {error}") from None
            response = b""
        self._answer_success(call, response, size)

    def _answer_success(self, call: _Call, response: bytes, size: int) -> None:
        if not call.is_answered:
            try:
                self._lattice.reply(call.reply, encode_success(call.event.invocation.id, response, size))
            except errors.MessageTooLargeError as error:
                self._answer_error(call, _unsent(call, error))
            call.is_answered = True

    def _answer_error(self, call: _Call, error: Exception) -> None:
        if not call.is_answered:
            call.is_answered = True
            invocation = call.event.invocation
            text = f"{invocation.operation[:100]}: {error}"
            self._lattice.reply(call.reply, encode_failure(invocation.id[:_SHOWN_ID], text))

    async def _answer_overdue(self) -> None:
        """Answer calls that nothing else has answered in time: no caller may be left without an answer."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            limit = self._loop.time() - _OVERDUE_GRACE_SECONDS
            for call, task in list(self._calls.items()):
                if call.deadline < limit and not call.is_answered:
                    _log.error("call_overdue", extra={"operation": call.event.invocation.operation})
                    error = _overdue(call)
                    self._answer_error(call, error)
                    if task is None:  # it was begun and never ended; a task ends by itself
                        self._done(call, 0, error)

    def _done(self, call: _Call, size: int, error: Exception | None) -> None:
        """Forget a call that has been answered."""
        if call not in self._calls:
            return
        del self._calls[call]
        self._bytes -= call.size
        if call.store is not None:
            call.store.let_go()
        if self._is_stopping and not self._calls:
            self._drained.set()
        self._note(call, size, error)

    def _note(self, call: _Call, size: int, error: Exception | None) -> None:
        """Count, trace and, when asked for, log a call that is done."""
        seconds = time.perf_counter() - call.began
        invocation = call.event.invocation
        self._statistics.count(invocation.operation, seconds, "" if error is None else type(error).__name__)
        if self._telemetry.is_on:
            self._telemetry.invocation(invocation, call.header, seconds, error)
        if self._log_invocations:
            self._log_call(call, seconds, size, error)

    def _log_call(self, call: _Call, seconds: float, size: int, error: Exception | None) -> None:
        fields = {
            "operation": call.event.invocation.operation,
            "key": _key_of(call.request),
            "microseconds": int(seconds * 1e6),
            "link_name": self._host_data.link_name,
            "actor_id": call.event.link[0],
        }
        if error is None:
            _log.debug("invocation_served", extra={**fields, "result_bytes": size})
        else:
            _log.debug("invocation_failed", extra={**fields, "error": str(error)})


def _is_change(call: _Call) -> bool:
    return type(call.request) in _CHANGING


def _unsent(call: _Call, error: errors.MessageTooLargeError) -> errors.ProviderError:
    """Say of a call that was served that its answer cannot be sent."""
    too_large = errors.ResponseTooLargeError(error.size, error.maximum)
    return errors.OutcomeUnknownError(str(too_large)) if _is_change(call) else too_large


def _cut_off(call: _Call) -> errors.ProviderError:
    """Say what becomes of a call that the provider's end leaves unfinished."""
    if _is_change(call):
        return errors.OutcomeUnknownError("the provider is shutting down")
    return errors.ShuttingDownError()


def _overdue(call: _Call) -> errors.ProviderError:
    if _is_change(call):
        return errors.OutcomeUnknownError("the provider took too long")
    return errors.StoreTimeoutError(int((time.perf_counter() - call.began) * 1000), "the provider is too busy")


def _verifier(host_data: HostData) -> ClaimsVerifier:
    """Make a verifier of the issuers that are keys.

    Raises:
        errors.StartupError: None of them is.
    """
    usable = [issuer for issuer in host_data.cluster_issuers if is_usable(issuer)]
    if not usable:
        raise errors.StartupError("host data: field cluster_issuers: none of them is a public nkey")
    ignored = len(host_data.cluster_issuers) - len(usable)
    if ignored:
        _log.warning("cluster_issuers_ignored", extra={"count": ignored, "reason": "not a public nkey"})
    return ClaimsVerifier(usable)


def _key_of(request: kv.Request | None) -> str:
    match request:
        case kv.KeysRequest():
            return ", ".join(request.keys)
        case wasi.SetMany():
            return ", ".join(item.key for item in request.items)
        case wasi.ListKeys():
            return request.prefix
    return getattr(request, "key", "")


def _log_refusal(event: InvocationRefused) -> None:
    name = "invocation_denied" if isinstance(event.error, errors.InvocationDeniedError) else "invocation_refused"
    _log.warning(name, extra={"operation": event.operation[:100], "reason": str(event.error)})
