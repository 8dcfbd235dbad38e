"""Reads that share one direct get: only until it is sent, and never one that has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.stream import Traits
from provider.keyvalue.bucket.ttl import Lifetimes
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.kinds import Kind, Value
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.requests import Outcome
from provider.tasks import TaskOwner

FOUND = (b"NATS/1.0\r\nNats-Stream: KV_b\r\nNats-Subject: $KV.b.k\r\nNats-Sequence: 7\r\n\r\n", b"v")
OF_A_MIRROR = (FOUND[0].replace(b"KV_b", b"M"), b"old")
FAR = 1e9


class Requests:
    """A connection that counts its writes and keeps the requests that wait for a reply."""

    def __init__(self) -> None:
        self.writes = 0
        self.waiting: list[Callable[[Outcome], None]] = []

    def request_then(self, subject: bytes, *, deadline: float, then: Callable[[Outcome], None]) -> None:
        self.waiting.append(then)

    def settle(self, reply: Outcome) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(reply)


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
async def bucket(requests: Requests) -> AsyncIterator[Bucket]:
    tasks = TaskOwner()
    traits = Traits(1, 1, True, Lifetimes(honors_ttl=True), False, -1)
    yield Bucket(JetStream(cast(Connection, requests)), "b", traits, ServerClock(), tasks, lambda: None)
    await tasks.close()


def read(bucket: Bucket, told: list[Any]) -> bool:
    return bucket.begin_read("k", FAR, lambda value, is_read: told.append((value, is_read)))


async def test_reads_that_arrive_before_a_request_is_sent_share_it(bucket: Bucket, requests: Requests) -> None:
    told: list[Any] = []
    assert read(bucket, told)
    assert read(bucket, told)
    assert len(requests.waiting) == 1
    requests.writes += 1
    assert read(bucket, told)
    assert len(requests.waiting) == 2
    requests.settle(FOUND)
    assert told == [(Value(Kind.TEXT, "v"), True)] * 3


async def test_a_read_does_not_join_a_request_that_failed_before_it_was_sent(
    bucket: Bucket, requests: Requests
) -> None:
    told: list[Any] = []
    read(bucket, told)
    requests.settle(errors.ConnectionLostError())
    assert told == [(None, False)]
    assert read(bucket, told)
    requests.settle(FOUND)
    assert told[1:] == [(Value(Kind.TEXT, "v"), True)]


async def test_after_a_reply_of_a_mirror_no_read_is_direct(bucket: Bucket, requests: Requests) -> None:
    told: list[Any] = []
    read(bucket, told)
    requests.settle(OF_A_MIRROR)
    assert told == [(None, False)]
    assert not read(bucket, told)
    bucket.traits = bucket.traits
    assert not read(bucket, told)


async def test_a_stored_message_with_a_status_of_its_own_is_a_value(bucket: Bucket, requests: Requests) -> None:
    told: list[Any] = []
    read(bucket, told)
    requests.settle((FOUND[0].replace(b"NATS/1.0", b"NATS/1.0 404 gone"), b"v"))
    assert told == [(Value(Kind.TEXT, "v"), True)]
