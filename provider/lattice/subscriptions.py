"""The provider's subscriptions in the lattice and what it publishes there. Knows subjects; decides nothing."""

from __future__ import annotations

import asyncio
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
    ShutdownRequested,
)
from provider.nats.connection import Connection

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5
_STOP_SECONDS = 0.1


class LatticeService(Protocol):
    """What stands behind the subscriptions. None of it blocks or raises."""

    def on_invocation(self, event: InvocationEvent, reply: bytes, header: bytes, size: int) -> None:
        """Serve an invocation. `size` is that of the whole message in bytes."""
        ...

    def on_link(self, event: LinkEvent) -> None:
        """Open, open again or close a link."""
        ...

    def unhealthy(self) -> str | None:
        """Say what is wrong; `None`: nothing."""
        ...

    def notice(self) -> str | None:
        """Say what to know though nothing is wrong; `None`: nothing."""
        ...

    def on_shutdown(self, reply: bytes) -> None:
        """Stop; acknowledge to the reply subject, unless it is b"", when everything is done."""
        ...


class LatticeConnection:
    """One provider process in its lattice."""

    def __init__(self, connection: Connection, protocol: LatticeProtocol, service: LatticeService) -> None:
        self._connection = connection
        self._protocol = protocol
        self._service = service
        self._rpc_listener: int | None = None
        self._loop = asyncio.get_running_loop()
        self._arrived: list[tuple[bytes, bytes, bytes]] = []

    async def start(self, host_data: HostData) -> None:
        """Subscribe, make sure that the server knows, and only then apply the links of the host data.

        The other way round, a link put in between would be lost: nobody acknowledges or repeats one.
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
        self._connection.on_single_message(self._work_off)
        self._rpc_listener = await self._connection.listen(subjects.rpc, self._on_invocation, RPC_QUEUE)
        await self._connection.flush(_FLUSH_SECONDS)

    async def stop_invocations(self) -> None:
        """Take no more invocations: the server gives them to another instance, or tells the caller at once.

        Those that are on their way here are still taken, or nobody would ever answer them; also those that are late.
        """
        if self._rpc_listener is not None:
            listener, self._rpc_listener = self._rpc_listener, None
            await self._connection.stop_listening(listener, _STOP_SECONDS)

    def reply(self, subject: bytes, payload: bytes) -> None:
        """Answer an invocation; without a connection there is nobody to answer.

        Raises:
            errors.MessageTooLargeError: Nothing was sent.
        """
        try:
            self._connection.answer(subject, payload)
        except errors.NotConnectedError:
            _log.warning("reply_lost", extra={"reason": "not connected to the lattice"})

    async def acknowledge_shutdown(self, subject: bytes) -> None:
        """Send the last message. The host kills the process as soon as it arrives."""
        self.reply(subject, SHUTDOWN_ACKNOWLEDGEMENT)
        await self._connection.flush(_FLUSH_SECONDS)

    def _on_invocation(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Put an invocation to those that arrived in the same turn of the event loop."""
        if not self._arrived:
            self._loop.call_soon(self._work_off)
        self._arrived.append((reply, header, payload))

    def _work_off(self) -> None:
        """Serve the invocations that have arrived.

        At the turn's end, at once when one came alone, or before a message that may not overtake them.
        """
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return
        events = self._protocol.receive_invocations([payload for _, _, payload in arrived], time.time())
        for event, (reply, header, payload) in zip(events, arrived, strict=True):
            try:
                self._service.on_invocation(event, reply, header, len(payload))
            except Exception as defect:  # noqa: BLE001  (those that arrived with it are served all the same)
                _log.exception("internal_error")
                self.reply(reply, encode_failure("", str(errors.InternalError(type(defect).__name__))))

    def _on_put_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._work_off()
        self._apply(self._protocol.receive_put_link(payload), reply)

    def _on_delete_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._work_off()
        self._apply(self._protocol.receive_delete_link(payload), reply)

    def _apply(self, event: LinkEvent, reply: bytes) -> None:
        """Do what a link message says, and answer it if somebody sent it as a request; hosts do not."""
        self._service.on_link(event)
        reason = event.reason if isinstance(event, LinkIgnored) else ""
        self.reply(reply, encode_failure("", reason) if reason else encode_success("", b"", 0))

    def _on_health(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self.reply(reply, self._protocol.health(self._service.unhealthy(), self._service.notice()))

    def _on_shutdown(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._work_off()
        is_ours = isinstance(self._protocol.receive_shutdown(payload), ShutdownRequested)
        if is_ours and reply:
            self._service.on_shutdown(reply)
        elif is_ours:
            _log.warning("shutdown_ignored", extra={"reason": "nobody waits for its acknowledgement, as a host does"})
        else:
            _log.info("shutdown_ignored", extra={"reason": "request of another host"})
