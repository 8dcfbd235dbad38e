"""Answers that other senders give in place of JetStream are recognised, and leave the outcome of a write unknown."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.cas import MaybeWrittenError
from provider.keyvalue.bucket.entries import Write
from provider.keyvalue.bucket.stream import Traits, open_stream
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.link_config import BucketConfig
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer

ANSWERS = {
    "a service": b'{"name":"keyvalue","id":"x","version":"1.0.0","type":"io.nats.micro.v1.ping_response"}',
    "a service's error": b'{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"err_code":10059}}',
    "another stream": b'{"stream":"STRANGER","seq":7}',
    "another stream's refusal": b'{"error":{"code":400,"err_code":10071},"stream":"STRANGER","seq":0}',
    "an empty object": b"{}",
    "no JSON": b"\x83\xa5error",
    "nothing": b"",
}


def deadline() -> float:
    return asyncio.get_running_loop().time() + 5


async def answer_with(connection: Connection, subject: str, payload: bytes) -> int:
    def on_request(_: bytes, reply: bytes, header: bytes, received: bytes) -> None:
        del header, received
        connection.publish(reply, payload)

    listener = await connection.listen(subject, on_request)
    await connection.flush(2)
    return listener


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_write_that_another_sender_answers_is_neither_made_nor_refused(
    lattice_server: NatsServer, answer: bytes
) -> None:
    settings, name = ConnectionSettings((lattice_server.url,)), f"b{uuid.uuid4().hex}"
    tasks = TaskOwner()
    async with Connection(settings, "test", 5) as connection, Connection(settings, "stranger", 5) as stranger:
        jetstream = JetStream(connection)
        info, level = await open_stream(jetstream, BucketConfig(name), deadline())
        bucket = Bucket(jetstream, name, Traits.from_info(info, level), ServerClock(), tasks, lambda: None)
        await jetstream.api(f"STREAM.DELETE.KV_{name}", None, deadline())
        await answer_with(stranger, f"$KV.{name}.>", answer)
        with pytest.raises(MaybeWrittenError):
            await bucket.write(Write("k", "k", None, b"", b"id", 0), deadline())
    await tasks.close()


async def test_an_answer_of_another_sender_is_none_of_the_api(lattice_server: NatsServer) -> None:
    settings, stream = ConnectionSettings((lattice_server.url,)), f"KV_b{uuid.uuid4().hex}"
    async with Connection(settings, "test", 5) as connection, Connection(settings, "stranger", 5) as stranger:
        # Nothing but the stranger listens in this domain.
        jetstream = JetStream(connection, "stranger")
        await answer_with(stranger, "$JS.stranger.API.>", ANSWERS["a service"])
        for asked in (
            jetstream.stream_info(stream, deadline()),
            jetstream.purge(stream, "$KV.b.k", deadline()),
            jetstream.last_message(stream, "$KV.b.k", deadline()),
        ):
            with pytest.raises(errors.UnexpectedReplyError):
                await asked
