"""The provider's subscriptions in the lattice, and its replies. The module knows subjects and decides nothing."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from contracts.host import HostData
from contracts.lattice import RPC_QUEUE, SHUTDOWN_ACKNOWLEDGEMENT, encode_failure, encode_success
from provider import errors
from provider.lattice.protocol import (
    InvocationEvent,
    LatticeProtocol,
    LinkEvent,
    LinkIgnored,
    Received,
    ShutdownRequested,
)
from provider.lattice.signature_processes.pool import SignaturePool
from provider.nats.connection import Connection

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5
"""A flush is one round trip to the server. A server that is slower than this is treated as having received the data."""

_STOP_SECONDS = 0.1
"""A third of the time that a Rust host gives a provider to stop."""


class LatticeService(Protocol):
    """The receiver of the lattice's events. Its methods neither block nor raise."""

    def on_invocation(self, event: InvocationEvent, received: Received) -> None:
        """Serve an invocation, which arrived as `received`."""
        ...

    def on_link(self, event: LinkEvent) -> None:
        """Open, reopen or close a link."""
        ...

    def unhealthy(self) -> str | None:
        """Return the reason of bad health, or None if the health is good."""
        ...

    def notice(self) -> str | None:
        """Return a remark about good health, or None."""
        ...

    def on_shutdown(self, reply: bytes) -> None:
        """Stop, and when that is done, acknowledge to the reply subject unless it is b""."""
        ...


class LatticeSubscriptions:
    """The subscriptions of one provider process.

    Args:
        connection: Connection to the lattice.
        protocol: State machine that decodes and judges each message.
        service: Receiver of the resulting events.
        signature_processes: Number of helper processes for signature checks.
    """

    def __init__(
        self, connection: Connection, protocol: LatticeProtocol, service: LatticeService, signature_processes: int
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._service = service
        self._rpc_listener: int | None = None
        self._arrived: list[tuple[bytes, bytes, bytes]] = []
        self.signatures = SignaturePool(signature_processes, protocol, self._serve)

    async def start(self, host_data: HostData) -> None:
        """Subscribe to link changes, apply the links of the host data, and only then subscribe to invocations.

        A link that is put while the provider starts would otherwise be lost: hosts wait for no acknowledgement and
        repeat nothing.
        """
        subjects = self._protocol.subjects
        await self._connection.listen(subjects.put_link, self._on_put_link)
        await self._connection.listen(subjects.delete_link, self._on_delete_link)
        await self._connection.listen(subjects.health, self._on_health)
        await self._connection.listen(subjects.shutdown, self._on_shutdown)
        for reason in host_data.unreadable_links:
            self._service.on_link(LinkIgnored(reason))
        for definition in host_data.link_definitions:
            self._service.on_link(self._protocol.put_definition(definition))
        self._connection.on_delivered(self._serve_arrived)
        self._rpc_listener = await self._connection.listen(subjects.rpc, self._on_invocation, RPC_QUEUE)
        await self._connection.flush(_FLUSH_SECONDS)
        self.signatures.start()

    async def stop_invocations(self) -> None:
        """Unsubscribe from invocations. The server then sends them to another instance, or refuses the call.

        Invocations already sent to this process are still received, since no other instance would answer them.
        """
        if self._rpc_listener is not None:
            listener, self._rpc_listener = self._rpc_listener, None
            await self._connection.stop_listening(listener, _STOP_SECONDS)
        self.close()

    def close(self) -> None:
        """Serve the invocations that have arrived, and end the helper processes."""
        self.settle()
        self.signatures.close()

    def settle(self) -> None:
        """Serve the invocations that have arrived, before a link changes or the provider stops."""
        self._serve_arrived()
        self.signatures.settle()

    def reply(self, subject: bytes, payload: bytes) -> None:
        """Answer an invocation. Without a connection the answer is lost, and so is the caller's question.

        Raises:
            errors.MessageTooLargeError: The answer is over the server's limit; nothing was sent.
        """
        try:
            self._connection.answer(subject, payload)
        except errors.NotConnectedError:
            _log.warning("reply_lost", extra={"reason": "not connected to the lattice"})

    async def acknowledge_shutdown(self, subject: bytes) -> None:
        """Send the last message. The host kills the process as soon as it receives it."""
        self.reply(subject, SHUTDOWN_ACKNOWLEDGEMENT)
        await self._connection.flush(_FLUSH_SECONDS)

    def _on_invocation(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Collect the invocations that arrive together."""
        self._arrived.append((reply, header, payload))

    def _serve_arrived(self) -> None:
        """Serve the invocations that arrived together, after the last of them, or before a message that must not overtake them."""
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return
        if not self.signatures.has_helpers:
            self._connection.write_out()  # the answers of this turn do not wait for signature checks
        now, moment, open_ = time.time(), time.monotonic(), self._protocol.open
        self.signatures.take([open_(payload, reply, header, now, moment) for reply, header, payload in arrived])

    def _serve(self, received: list[Received]) -> None:
        """Serve invocations whose signatures have been checked."""
        events = [self._protocol.judge(item) for item in received]
        for event, item in zip(events, received, strict=True):
            try:
                self._service.on_invocation(event, item)
            except Exception as defect:  # noqa: BLE001  (the other invocations are still served)
                _log.exception("internal_error")
                self.reply(item.reply, encode_failure("", str(errors.InternalError(type(defect).__name__))))

    def _on_put_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self.settle()
        self._apply(self._protocol.receive_put_link(payload), reply)

    def _on_delete_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self.settle()
        self._apply(self._protocol.receive_delete_link(payload), reply)

    def _apply(self, event: LinkEvent, reply: bytes) -> None:
        """Apply a link message, and answer it in case it was sent as a request. Hosts publish it without one."""
        self._service.on_link(event)
        reason = event.reason if isinstance(event, LinkIgnored) else ""
        self.reply(reply, encode_failure("", reason) if reason else encode_success("", b"", 0))

    def _on_health(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self.reply(reply, self._protocol.health(self._service.unhealthy(), self._service.notice()))

    def _on_shutdown(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self.settle()
        is_ours = isinstance(self._protocol.receive_shutdown(payload), ShutdownRequested)
        if is_ours and reply:
            self._service.on_shutdown(reply)
        elif is_ours:
            _log.warning("shutdown_ignored", extra={"reason": "it has no reply subject for the acknowledgement"})
        else:
            _log.info("shutdown_ignored", extra={"reason": "request of another host"})
