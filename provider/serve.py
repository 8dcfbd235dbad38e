"""The running provider: joins the lattice's invocations with the stores of their links, and stops in order."""

from __future__ import annotations

import asyncio
import functools
import logging

from contracts import operations
from contracts.codec import MalformedError
from contracts.host import HostData
from contracts.keyvalue import Request
from contracts.lattice import RPC_QUEUE, encode_failure
from contracts.nkeys import is_usable
from provider import errors
from provider.config import ProviderConfig, helper_processes
from provider.instance import Instance
from provider.keyvalue.store import Store, complete
from provider.lattice.chunks import ChunkStore
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.link_records import LinkRecords
from provider.lattice.protocol import (
    InvocationAccepted,
    InvocationEvent,
    InvocationRefused,
    LatticeProtocol,
    Received,
)
from provider.lattice.seen_ids import SeenIds
from provider.lattice.subscriptions import LatticeSubscriptions
from provider.links import Links
from provider.nats.connection import Connection
from provider.serving.invocations import SHOWN_ID_CHARACTERS, InvocationCall, InvocationReplies
from provider.serving.running import RunningProvider
from provider.streaks import FailureStreak
from provider.tasks import TaskOwner, in_turns
from provider.telemetry.export import Telemetry

_log = logging.getLogger(__name__)

_CHUNK_SECONDS = 10.0
"""Additional time for an invocation whose payload travels through the object store: callers wait 13 s longer for it.

Source: wasmbus-rpc rpc_client.rs, CHUNK_RPC_EXTRA_TIME.
"""


class Provider(RunningProvider):
    """The running provider under a wasmbus host: it serves signed invocations of actors."""

    operations = operations.REQUESTS

    def __init__(
        self,
        config: ProviderConfig,
        host_data: HostData,
        connection: Connection,
        links: Links,
        tasks: TaskOwner,
        telemetry: Telemetry,
    ) -> None:
        super().__init__(config, host_data, connection, links, tasks, telemetry)
        limits = config.limits
        window = limits.replay_window_seconds
        self._seen_ids = SeenIds(window, limits.replay_ids) if window else None
        self._protocol = LatticeProtocol(host_data, _verifier(host_data), self._seen_ids)
        self._lattice = LatticeSubscriptions(connection, self._protocol, self, helper_processes(limits))
        self._chunks = ChunkStore(connection, host_data.lattice_rpc_prefix, host_data.js_domain or "")
        self._replies = InvocationReplies(self._chunks, self._lattice.reply, tasks)
        self._untimely = FailureStreak("calls", self._loop.time)
        """The calls refused for their time: all of them are if the clock of this machine is far off."""

    async def _start(self) -> None:
        await self._lattice.start(self._host_data)
        domain = self._host_data.js_domain or ""
        records = LinkRecords(self._connection, self._protocol, self._lattice.settle, self.on_link, domain)
        self._tasks.start(records.follow(), "follow link records")

    def _instance(self) -> tuple[Instance, str, str]:
        signatures = self._lattice.signatures
        instance = Instance(self._host_data, self._calls, self._links, self._seen_ids, signatures, self.health)
        return instance, self._protocol.subjects.rpc, RPC_QUEUE

    async def _stop_calls(self) -> None:
        await self._lattice.stop_invocations()

    async def _acknowledge_shutdown(self, reply: bytes) -> None:
        await self._lattice.acknowledge_shutdown(reply)

    # --- events of the lattice

    def on_invocation(self, event: InvocationEvent, received: Received) -> None:
        if isinstance(event, InvocationRefused):
            if event.is_untimely:
                self._untimely.failed(event.error)
            self._counts.refuse(type(event.error).__name__)
            _log_refusal(event)
            self._lattice.reply(
                received.reply, encode_failure(event.invocation_id[:SHOWN_ID_CHARACTERS], str(event.error))
            )
            return
        if self._untimely.count:
            self._untimely.succeeded()
        invocation = event.invocation
        is_chunked = invocation.is_chunked
        call = self._call(event, received, is_chunked=is_chunked)
        store = (self._refusal(call) if is_chunked else self._calls.refusal(call)) or self._links.store(event.link)
        if isinstance(store, errors.ProviderError):
            call.fail(store)
            if is_chunked:
                self._tasks.start(self._discard(call), "remove the payload of a refused invocation")
        elif is_chunked:
            self._calls.keep(call, store)
            submit = functools.partial(self._submit, call, store)
            self._tasks.start(complete(call, self._fetch(call), submit), "fetch a payload")
        else:
            self._decode(call, store, invocation.msg)
            if not call.is_done:
                self._calls.keep(call, store)

    def _call(self, event: InvocationAccepted, received: Received, *, is_chunked: bool) -> InvocationCall:
        size_bytes, seconds = received.size_bytes, self._budget_seconds
        if is_chunked:
            stated_bytes = event.invocation.content_length
            assert isinstance(stated_bytes, int)
            size_bytes, seconds = max(size_bytes, stated_bytes), seconds + _CHUNK_SECONDS
        return InvocationCall(
            calls=self._calls,
            link=event.link,
            operation=event.invocation.operation,
            header=received.header,
            size_bytes=size_bytes,
            began=received.arrived,
            deadline=received.arrived + seconds,
            event=event,
            reply_subject=received.reply,
            replies=self._replies,
        )

    def _refusal(self, call: InvocationCall) -> errors.InvocationError | None:
        """Return the reason for not accepting an invocation in chunks, or `None` if it is accepted."""
        maximum = self._calls.limits.max_invocation_bytes
        if call.size_bytes > maximum:
            return errors.InvocationTooLargeError(call.size_bytes, maximum)
        return self._calls.refusal(call)

    def unhealthy(self) -> str | None:
        return self._untimely.reason or super().unhealthy()

    def notice(self) -> str | None:
        notices = (super().notice(), self._lattice.signatures.notice)
        return "; ".join(text for text in notices if text) or None

    # --- one invocation

    def _decode(self, call: InvocationCall, store: Store, msg: bytes) -> None:
        """Decode the operation and hand it to the store, which answers the call now or later."""
        try:
            request = operations.decode_request(call.operation, msg)
            self._calls.check_keys(request)
        except (errors.ProviderError, MalformedError, operations.UnknownOperationError) as error:
            call.fail(error)
        else:
            self._submit(call, store, request)

    def _submit(self, call: InvocationCall, store: Store, request: Request) -> None:
        call.request = request
        store.submit(request, call)

    async def _fetch(self, call: InvocationCall) -> Request:
        """Fetch, check and decode the payload of a chunked invocation, as soon as there is room for it.

        The hash of 64 MiB takes a fifth of a second. A thread computes it, so that other calls are answered meanwhile.
        """
        invocation = call.event.invocation
        assert isinstance(invocation.content_length, int)
        try:
            await self._calls.take_room(call)
        except errors.NoRoomError:
            self._tasks.start(self._discard(call), "remove a payload that had no room")
            raise
        payload = await self._chunks.fetch(invocation.id, invocation.content_length, call.deadline)
        await asyncio.to_thread(self._protocol.check_payload, call.event, payload)
        request = await in_turns(operations.decoding_request(call.operation, payload))
        self._calls.check_keys(request)
        return request

    async def _discard(self, call: InvocationCall) -> None:
        """Remove the payload of an invocation that was verified and refused: no other instance will."""
        try:
            deadline = self._loop.time() + self._budget_seconds
            await self._chunks.remove(call.event.invocation.id, deadline)
        except (errors.ChunkError, TimeoutError) as error:
            _log.warning("payload_not_removed", extra={"reason": str(error)})


def _verifier(host_data: HostData) -> ClaimsVerifier:
    """Return a verifier that accepts the cluster issuers that are public keys.

    Raises:
        errors.StartupError: There is no public key among them.
    """
    usable = [issuer for issuer in host_data.cluster_issuers if is_usable(issuer)]
    if not usable:
        raise errors.StartupError("host data: field cluster_issuers: none of them is a public nkey")
    ignored = len(host_data.cluster_issuers) - len(usable)
    if ignored:
        _log.warning("cluster_issuers_ignored", extra={"count": ignored, "reason": "not a public nkey"})
    return ClaimsVerifier(usable)


def _log_refusal(event: InvocationRefused) -> None:
    name = "invocation_denied" if isinstance(event.error, errors.InvocationDeniedError) else "invocation_refused"
    _log.warning(name, extra={"operation": event.operation[:100], "reason": str(event.error)})
