"""The last messages of many subjects: answers in several parts, as of one moment or not, and answers that are errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from provider import errors
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.requests import Reply

SUBJECTS = [f"$KV.b.{key}" for key in "abcd"]


class Server:
    """A connection to a server that answers each request by script."""

    def __init__(self, *answers: list[Reply]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def request_many(
        self, subject: bytes, payload: bytes, *, deadline: float, is_last: Callable[[Reply], bool]
    ) -> asyncio.Future[list[Reply]]:
        self.asked.append(json.loads(payload))
        future = asyncio.get_running_loop().create_future()
        replies: list[Reply] = []
        for reply in self.answers.pop(0):
            if is_last(reply):
                future.set_result(replies)
                break
            replies.append(reply)
        return future

    async def read(self, max_bytes: int | None = None) -> dict[str, Reply] | None:
        jetstream = JetStream(cast(Connection, self))
        return await jetstream.last_messages("KV_b", SUBJECTS, asyncio.get_running_loop().time() + 1, max_bytes)


def message(key: str, sequence: int, pending: int, status: str = "") -> Reply:
    names = (
        f"Nats-Stream: KV_b\r\nNats-Subject: $KV.b.{key}\r\nNats-Sequence: {sequence}\r\nNats-Num-Pending: {pending}"
    )
    return f"NATS/1.0{status}\r\n{names}\r\n\r\n".encode(), key.encode() * 10


END = b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 9\r\nNats-UpTo-Sequence: 9\r\n\r\n", b""
"""The end of an answer. Its count of pending messages is one short, as with nats-server 2.11."""


def status(text: str) -> Reply:
    return f"NATS/1.0 {text}\r\n\r\n".encode(), b""


async def test_messages_missing_from_an_answer_are_requested_as_of_the_same_moment() -> None:
    server = Server([message("a", 2, 3), message("b", 3, 2), END], [message("c", 5, 1), END], [message("d", 9, 0), END])
    found = await server.read()
    assert found is not None
    assert {subject: payload for subject, (_, payload) in found.items()} == {
        subject: subject[-1].encode() * 10 for subject in SUBJECTS
    }
    assert [(asked.get("seq"), asked.get("up_to_seq")) for asked in server.asked] == [(None, None), (4, 9), (6, 9)]
    assert all(asked["multi_last"] == SUBJECTS for asked in server.asked)


@pytest.mark.parametrize("second", [[message("c", 5, 0), END], [status("404 No Results")], [END]], ids=str)
async def test_a_message_overwritten_between_two_parts_is_an_error_and_not_missing(second: list[Reply]) -> None:
    with pytest.raises(errors.ApiError) as caught:
        await Server([message("a", 2, 3), message("b", 3, 2), END], second).read()
    assert caught.value.code == 503


@pytest.mark.parametrize(
    ("text", "code"), [("413 Too Many Results", 413), ("404 Message Not Found", 503), ("500 x", 500)]
)
async def test_any_other_status_is_an_error(text: str, code: int) -> None:
    with pytest.raises(errors.ApiError) as caught:
        await Server([message("a", 2, 1), status(text)]).read()
    assert caught.value.code == code


async def test_subjects_without_messages_are_left_out() -> None:
    assert await Server([status("404 No Results")]).read() == {}


async def test_an_answer_over_the_limit_is_dropped() -> None:
    answer = [message("a", 2, 2), message("b", 3, 1), message("c", 5, 0), END]
    assert await Server(answer).read(30) is not None
    assert await Server(answer).read(29) is None
    assert await Server([*answer[:2], END], answer[2:]).read(29) is None


async def test_a_stored_message_with_a_status_of_its_own_is_a_message() -> None:
    found = await Server([message("a", 2, 1, " 204 x"), message("b", 3, 0), END]).read()
    assert found is not None
    assert len(found) == 2
