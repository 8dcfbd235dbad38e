"""The provider's subscriptions under a host of wasmCloud 1.x, and its answers. The module knows subjects and decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.lattice import SHUTDOWN_ACKNOWLEDGEMENT
from contracts.long_values import LongBytes
from contracts.secret import Secret
from contracts.wasmcloud1 import Wasmcloud1
from provider import errors
from provider.lattice.protocol import LinkEvent, LinkIgnored, ShutdownRequested
from provider.lattice.wasmcloud1.exchanges import (
    CallEvent,
    CallReceived,
    CallRefused,
    Exchange,
    ExchangeLimits,
    Exchanges,
    Outgoing,
)
from provider.lattice.wasmcloud1.paced_answers import PacedAnswers
from provider.lattice.wasmcloud1.protocol import Wasmcloud1Protocol
from provider.nats.connection import Connection
from provider.nats.requests import new_inbox
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.1
"""A flush is one round trip to the server. A host kills the process 0.3 s after it has asked it to stop."""

_SENT_SECONDS = 30.0
"""Time after which a large answer counts as sent: its caller is gone, or the connection."""

_PARAMETERS = ".params"

_RESEND_SECONDS = 1.0
"""Time after a reconnect for callers, whose connection was lost too, to listen again."""

_MOST_UNSENT = 4096
_MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""Messages, and their size, that wait for the connection: as many as calls may be in flight, with a few KiB for each."""


class Wasmcloud1Service(Protocol):
    """The receiver of events. Its methods neither block nor raise."""

    def on_call(self, event: CallReceived) -> None:
        """Serve a call, and answer it now or later; see `Wasmcloud1Subscriptions.answer`."""
        ...

    def on_refused_call(self, event: CallRefused) -> None:
        """Count and log a call that is not carried out, and answer it if it can be answered."""
        ...

    def on_link(self, event: LinkEvent) -> None:
        """Open, reopen or close a link."""
        ...

    def on_config(self, settings: Secret) -> None:
        """Apply other settings of the provider, in the form of `HostData.config_json`."""
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


class Wasmcloud1Subscriptions:
    """The subscriptions of one provider process.

    Args:
        connection: Connection to the lattice.
        protocol: State machine of links and configs.
        service: Receiver of the resulting events.
        limits: Limits on what callers may make this process remember.
        is_inbox: Tells whether a subject that a caller names may be answered; see `reply_subjects`.
        tasks: Owner of the task that sends large answers.
    """

    def __init__(
        self,
        connection: Connection,
        protocol: Wasmcloud1Protocol,
        service: Wasmcloud1Service,
        limits: ExchangeLimits,
        is_inbox: Callable[[bytes], bool],
        tasks: TaskOwner,
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._service = service
        self._inbox = new_inbox()
        self._exchanges = Exchanges(self._inbox.encode(), limits, is_inbox)
        self._is_inbox = is_inbox
        self._paced = PacedAnswers(connection, self._publish, tasks)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._call_listeners: list[int] = []
        self._unsent: deque[Outgoing] = deque()
        """Messages that wait for the connection. Callers wait for ever: an answer that is late still ends their call."""
        self._unsent_bytes = 0
        self._all_ended: asyncio.Event | None = None
        """Set when no call is left, once that is waited for."""

    def limit(self, limits: ExchangeLimits) -> None:
        """Take other limits, for the calls that come."""
        self._exchanges.limits = limits

    async def start(self, part: Wasmcloud1) -> None:
        """Subscribe to changes of links and configs, and then apply the links of the host data.

        A link that is put meanwhile would otherwise be lost: hosts repeat nothing.
        """
        subjects = self._protocol.subjects
        self._connection.on_reconnect(self._on_reconnect)
        for subject, handler in (
            (subjects.put_link, self._on_put_link),
            (subjects.delete_link, self._on_delete_link),
            (subjects.update_config, self._on_config),
            (subjects.health, self._on_health),
            (subjects.shutdown, self._on_shutdown),
            (f"{self._inbox}.*{_PARAMETERS}", self._on_parameters),
        ):
            await self._connection.listen(subject, handler)
        for reason in part.unreadable_links:
            self._service.on_link(LinkIgnored(reason))
        for link in part.links:
            self._service.on_link(self._protocol.put_link(link))
        await self._connection.flush(_FLUSH_SECONDS)

    async def serve_calls(self) -> None:
        """Subscribe to calls. Other instances may serve them, so that this one should know its links before."""
        subjects = self._protocol.subjects
        for type_ in wrpc.CALLS:
            subject = wrpc.invocation_subject(subjects.lattice, subjects.provider_id, type_)
            handler = functools.partial(self._on_call, type_)
            self._call_listeners.append(await self._connection.listen(subject, handler, subjects.queue))
        await self._connection.flush(_FLUSH_SECONDS)

    async def stop_calls(self) -> None:
        """Unsubscribe from calls. The server then sends them to another instance, or refuses them.

        Calls already sent to this process are still received, since no other instance would answer them.
        """
        listeners, self._call_listeners = self._call_listeners, []
        await asyncio.gather(*(self._connection.stop_listening(listener, _FLUSH_SECONDS) for listener in listeners))

    async def end_calls(self, patience_seconds: float) -> None:
        """Wait until callers have confirmed their answers, for as long as patience lasts, and end every call that is left."""
        self._all_ended = asyncio.Event()
        if self._exchanges.unanswered:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_seconds):
                    await self._all_ended.wait()
        self._exchanges.close(self._loop.time())
        self._flush()
        self._paced.send_now()
        if self._timer is not None:
            self._timer.cancel()

    def answer(self, exchange: Exchange, result: bytes | LongBytes) -> None:
        """Answer a call with an encoded result. Without a connection the answer waits for it."""
        self._exchanges.max_payload_bytes = self._connection.max_payload_bytes
        self._exchanges.answer(exchange, result, self._loop.time())
        self._flush()

    async def until_sent(self, exchange: Exchange) -> None:
        """Wait until a large answer, and those before it, are sent; its caller may have to show first that it listens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SENT_SECONDS):
                if not exchange.is_done:
                    is_done = asyncio.Event()
                    exchange.on_done = is_done.set
                    await is_done.wait()
                await asyncio.sleep(0)  # its messages are taken over after that
                await self._paced.sent()

    async def acknowledge_shutdown(self, subject: bytes) -> None:
        """Send the last message. The host kills the process as soon as it receives it."""
        self._reply(subject, SHUTDOWN_ACKNOWLEDGEMENT)
        await self._connection.flush(_FLUSH_SECONDS)

    # --- calls

    def _on_call(self, type_: type[wrpc.WrpcCall], subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._serve(self._exchanges.receive_call(type_, reply, header, payload, self._loop.time()))

    def _on_parameters(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        token = subject[len(self._inbox) + 1 : -len(_PARAMETERS)]
        self._serve(self._exchanges.receive_parameters(token, payload, self._loop.time()))

    def _serve(self, event: CallEvent) -> None:
        self._flush()  # the handshake does not wait for the store
        if isinstance(event, CallReceived):
            self._service.on_call(event)
        elif event is not None:
            self._service.on_refused_call(event)

    def _flush(self) -> None:
        """Publish the messages that wait, and see to it that those which are due later are sent."""
        outgoing = self._exchanges.outgoing
        if outgoing:
            self._exchanges.outgoing = []
            if self._exchanges.is_large:
                self._exchanges.is_large = False
                self._paced.send(outgoing)
            else:
                self._publish(outgoing)
        if self._all_ended is not None and not self._exchanges.unanswered:
            self._all_ended.set()
        due = self._exchanges.next_due
        # A timer may stand for parameters that are given seconds; an answer is repeated long before.
        if due is not None and due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_due = self._loop.call_at(due, self._on_time), due

    def _publish(self, outgoing: list[Outgoing]) -> None:
        for message in outgoing:
            try:
                if message.reply:
                    self._connection.publish_request(message.subject, message.reply, b"")
                else:
                    self._connection.publish(message.subject, bytes(message.payload))
            except errors.NotConnectedError:
                self._keep_unsent(message)
            except errors.MessageTooLargeError as error:
                _log.warning("reply_lost", extra={"reason": str(error)})

    def _keep_unsent(self, message: Outgoing) -> None:
        # A part of a long answer is a view, which would hold all of it.
        self._unsent.append(message._replace(payload=bytes(message.payload)))
        self._unsent_bytes += len(message.payload)
        while len(self._unsent) > _MOST_UNSENT or self._unsent_bytes > _MOST_UNSENT_BYTES:
            self._unsent_bytes -= len(self._unsent.popleft().payload)
            _log.warning("reply_lost", extra={"reason": "not connected to the lattice"})

    def _on_reconnect(self) -> None:
        if self._unsent:
            self._loop.call_later(_RESEND_SECONDS, self._send_unsent)

    def _send_unsent(self) -> None:
        """Send the messages that could not be sent. Those that still cannot be sent wait for the next reconnect."""
        unsent, self._unsent, self._unsent_bytes = list(self._unsent), deque(), 0
        self._publish(unsent)

    def _on_time(self) -> None:
        self._timer, self._timer_due = None, math.inf
        for refused in self._exchanges.tick(self._loop.time()):
            self._service.on_refused_call(refused)
        self._flush()

    # --- links, config, health, shutdown

    def _on_put_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._service.on_link(self._protocol.receive_put_link(payload))

    def _on_delete_link(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._service.on_link(self._protocol.receive_delete_link(payload))

    def _on_config(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        try:
            settings = self._protocol.receive_config(payload)
        except MalformedError as error:
            _log.warning("config_ignored", extra={"reason": str(error)})
            return
        if settings is not None:
            self._service.on_config(settings)

    def _on_health(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._reply(reply, self._protocol.health(self._service.unhealthy(), self._service.notice()))

    def _on_shutdown(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        is_ours = isinstance(self._protocol.receive_shutdown(payload), ShutdownRequested)
        if is_ours and self._is_inbox(reply):
            self._service.on_shutdown(reply)
        elif is_ours:
            _log.warning("shutdown_ignored", extra={"reason": "it has no inbox for the acknowledgement"})
        else:
            _log.info("shutdown_ignored", extra={"reason": "request of another host"})

    def _reply(self, subject: bytes, payload: bytes) -> None:
        try:
            self._connection.answer(subject, payload)
        except errors.NotConnectedError:
            _log.warning("reply_lost", extra={"reason": "not connected to the lattice"})
