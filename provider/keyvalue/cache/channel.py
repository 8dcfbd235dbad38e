"""The messages of one replica on NATS: it sends and receives typed structs, and refuses the bytes of strangers.

Two subjects make a cache. All replicas publish and listen on one. Below the other, each replica answers the requests of
those that lack something, under its own id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from provider import errors
from provider.keyvalue.cache.messages import (
    MAX_EVENTS,
    Deltas,
    Event,
    Message,
    TransferPage,
    TransferRequest,
    decode_message,
    encode_message,
    frame,
    is_from,
    pack,
)
from provider.keyvalue.cache.trust.refusals import ForeignMessageError, Refusal
from provider.keyvalue.link_config import CacheConfig
from provider.nats.connection import Connection

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
"""Time that the server may take to confirm the subscriptions."""

_UNLISTEN_SECONDS = 0.15
"""Time to receive what the server has already sent: half of what the strictest host allows for a shutdown."""

_MESSAGE_BYTES = 128 * 1024
"""Size of a message of several events before it is compressed, as receivers apply a message in one turn."""

_MESSAGE_RESERVE_BYTES = 32 * 1024
"""Part of a message that is kept free for what an event carries beside key and value: up to 1,000 removals."""

_UNPACKED = 2
"""Size of a message after decompression, as a multiple of `max_payload`: that of the largest event, and some room."""

_DEFAULT_MAX_PAYLOAD_BYTES = 1024 * 1024
"""Default of a NATS server, assumed until the server has told its own."""

_QUIET_SECONDS = 60.0
"""Time between log lines about refused messages of the same kind."""


class Channel:
    """The sending and receiving of one replica.

    Args:
        replica_id: Id of the replica.
        config: Settings of the cache.
        on_message: Function called with the sender and the message, for each message to all replicas.
        on_request: Function called with the sender and the request of a page; it returns the page.

    Attributes:
        config: Settings of the cache; may be replaced, subjects excepted.
    """

    def __init__(
        self,
        replica_id: str,
        config: CacheConfig,
        on_message: Callable[[str, Message], None],
        on_request: Callable[[str, TransferRequest], TransferPage],
    ) -> None:
        self.config = config
        self._id = replica_id
        self._on_message = on_message
        self._on_request = on_request
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._quiet_until: dict[Refusal, float] = {}

    async def open(self, connection: Connection, stack: AsyncExitStack) -> None:
        """Send and receive on a connection until the stack is closed."""
        listeners = [
            await connection.listen(self.config.state_subject, self._receive),
            await connection.listen(f"{self.config.replay_subject}.{self._id}", self._answer),
        ]
        for listener in listeners:
            stack.push_async_callback(connection.unlisten, listener, _UNLISTEN_SECONDS)
        self._connection = connection
        stack.callback(setattr, self, "_connection", None)
        await connection.flush(_FLUSH_SECONDS)

    # --- the connection

    @property
    def is_open(self) -> bool:
        """True if there is a connection, up or down."""
        return self._connection is not None

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_connected

    @property
    def max_payload_bytes(self) -> int:
        """Greatest size of a message."""
        known = self._connection.max_payload_bytes if self._connection is not None else 0
        return known or _DEFAULT_MAX_PAYLOAD_BYTES

    @property
    def event_bytes(self) -> int:
        """Greatest size of a key and a value together that fits into a message."""
        most = self.max_payload_bytes
        return max(most - _MESSAGE_RESERVE_BYTES, most // 2)

    # --- sending

    def publish(self, message: Message) -> None:
        """Send a message to all replicas, if there is a connection. What cannot be sent now will be pulled by them."""
        if self._connection is not None:
            self._send(encode_message(self._id, message))

    def publish_events(self, first: int, events: list[Event]) -> None:
        """Publish consecutive own events, in one message or, if they are too large together, in several."""
        if self._connection is None:
            return
        body = pack(Deltas(first, events))
        if (len(body) > _MESSAGE_BYTES or len(events) > MAX_EVENTS) and len(events) > 1:
            middle = len(events) // 2
            self.publish_events(first, events[:middle])
            self.publish_events(first + middle, events[middle:])
        else:
            self._send(frame(self._id, body))

    async def request_page(self, peer: str, request: TransferRequest, timeout_seconds: float) -> TransferPage:
        """Request a page from another replica.

        Raises:
            ForeignMessageError: The reply is not a page.
            errors.NatsError: There is no reply.
        """
        if self._connection is None:
            raise errors.NotConnectedError
        subject = f"{self.config.replay_subject}.{peer}".encode()
        data = encode_message(self._id, request)
        _, payload = await self._connection.request(subject, data, deadline=self._loop.time() + timeout_seconds)
        _, page = self._decode(payload)
        if not isinstance(page, TransferPage):
            raise ForeignMessageError("not a page")
        return page

    def _send(self, data: bytes, reply_subject: bytes = b"") -> None:
        if self._connection is None:
            return
        try:
            if reply_subject:
                self._connection.answer(reply_subject, data)
            else:
                self._connection.publish(self.config.state_subject.encode(), data)
        except errors.NotConnectedError:
            pass
        except errors.MessageTooLargeError as error:
            fields = {"subject": self.config.state_subject, "bytes": error.size}
            _log.error("cache_message_too_large", extra=fields)

    # --- receiving

    def _receive(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        if is_from(payload, self._id):
            return
        try:
            self._on_message(*self._decode(payload))
        except ForeignMessageError as error:
            self.refuse(error)

    def _answer(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        try:
            sender, request = self._decode(payload)
            if reply and isinstance(request, TransferRequest):
                self._send(encode_message(self._id, self._on_request(sender, request)), reply)
        except ForeignMessageError as error:
            self.refuse(error)

    def _decode(self, payload: bytes) -> tuple[str, Message]:
        return decode_message(payload, _UNPACKED * self.max_payload_bytes)

    def refuse(self, error: ForeignMessageError) -> None:
        """Log a message that cannot be used, but not each one."""
        now = self._loop.time()
        if self._quiet_until.get(error.refusal, 0.0) <= now:
            self._quiet_until[error.refusal] = now + _QUIET_SECONDS
            fields = {"subject": self.config.state_subject, "reason": str(error)}
            _log.warning("cache_message_refused", extra=fields | {"version": error.version})
