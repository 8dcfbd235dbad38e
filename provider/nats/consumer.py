"""A JetStream pull consumer: create it, request its messages, detect its faults, delete it.

The consumer itself lives on the server. This process requests batches of messages, and the server answers each request
on an inbox with messages and with statuses. Two kinds are in use:

- A consumer of its own (`create`), ephemeral and without acknowledgements. Its messages are numbered without gaps, so a
  missing number shows a lost message. After any fault, another one must be created behind the last message received.
- A shared durable consumer (`attach`), with acknowledgements. The server keeps the position and delivers every message
  again that is not acknowledged. Other instances receive some of the messages, so gaps are normal.

Source: ADR-13 (pull requests and their statuses), ADR-15 (subjects of acknowledgements), ADR-17 (ordered consumers),
nats-server server/consumer.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import enum
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from provider import errors
from provider.nats.buckets import NANOSECONDS, NANOSECONDS_PER_MS
from provider.nats.frames import header_value, status_of
from provider.nats.jetstream import ConsumerInfo, JetStream
from provider.nats.requests import new_inbox

_ACKNOWLEDGEMENT = b"$JS.ACK."
"""The beginning of a delivered message's reply subject. A status has none."""

_LAST_CONSUMER_SEQUENCE = b"Nats-Last-Consumer"
"""Header of a heartbeat: the number of the last message that the server has delivered from this consumer."""

_Arrival = tuple[bytes, bytes, bytes, bytes]
"""Subject, reply subject, header block and payload."""


class Status(enum.Enum):
    """The reason why `PullConsumer.next` returns no message."""

    IDLE = "idle"
    """A heartbeat: the server has no message now, and the request stays open."""

    EXPIRED = "expired"
    """The request's time is over, or there was no message for a request that does not wait."""

    DROPPED = "dropped"
    """The server ended the request early: the consumer has a new leader, or its server shuts down."""

    UNSERVED = "unserved"
    """No server has the consumer: its server is gone, or a new leader is not elected yet."""

    DELETED = "deleted"
    """The consumer was deleted, by a client or together with its stream."""

    GAP = "gap"
    """A message was lost between the server and this process."""

    RECONNECTED = "reconnected"
    """The connection was down meanwhile: messages may have been lost."""


class Delivery(NamedTuple):
    """A message as a consumer delivers it.

    Attributes:
        reply: Subject of the acknowledgement.
        sequence: The message's number in the stream.
        consumer_sequence: Number of this delivery, counted by the consumer from 1.
        time_ms: When the message was stored, by the server's clock.
        pending: Number of messages that the consumer has still to deliver after this one.
    """

    subject: bytes
    reply: bytes
    header: bytes
    payload: bytes
    stream: str
    consumer: str
    sequence: int
    consumer_sequence: int
    time_ms: int
    pending: int


@dataclass(frozen=True, slots=True)
class PullOptions:
    """The requests for messages.

    Attributes:
        batch: Number of messages per request.
        silence_seconds: Time without any message or status after which `PullConsumer.next` raises `TimeoutError`.
        refill_at: Number of outstanding messages at which the next request is sent.
        expires_seconds: Time for which the server keeps a request open; 0: it answers at once.
        heartbeat_seconds: Interval of the heartbeats on an idle request; 0: none.
    """

    batch: int
    silence_seconds: float
    refill_at: int = 0
    expires_seconds: int = 0
    heartbeat_seconds: int = 0

    def encode(self) -> bytes:
        if not self.expires_seconds:
            return msgspec.json.encode({"batch": self.batch, "no_wait": True})
        expires, heartbeat = self.expires_seconds * NANOSECONDS, self.heartbeat_seconds * NANOSECONDS
        return msgspec.json.encode({"batch": self.batch, "expires": expires, "idle_heartbeat": heartbeat})


class PullConsumer:
    """The messages of a consumer, as an async context manager.

    Leaving deletes a consumer of its own, or gives messages of a shared one back that were received and not taken.

    Args:
        jetstream: The JetStream that has the stream.
        stream: Name of the stream.
        options: The requests to send.
        close_seconds: Time limit for each of the two steps of leaving.
    """

    def __init__(self, jetstream: JetStream, stream: str, options: PullOptions, close_seconds: float) -> None:
        self.name = ""
        """Name of the consumer; "" before the first one, and after a fault."""
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._stream = stream
        self._options = options
        self._close_seconds = close_seconds
        self._request = options.encode()
        self._request_subject = b""
        self._listener = -1
        self._inbox = new_inbox()
        self._generation = 0
        self._reply = b""
        """The inbox of the present consumer. A status sent to an earlier one's does not concern this consumer."""
        self._arrived: asyncio.Queue[_Arrival | Status | errors.PermissionsError] = asyncio.Queue()
        self._stop_refusals: Callable[[], object] = lambda: None
        self._is_own = False
        self._sequence = 0
        """Consumer sequence of the last message, counted here for a consumer of its own only."""
        self._outstanding = 0
        """Number of messages that the server may still send for the requests so far."""

    async def __aenter__(self) -> Self:
        self._listener = await self._connection.listen(f"{self._inbox}.*", self._on_message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_refusals()
        await self._connection.unlisten(self._listener, self._close_seconds)
        if not self._is_own:
            self._give_all_back()
        elif self.name:
            deadline = asyncio.get_running_loop().time() + self._close_seconds
            # Should this fail, the server deletes the consumer once nothing was requested for its `inactive_threshold`.
            with contextlib.suppress(errors.NatsError):
                await self._jetstream.delete_consumer(self._stream, self.name, deadline)

    async def create(self, config: dict[str, Any], deadline: float) -> ConsumerInfo:
        """Create an ephemeral consumer and request its first messages; an earlier one is abandoned.

        Args:
            config: JetStream's consumer configuration, with the acknowledgement policy `none`.
            deadline: When to give up, on the event loop's clock.

        Raises:
            errors.NatsError: The server refuses, or does not answer.
        """
        # Before the request: a reconnect that happens during it must still show afterwards.
        self._restart()
        info = await self._jetstream.create_consumer(self._stream, config, deadline)
        self._begin(info.name, is_own=True)
        return info

    def attach(self, name: str) -> None:
        """Request messages of an existing durable consumer.

        Raises:
            errors.NotConnectedError: The connection is down.
        """
        self._restart()
        self._begin(name, is_own=False)

    def abandon(self) -> None:
        """Forget the consumer without a word to the server, which deletes it after its `inactive_threshold`."""
        self.name = ""

    def interrupt(self) -> None:
        """Have `next` return `Status.RECONNECTED`."""
        self._arrived.put_nowait(Status.RECONNECTED)

    async def next(self) -> Delivery | Status:
        """Wait for the next message or status and return it; send further requests as they are due.

        Raises:
            errors.NotConnectedError: The connection is down.
            errors.PermissionsError: The user may not request messages.
            TimeoutError: Not even a heartbeat came: the server is stalled, or the request was lost with a connection.
        """
        while True:
            if self._outstanding <= self._options.refill_at:
                self._send_request()
            async with asyncio.timeout(self._options.silence_seconds):
                arrival = await self._arrived.get()
            if isinstance(arrival, Status):
                return arrival
            if isinstance(arrival, errors.PermissionsError):
                raise copy.copy(arrival)  # an error keeps this frame, which names the other
            subject, reply, header, payload = arrival
            if reply.startswith(_ACKNOWLEDGEMENT):
                delivery = _delivery(subject, reply, header, payload)
                if (delivery.stream, delivery.consumer) == (self._stream, self.name):
                    return self._take(delivery)
            elif subject == self._reply and status_of(header):
                return self._read_status(header)

    def give_back(self, reply: bytes) -> None:
        """Have the server deliver a message again at once. When this cannot be sent, it does so after `ack_wait`.

        Args:
            reply: Subject of the message's acknowledgement.
        """
        with contextlib.suppress(errors.NotConnectedError):
            self._connection.publish(reply, b"-NAK")

    def _give_all_back(self) -> None:
        while not self._arrived.empty():
            arrival = self._arrived.get_nowait()
            if isinstance(arrival, tuple) and arrival[1].startswith(_ACKNOWLEDGEMENT):
                self.give_back(arrival[1])

    def _restart(self) -> None:
        self.name = ""
        self._generation += 1
        self._reply = f"{self._inbox}.{self._generation}".encode()
        self._arrived = asyncio.Queue()
        self._sequence = self._outstanding = 0

    def _begin(self, name: str, *, is_own: bool) -> None:
        self._request_subject = f"{self._jetstream.api_prefix}.CONSUMER.MSG.NEXT.{self._stream}.{name}".encode()
        self._stop_refusals()
        self._stop_refusals = self._connection.on_refusal(self._request_subject, self._on_refusal)
        # At once, not with the first `next`: until then, a bucket without history forgets every revision that is
        # overwritten.
        self._send_request()
        self.name, self._is_own = name, is_own

    def _send_request(self) -> None:
        self._connection.publish_request(self._request_subject, self._reply, self._request)
        self._outstanding += self._options.batch

    def _on_refusal(self, reason: str) -> None:
        self._arrived.put_nowait(errors.PermissionsError(reason))

    def _on_message(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._arrived.put_nowait((subject, reply, header, payload))

    def _take(self, delivery: Delivery) -> Delivery | Status:
        self._outstanding -= 1
        if self._is_own:
            self._sequence += 1
            if delivery.consumer_sequence != self._sequence:
                return Status.GAP
        return delivery

    def _read_status(self, header: bytes) -> Status:
        status = status_of(header)
        if status == 100:
            # The last message may be lost: then no later one shows the gap, but the heartbeat does.
            is_missing = self._is_own and int(header_value(header, _LAST_CONSUMER_SEQUENCE) or 0) > self._sequence
            return Status.GAP if is_missing else Status.IDLE
        # Every other status ends the request.
        self._outstanding = 0
        if status in (404, 408):
            return Status.EXPIRED
        if status == 503:
            return Status.UNSERVED
        is_deleted = status == 409 and b"deleted" in header.lower()
        return Status.DELETED if is_deleted else Status.DROPPED


def _delivery(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> Delivery:
    """Read a message with the data in its acknowledgement's subject.

    Source: ADR-15; `$JS.ACK.stream.consumer.delivered.sequence.consumer_sequence.nanoseconds.pending`, with domain and
    account behind `ACK` in its longer form.
    """
    words = reply.split(b".")
    first = 2 if len(words) < 11 else 4
    sequence, consumer_sequence, nanoseconds, pending = (int(word) for word in words[first + 3 : first + 7])
    time_ms = nanoseconds // NANOSECONDS_PER_MS
    return Delivery(
        subject,
        reply,
        header,
        payload,
        words[first].decode(),
        words[first + 1].decode(),
        sequence,
        consumer_sequence,
        time_ms,
        pending,
    )
