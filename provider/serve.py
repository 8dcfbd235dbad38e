"""The running provider: joins the lattice's invocations with the stores of their links, and stops in order."""

from __future__ import annotations

import asyncio
import functools
import logging

from contracts import operations
from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily
from contracts.lattice import encode_failure
from contracts.nkeys import is_usable
from contracts.statistics import SERVICE_PREFIX
from provider import errors
from provider.config import ProviderConfig, helper_processes
from provider.instance import Instance
from provider.keyvalue.store import Store, complete
from provider.lattice.call_counts import CallCounts
from provider.lattice.chunks import ChunkStore
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.link_records import LinkRecords
from provider.lattice.protocol import (
    InvocationAccepted,
    InvocationEvent,
    InvocationRefused,
    LatticeProtocol,
    LinkDeleted,
    LinkEvent,
    LinkPut,
    Received,
)
from provider.lattice.seen_ids import SeenIds
from provider.lattice.statistics import ServiceNames, ServiceStatistics
from provider.lattice.subscriptions import LatticeSubscriptions
from provider.links import Links
from provider.nats.connection import Connection
from provider.serving.calls import Calls
from provider.serving.invocations import SHOWN_ID_CHARACTERS, InvocationCall, InvocationReplies
from provider.streaks import FailureStreak
from provider.tasks import TaskOwner
from provider.telemetry.export import Telemetry

_log = logging.getLogger(__name__)

_STORE_SHARE_OF_TIMEOUT = 0.8
"""The share of the caller's time-out that a store may use; the rest is for the messages there and back."""

_DRAIN_SECONDS = {HostFamily.OTP: 1.5, HostFamily.TEST_HARNESS: 1.5, HostFamily.RUST: 0.2}
"""The time for calls in flight at shutdown: an OTP host waits 2000 ms for the acknowledgement, a Rust host 300 ms."""


class Provider:
    """The running provider; the lattice's subscriptions call its `on_...` methods."""

    def __init__(
        self,
        config: ProviderConfig,
        host_data: HostData,
        connection: Connection,
        links: Links,
        tasks: TaskOwner,
        telemetry: Telemetry,
    ) -> None:
        self._host_data = host_data
        self._connection = connection
        self._links = links
        self._tasks = tasks
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._budget_seconds = host_data.default_rpc_timeout_ms / 1000 * _STORE_SHARE_OF_TIMEOUT
        limits = config.limits
        seen_ids = SeenIds(limits.replay_window_seconds, limits.replay_ids) if limits.replay_window_seconds else None
        self._protocol = LatticeProtocol(host_data, _verifier(host_data), seen_ids)
        self._lattice = LatticeSubscriptions(connection, self._protocol, self, helper_processes(limits))
        self._chunks = ChunkStore(connection, host_data.lattice_rpc_prefix, host_data.js_domain or "")
        self._counts = CallCounts()
        self._calls = Calls(limits, self._counts, telemetry)
        self._replies = InvocationReplies(self._chunks, self._lattice.reply, tasks)
        self._instance = Instance(host_data, self._calls, links, seen_ids, self._lattice.signatures, self.health)
        names = ServiceNames(
            name=f"{SERVICE_PREFIX}{host_data.provider_key}",
            instance_id=host_data.instance_id or host_data.host_id,
            version=config.identity.version,
            description=f"{config.identity.contract_id}, link {host_data.link_name}",
            subject=self._protocol.subjects.rpc,
            queue="rpc",
        )
        self._statistics = ServiceStatistics(self._counts, self._instance.statistics, names)
        self._untimely = FailureStreak("calls", self._loop.time)
        """The calls refused for their time: all of them are if the clock of this machine is far off."""
        self._stopped = asyncio.Event()
        self._shutdown_reply = b""

    async def run(self) -> None:
        """Serve until the host, a signal or the host's death ends it."""
        await self._lattice.start(self._host_data)
        await self._statistics.serve(self._connection)
        domain = self._host_data.js_domain or ""
        records = LinkRecords(self._connection, self._protocol, self._lattice.settle, self.on_link, domain)
        self._tasks.start(records.follow(), "follow link records")
        self._tasks.start(self._calls.answer_overdue(), "answer overdue calls")
        self._tasks.start(self._telemetry.follow(self._instance.statistics), "follow statistics")
        _log.info("ready", extra={"subject": self._protocol.subjects.rpc, "links": len(self._protocol.links)})
        await self._stopped.wait()
        await self._finish()

    def stop(self, reason: str) -> None:
        """Begin to stop. May be called more than once."""
        if not self._stopped.is_set():
            _log.info("stopping", extra={"reason": reason})
            self._stopped.set()

    async def _finish(self) -> None:
        """Finish the calls in flight within the host's patience, close the stores, then acknowledge."""
        patience_seconds = _DRAIN_SECONDS[self._host_data.family]
        await self._lattice.stop_invocations()
        await self._calls.drain(patience_seconds)
        self._telemetry.snapshot()
        await self._tasks.close()
        closing = asyncio.ensure_future(self._links.close())
        await asyncio.wait({closing}, timeout=patience_seconds)
        await self._lattice.acknowledge_shutdown(self._shutdown_reply)
        _log.info("stopped")

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
        call = self._call(event, received)
        store = self._refusal(call) or self._links.store(event.link)
        if isinstance(store, errors.ProviderError):
            call.fail(store)
            if invocation.is_chunked:
                self._tasks.start(self._discard(call), "remove the payload of a refused invocation")
        elif invocation.is_chunked:
            self._calls.keep(call, store)
            submit = functools.partial(self._submit, call, store)
            self._tasks.start(complete(call, self._fetch(call), submit), "fetch a payload")
        else:
            self._submit(call, store, invocation.msg)
            if not call.is_done:
                self._calls.keep(call, store)

    def _call(self, event: InvocationAccepted, received: Received) -> InvocationCall:
        size_bytes, stated_bytes = received.size_bytes, event.invocation.content_length
        return InvocationCall(
            calls=self._calls,
            link=event.link,
            operation=event.invocation.operation,
            header=received.header,
            size_bytes=max(size_bytes, stated_bytes) if isinstance(stated_bytes, int) else size_bytes,
            began=received.arrived,
            deadline=received.arrived + self._budget_seconds,
            event=event,
            reply_subject=received.reply,
            replies=self._replies,
        )

    def _refusal(self, call: InvocationCall) -> errors.InvocationError | None:
        """Return the reason for not accepting an invocation, or `None` if it is accepted."""
        maximum = self._calls.limits.max_invocation_bytes
        if call.event.invocation.is_chunked and call.size_bytes > maximum:
            return errors.InvocationTooLargeError(call.size_bytes, maximum)
        return self._calls.refusal(call)

    def on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkPut():
                self._counts.begin_link(event.key)
            case LinkDeleted():
                self._counts.end_link(event.key)
        self._links.apply(event)

    def unhealthy(self) -> str | None:
        return self._untimely.reason or self._links.unhealthy()

    def health(self) -> tuple[bool, str]:
        """Tell whether health is well, with the message of it."""
        unhealthy = self.unhealthy()
        return unhealthy is None, "; ".join(text for text in (unhealthy, self.notice()) if text)

    def notice(self) -> str | None:
        notices = (self._links.notice(), self._lattice.signatures.notice)
        return "; ".join(text for text in notices if text) or None

    def on_shutdown(self, reply: bytes) -> None:
        self._shutdown_reply = reply
        self.stop("the host asked for it")

    # --- one invocation

    def _submit(self, call: InvocationCall, store: Store, msg: bytes) -> None:
        """Decode the operation and hand it to the store, which answers the call now or later."""
        try:
            call.request = operations.decode_request(call.event.invocation.operation, msg)
            self._calls.check_keys(call.request)
        except (errors.ProviderError, MalformedError, operations.UnknownOperationError) as error:
            call.fail(error)
        else:
            store.submit(call.request, call)

    async def _fetch(self, call: InvocationCall) -> bytes:
        """Fetch and check the payload of a chunked invocation. The store's time begins after that."""
        invocation = call.event.invocation
        assert isinstance(invocation.content_length, int)
        payload = await self._chunks.fetch(invocation.id, invocation.content_length, call.deadline)
        self._protocol.check_payload(call.event, payload)
        call.deadline = self._loop.time() + self._budget_seconds
        return payload

    async def _discard(self, call: InvocationCall) -> None:
        """Remove the payload of an invocation that was verified and refused: no other instance will."""
        try:
            await self._chunks.remove(call.event.invocation.id, call.deadline)
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
