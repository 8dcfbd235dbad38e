"""Requests and their ends: replies, refusals and time-outs, in any order."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from provider import errors
from provider.nats.requests import RequestMux

SUBJECT = b"$KV.b.k"


class Wire:
    """A mux, and the reply subjects of the requests that it has written."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.mux = RequestMux(lambda frame: self.replies.append(frame.split(b" ")[2]))

    def request(self, subject: bytes = SUBJECT, seconds: float = 5) -> asyncio.Future[tuple[bytes, bytes]]:
        return self.mux.request(subject, b"", b"", asyncio.get_running_loop().time() + seconds)

    def answer(self, number: int) -> None:
        self.mux.on_reply(self.replies[number], b"", b"", b"!")

    def refuse(self) -> None:
        self.mux.refuse(SUBJECT, "refused")


async def test_each_request_to_a_refused_subject_fails_once_as_many_were_refused() -> None:
    wire = Wire()
    first, second, other = wire.request(), wire.request(), wire.request(b"$KV.b.other")
    wire.refuse()
    assert not first.done()
    assert not second.done(), "one of the two was refused, and the server does not say which"
    wire.refuse()
    for refused in (first, second):
        with pytest.raises(errors.PermissionsError):
            await refused
    assert not other.done()
    wire.mux.close()
    await asyncio.gather(other, return_exceptions=True)


async def test_a_request_that_was_answered_was_not_the_refused_one() -> None:
    wire = Wire()
    first, second = wire.request(), wire.request(seconds=0.05)
    wire.refuse()
    wire.answer(0)
    assert await first == (b"", b"!")
    with pytest.raises(errors.RequestTimeoutError):
        await second
    third, fourth = wire.request(seconds=0.05), wire.request(seconds=0.05)
    wire.refuse()
    for doubtful in (third, fourth):
        with pytest.raises(errors.RequestTimeoutError):
            await doubtful
    wire.mux.close()


async def test_a_refusal_that_may_be_of_an_earlier_request_refuses_no_later_one() -> None:
    wire = Wire()
    with pytest.raises(errors.RequestTimeoutError):
        await wire.request(seconds=0.01)
    later = wire.request()
    wire.refuse()
    assert not later.done()
    wire.answer(1)
    assert await later == (b"", b"!")
    wire.mux.close()


async def test_a_lost_connection_ends_the_doubt() -> None:
    wire = Wire()
    with pytest.raises(errors.RequestTimeoutError):
        await wire.request(seconds=0.01)
    wire.mux.fail_all()
    later = wire.request()
    wire.refuse()
    with pytest.raises(errors.PermissionsError):
        await later
    wire.mux.close()


async def test_the_reply_subjects_to_come_do_not_follow_from_earlier_ones() -> None:
    wire = Wire()
    waiting = [wire.request() for _ in range(600)]
    tokens = [int(reply.rpartition(b".")[2], 16) for reply in wire.replies]
    differences = {later - earlier for earlier, later in itertools.pairwise(tokens)}
    assert len(differences) == len(tokens) - 1
    wire.mux.close()
    await asyncio.gather(*waiting, return_exceptions=True)
