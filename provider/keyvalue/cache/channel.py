"""The messages of one replica on NATS: it sends and receives typed structs, and refuses the bytes of strangers.

Two subjects make a cache. All replicas publish and listen on one. Below the other, each replica listens under its own id
for the requests of those that lack something, and for the answers to its own requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from provider import errors
from provider.keyvalue.cache.items.item import ItemValue, size_of
from provider.keyvalue.cache.messages import (
    MAX_EVENTS,
    UNSIGNED_VERSIONS,
    AddBytes,
    AddText,
    Deltas,
    Event,
    Heartbeat,
    Message,
    Piece,
    PieceRequest,
    TransferPage,
    TransferRequest,
    decode_message,
    encode_message,
    frame,
    pack,
    release_of,
    version_of,
)
from provider.keyvalue.cache.pieces.cutting import Cut, piece_bytes, text_bytes
from provider.keyvalue.cache.pieces.outgoing import OutgoingPieces
from provider.keyvalue.cache.trust import signed
from provider.keyvalue.cache.trust.authentication import Authentication
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal, Refusals
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.link_config import CacheConfig
from provider.keyvalue.link_values import ReplicationAuth
from provider.nats.connection import Connection

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
"""Time that the server may take to confirm the subscriptions."""

_UNLISTEN_SECONDS = 0.15
"""Time to receive what the server has already sent: half of what the strictest host allows for a shutdown."""

_MESSAGE_BYTES = 128 * 1024
"""Size of a message of several events before it is compressed, as receivers apply a message in one turn."""

_SEND_SECONDS = 0.001
"""Time for which messages of events are made in one turn of the event loop."""

_MESSAGE_RESERVE_BYTES = 32 * 1024
"""Part of a message that is kept free for what an event carries beside key and value: up to 1,000 removals."""

_UNPACKED = 2
"""Size of a message after decompression, as a multiple of `max_payload`: that of the largest event, and some room."""

_MAX_REQUESTS = 1000
"""Replicas whose requests wait for an answer: as many as are remembered. A request that finds no place is repeated."""

_DEFAULT_MAX_PAYLOAD_BYTES = 1024 * 1024
"""Default of a NATS server, assumed until the server has told its own."""

Request = TransferRequest | PieceRequest
Page = TransferPage | Piece

_UNPROVEN_SECONDS = 0.2
"""Time for a page to arrive although something else has answered first: anyone may say that a replica is not there."""


class Channel:
    """The sending and receiving of one replica.

    Args:
        replica_id: Id of the replica.
        config: Settings of the cache.
        authentication: Signing and checking of messages; None if `REPLICATION_AUTH` is off.
        on_message: Function called with the sender, the message and whether that is signed, for each message to all
            replicas.
        on_request: Function called with the sender and the request of a page, or of a piece of one; it returns that.
        on_refusal: Function called with the reason for each message that is refused.

    Attributes:
        config: Settings of the cache; may be replaced, subjects excepted.
        refusals: Messages that were refused.
    """

    def __init__(
        self,
        replica_id: str,
        config: CacheConfig,
        authentication: Authentication | None,
        on_message: Callable[[str, Message, bool], None],
        on_request: Callable[[str, Request], Page],
        on_refusal: Callable[[Refusal], None],
    ) -> None:
        self.config = config
        self.refusals = Refusals()
        self._id = replica_id
        self._authentication = authentication
        self._on_message = on_message
        self._on_request = on_request
        self._on_refusal = on_refusal
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._outgoing = OutgoingPieces(self.publish)
        self._batches: deque[tuple[int, list[Event]]] = deque()
        """Own events that are still to be published, with the counter of the first of each batch."""
        self._awaited: dict[int, tuple[str, asyncio.Future[Page], Callable[[int], bool]]] = {}
        """By the sequence of a request, the replica that is asked and the future of its page."""
        self._requests: dict[str, tuple[Request, int]] = {}
        """By replica, in turn, its last request that has not been answered, with its sequence."""
        self._pages_from = 0.0
        """Time from which on the next page may be made."""

    async def open(self, connection: Connection, stack: AsyncExitStack) -> None:
        """Send and receive on a connection until the stack is closed."""
        listeners = [
            await connection.listen(self.config.state_subject, self._receive),
            await connection.listen(self._subject_of(self._id), self._receive_own),
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

    @property
    def text_bytes(self) -> int:
        """Greatest size of a text that can be sent in pieces."""
        return text_bytes(self.max_payload_bytes)

    def _is_over(self, key: str, value: ItemValue) -> bool:
        """Tell whether a text and its key do not fit into a message."""
        return size_of(key) + size_of(value) > self.event_bytes

    @property
    def piece_bytes(self) -> int:
        """Size of a piece."""
        return piece_bytes(self.max_payload_bytes)

    def _subject_of(self, replica: str) -> str:
        """Return the subject that a replica alone listens on."""
        return f"{self.config.replay_subject}.{replica}"

    # --- sending

    @property
    def signs(self) -> bool:
        """True if messages are signed."""
        return self._signing is not None

    @property
    def _signing(self) -> Authentication | None:
        return None if self.config.auth is ReplicationAuth.OFF else self._authentication

    def publish(self, message: Message) -> None:
        """Send a message to all replicas, if there is a connection. What cannot be sent now will be pulled by them."""
        if self._connection is not None:
            subject = self.config.state_subject
            self._send(subject, self._encode(subject, message))

    def publish_events(self, first: int, events: list[Event]) -> None:
        """Publish consecutive own events: in one message or, if they are too large together, in several, as the turns allow.

        A text that does not fit into a message goes in pieces. Events that follow it do not wait for them.
        """
        if self._connection is None:
            return
        is_idle, begin, characters = not self._batches, 0, 0
        for index, event in enumerate(events):
            size = len(getattr(event.add, "value", ""))
            characters += size
            # In UTF-8 a character takes at most four bytes: all of these fit into one message.
            if 4 * characters <= self.event_bytes:
                continue
            is_piecewise = isinstance(event.add, AddText | AddBytes) and self._is_over(event.key, event.add.value)
            if is_piecewise:
                self._outgoing.add(Cut(first + index, Deltas(first + index, [event]), self.piece_bytes))
            self._batches.append((first + begin, events[begin:index]))
            begin, characters = (index + 1, 0) if is_piecewise else (index, size)
        self._batches.append((first + begin, events[begin:]))
        if is_idle:
            self._send_batches()

    def publish_all(self) -> None:
        """Publish the rest of the events at once."""
        while self._batches:
            self._send_batch()

    def _send_batches(self) -> None:
        """Send events for a moment, and go on in the next turn of the event loop: a large message takes milliseconds to sign."""
        until = time.perf_counter() + _SEND_SECONDS
        while self._batches:
            self._send_batch()
            if self._batches and time.perf_counter() > until:
                self._loop.call_soon(self._send_batches)
                return

    def _send_batch(self) -> None:
        """Send the next events, or take them apart if they are too large for one message."""
        first, events = self._batches.popleft()
        if not events:
            return
        deltas = Deltas(first, events)
        body = pack(deltas)
        if (len(body) > _MESSAGE_BYTES or len(events) > MAX_EVENTS) and len(events) > 1:
            middle = len(events) // 2
            self._batches.extendleft(((first + middle, events[middle:]), (first, events[:middle])))
        else:
            subject = self.config.state_subject
            self._send(subject, self._sealed(subject, deltas, body))

    async def request_page(
        self,
        peer: str,
        request: Request,
        timeout_seconds: float,
        has_room: Callable[[int], bool],
        *,
        is_signed: bool,
    ) -> Page:
        """Request a page, or a piece of one, from another replica. The answer to either may be a piece.

        Args:
            peer: Id of the replica.
            request: Request for the page.
            timeout_seconds: Time for the page to arrive.
            has_room: Function that tells whether a page of so many bytes may be unpacked.
            is_signed: Whether the replica signs its messages.

        Raises:
            ForeignMessageError: The reply is not a page.
            errors.NatsError: There is no page.
        """
        connection, authentication = self._connection, self._signing if is_signed else None
        if connection is None:
            raise errors.NotConnectedError
        subject, deadline = self._subject_of(peer), self._loop.time() + timeout_seconds
        if authentication is None:
            reply = await connection.request(subject.encode(), encode_message(self._id, request), deadline=deadline)
            return self._unsigned_page(reply[1])
        data = self._encode(subject, request)
        sequence = authentication.sequence
        # The page arrives on the own subject. Only the server answers to the inbox, if the replica is not there.
        other: asyncio.Future[Any] = connection.request(subject.encode(), data, deadline=deadline)
        page: asyncio.Future[Any] = self._loop.create_future()
        self._awaited[sequence] = peer, page, has_room
        try:
            await asyncio.wait({page, other}, return_when=asyncio.FIRST_COMPLETED)
            if not page.done():
                await asyncio.wait({page}, timeout=_UNPROVEN_SECONDS)
            if page.done():
                received: Page = page.result()
                return received
            await other
            raise errors.RequestTimeoutError
        finally:
            del self._awaited[sequence]
            if not other.cancel() and not other.cancelled():
                other.exception()
            # Its error has this frame, which would keep it and everything here until the next collection.
            del other

    def _encode(self, subject: str, message: Message, answers: int = 0) -> bytes:
        return self._sealed(subject, message, pack(message), answers)

    def _sealed(self, subject: str, message: Message, body: bytes, answers: int = 0) -> bytes:
        """Return the bytes of a message, of which the body is encoded already."""
        if self._signing is None:
            return frame(self._id, message, body)
        kind, now_ms = signed.KINDS[type(message)], wall_clock_ms()
        return self._signing.sign(subject, kind, body, now_ms, answers, release_of(message))

    def _send(self, subject: str, data: bytes) -> None:
        if self._connection is None:
            return
        try:
            self._connection.publish(subject.encode(), data)
        except errors.NotConnectedError:
            pass
        except errors.MessageTooLargeError as error:
            fields = {"subject": self.config.state_subject, "bytes": error.size}
            _log.error("cache_message_too_large", extra=fields)

    # --- receiving

    def _receive(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Take a message to all replicas."""
        try:
            version = version_of(payload)
            if version in signed.VERSIONS and self._signing is not None:
                self._receive_signed(payload)
            elif version in UNSIGNED_VERSIONS and self.config.auth is not ReplicationAuth.ON:
                sender, message = self._decode(payload)
                # During an upgrade the changes themselves are not believed. A transfer brings those that count.
                if sender != self._id and (self._signing is None or isinstance(message, Heartbeat)):
                    self._on_message(sender, message, False)
            else:
                raise _another_version(version)
        except ForeignMessageError as error:
            self.refuse(error)

    def _receive_signed(self, payload: bytes) -> None:
        if signed.is_from(payload, self._id):
            self._check_own(payload, self.config.state_subject)
            return
        head = self._check(payload, self.config.state_subject)
        self._on_message(head.sender, self._message(head, payload, signed.DELTAS, signed.HEARTBEAT, signed.PIECE), True)

    def _receive_own(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Take a request, or the answer to an own one."""
        try:
            version = version_of(payload)
            if version in signed.VERSIONS and self._signing is not None:
                self._answer_signed(payload)
            elif version in UNSIGNED_VERSIONS and self._signing is None:
                self._answer_unsigned(payload, reply)
            else:
                raise _another_version(version)
        except ForeignMessageError as error:
            self.refuse(error)

    def _answer_signed(self, payload: bytes) -> None:
        answers = signed.head_of(payload).answers
        if signed.is_from(payload, self._id):
            self._check_own(payload, self._subject_of(self._id))
            return
        # An answer that comes too late is not worth a check.
        if answers and answers not in self._awaited:
            return
        head = self._check(payload, self._subject_of(self._id))
        if answers:
            self._take_page(head, payload)
            return
        request = self._message(head, payload, signed.REQUEST, signed.PIECE_REQUEST)
        if isinstance(request, Request):
            self._put_in_line(head.sender, request, head.sequence)

    def _take_page(self, head: signed.SignedHead, payload: bytes) -> None:
        peer, future, has_room = self._awaited[head.answers]
        if peer != head.sender or future.done():
            return
        if not has_room(len(payload)):
            raise ForeignMessageError("a large page while others wait to be merged", Refusal.UNCHECKED)
        page = self._message(head, payload, signed.PAGE, signed.PIECE)
        if isinstance(page, Page):
            future.set_result(page)

    def _put_in_line(self, sender: str, request: Request, sequence: int) -> None:
        """Have a request answered in its turn. A page takes far longer to make than a request, so no member may ask at will.

        Each replica has one place in the line, and pages take half of the time at most.
        """
        if len(self._requests) >= _MAX_REQUESTS and sender not in self._requests:
            return
        is_first = not self._requests
        self._requests[sender] = request, sequence
        if is_first:
            self._loop.call_at(max(self._pages_from, self._loop.time()), self._answer_next)

    def _answer_next(self) -> None:
        sender, (request, sequence) = next(iter(self._requests.items()))
        del self._requests[sender]
        began = self._loop.time()
        # To the subject of its sender, not to one that the request names.
        subject = self._subject_of(sender)
        self._send(subject, self._encode(subject, self._on_request(sender, request), sequence))
        now = self._loop.time()
        self._pages_from = now + (now - began)
        if self._requests:
            self._loop.call_at(self._pages_from, self._answer_next)

    def _answer_unsigned(self, payload: bytes, reply: bytes) -> None:
        sender, request = self._decode(payload)
        if not reply or not isinstance(request, Request) or self._connection is None:
            return
        data = encode_message(self._id, self._on_request(sender, request))
        with contextlib.suppress(errors.NotConnectedError, errors.MessageTooLargeError):
            self._connection.answer(reply, data)

    def _check_own(self, payload: bytes, subject: str) -> None:
        """Refuse a message that another member has signed in the name of this replica. Own ones that come back do nothing."""
        assert self._signing is not None
        if signed.head_of(payload).sequence > self._signing.sequence:
            self._check(payload, subject)
            raise ForeignMessageError("a message in the name of this replica that it has not sent", Refusal.NAME)

    def _check(self, payload: bytes, subject: str) -> signed.SignedHead:
        assert self._signing is not None
        return self._signing.check(payload, subject, wall_clock_ms(), self._loop.time())

    def _message(self, head: signed.SignedHead, payload: bytes, *kinds: int) -> Message:
        if head.kind not in kinds:
            raise ForeignMessageError("a message of a kind that does not belong on its subject")
        return signed.message_of(head, payload, _UNPACKED * self.max_payload_bytes)

    def _decode(self, payload: bytes) -> tuple[str, Message]:
        """Return the sender and the message of unsigned bytes."""
        return decode_message(payload, _UNPACKED * self.max_payload_bytes)

    def _unsigned_page(self, payload: bytes) -> Page:
        _, page = self._decode(payload)
        if not isinstance(page, Page):
            raise ForeignMessageError("not a page")
        return page

    def refuse(self, error: ForeignMessageError) -> None:
        """Count a message that cannot be used, and log it, but not each one."""
        if self.refusals.note(error.refusal, self._loop.time()):
            fields = {"subject": self.config.state_subject, "reason": str(error)}
            _log.warning("cache_message_refused", extra=fields | {"version": error.version})
        self._on_refusal(error.refusal)


def _another_version(version: int) -> ForeignMessageError:
    text = "a message of another version of the format, or of another REPLICATION_AUTH"
    return ForeignMessageError(text, Refusal.VERSION, version)
