"""A pull consumer: the requests that it sends, and the status that it returns for each fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from provider import errors
from provider.nats.connection import Connection
from provider.nats.consumer import Delivery, PullConsumer, PullOptions, Status
from provider.nats.jetstream import ConsumerInfo, JetStream, Sequences
from provider.nats.wire import Handler

OPTIONS = PullOptions(batch=4, silence_seconds=0.02, refill_at=2, expires_seconds=20, heartbeat_seconds=2)


class Listener:
    """A connection that keeps the messages sent, and delivers the replies that a test gives the server."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self.published: list[tuple[bytes, bytes]] = []
        self._handler: Handler | None = None
        self.reply = b""

    async def listen(self, subject: str, handler: Handler) -> int:
        self._handler = handler
        return 1

    async def unlisten(self, listener: int, timeout_seconds: float) -> None:
        assert listener == 1

    def publish_request(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        self.requests.append((subject, payload))
        self.reply = reply

    def on_refusal(self, subject: bytes, callback: Callable[[str], None]) -> Callable[[], None]:
        self.refuse = callback
        return lambda: None

    def publish(self, subject: bytes, payload: bytes) -> None:
        self.published.append((subject, payload))

    def deliver(self, number: int, consumer: str = "c", pending: int = 0, stream: str = "KV_b") -> None:
        assert self._handler is not None
        reply = f"$JS.ACK.{stream}.{consumer}.1.{number + 10}.{number}.5000000.{pending}"
        self._handler(b"$KV.b.k", reply.encode(), b"", b"v")

    def answer(self, payload: bytes) -> None:
        """Deliver the answer of a service that a stranger has sent a request with the consumer's reply subject."""
        assert self._handler is not None
        self._handler(self.reply, b"", b"", payload)

    def say(self, status: bytes, subject: bytes = b"") -> None:
        assert self._handler is not None
        self._handler(subject or self.reply, b"", b"NATS/1.0 " + status + b"\r\n\r\n", b"")


class Server(JetStream):
    """JetStream with one consumer."""

    def __init__(self) -> None:
        self.listener = Listener()
        super().__init__(cast(Connection, self.listener))
        self.deleted: list[str] = []

    async def create_consumer(self, stream: str, config: dict[str, Any], deadline: float) -> ConsumerInfo:
        return ConsumerInfo("c", "", config, Sequences())

    async def delete_consumer(self, stream: str, consumer: str, deadline: float) -> None:
        self.deleted.append(consumer)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"100 Idle Heartbeat", Status.IDLE),
        (b"100 Idle Heartbeat\r\nNats-Last-Consumer: 1", Status.GAP),
        (b"404 No Messages", Status.EXPIRED),
        (b"408 Request Timeout", Status.EXPIRED),
        (b"409 Consumer Deleted", Status.DELETED),
        (b"409 Leadership Change", Status.DROPPED),
        (b"409 Server Shutdown", Status.DROPPED),
        (b"503", Status.UNSERVED),
    ],
)
async def test_each_fault_has_its_status(status: bytes, expected: Status) -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        await consumer.create({}, 1.0)
        server.listener.say(status)
        assert await consumer.next() is expected


async def test_a_consumer_of_its_own_shows_lost_messages_and_is_deleted_at_the_end() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        await consumer.create({}, 1.0)
        for number in (1, 3):
            server.listener.deliver(number)
        first = await consumer.next()
        assert isinstance(first, Delivery)
        assert (first.sequence, first.consumer_sequence, first.time_ms, first.pending) == (11, 1, 5, 0)
        assert await consumer.next() is Status.GAP
    assert server.deleted == ["c"]


async def test_a_shared_consumer_has_gaps_and_gets_back_what_was_not_taken() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        consumer.attach("c")
        for number in (1, 3, 5):
            server.listener.deliver(number)
        assert [cast(Delivery, await consumer.next()).consumer_sequence for _ in range(2)] == [1, 3]
    assert server.listener.published == [(b"$JS.ACK.KV_b.c.1.15.5.5000000.0", b"-NAK")]
    assert server.deleted == []


async def test_requests_overlap_and_a_finished_one_is_replaced() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        await consumer.create({}, 1.0)
        subject, body = server.listener.requests[0]
        assert subject == b"$JS.API.CONSUMER.MSG.NEXT.KV_b.c"
        assert body == b'{"batch":4,"expires":20000000000,"idle_heartbeat":2000000000}'
        for number in (1, 2, 3):
            server.listener.deliver(number)
            await consumer.next()
        assert len(server.listener.requests) == 2
        server.listener.say(b"408 Request Timeout")
        await consumer.next()
        server.listener.deliver(4)
        await consumer.next()
        assert len(server.listener.requests) == 3


async def test_messages_and_statuses_of_an_earlier_consumer_are_ignored() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        await consumer.create({}, 1.0)
        earlier = server.listener.reply
        await consumer.create({}, 1.0)
        server.listener.say(b"409 Consumer Deleted", earlier)
        server.listener.deliver(1, consumer="earlier")
        with pytest.raises(TimeoutError):
            await consumer.next()


async def test_a_reconnect_and_a_stalled_server_are_noticed() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        await consumer.create({}, 1.0)
        consumer.interrupt()
        assert await consumer.next() is Status.RECONNECTED
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await consumer.next()
        assert asyncio.get_running_loop().time() - began >= OPTIONS.silence_seconds


async def test_a_refused_request_for_messages_is_an_error() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        consumer.attach("c")
        server.listener.refuse("the reason")
        with pytest.raises(errors.PermissionsError, match="the reason"):
            await consumer.next()


async def test_messages_of_another_stream_and_answers_of_services_are_ignored() -> None:
    server = Server()
    async with PullConsumer(server, "KV_b", OPTIONS, 1.0) as consumer:
        consumer.attach("c")
        server.listener.answer(b'{"type":"io.nats.micro.v1.ping_response"}')
        server.listener.deliver(1, stream="KV_stranger")
        server.listener.deliver(2)
        assert cast(Delivery, await consumer.next()).consumer_sequence == 2
