"""Large answers leave one message at a time, each when the server has taken the one before."""

from __future__ import annotations

import asyncio
from typing import cast

from provider.lattice.wasmcloud1.exchanges import Outgoing
from provider.lattice.wasmcloud1.paced_answers import PacedAnswers
from provider.nats.connection import Connection
from provider.tasks import TaskOwner
from tests.blackbox.waiting import eventually


class SlowServer:
    """A connection to a server that takes messages when it is told to."""

    def __init__(self) -> None:
        self.taken = asyncio.Semaphore(0)

    async def flush(self, timeout_seconds: float) -> None:
        await self.taken.acquire()


def messages(name: bytes, count: int) -> list[Outgoing]:
    return [*(Outgoing(name, b"", b"%d" % number) for number in range(count)), Outgoing(name, b"", b"")]


async def test_messages_are_sent_in_order_and_one_at_a_time() -> None:
    server, published, tasks = SlowServer(), list[Outgoing](), TaskOwner()
    paced = PacedAnswers(cast(Connection, server), published.extend, tasks)
    paced.send(messages(b"a", 3))
    paced.send(messages(b"b", 2))
    for count in (1, 2, 3):
        await eventually(lambda count=count: len(published) == count, "the next message")  # type: ignore[misc]
        server.taken.release()
    await eventually(lambda: len(published) == 5, "the end of one answer and the beginning of the next")
    waiting = asyncio.create_task(paced.sent())
    await asyncio.sleep(0)
    assert not waiting.done()
    server.taken.release()
    server.taken.release()
    await waiting
    assert published == messages(b"a", 3) + messages(b"b", 2)
    await tasks.close()


async def test_what_waits_at_the_end_of_the_process_is_sent_at_once() -> None:
    server, published, tasks = SlowServer(), list[Outgoing](), TaskOwner()
    paced = PacedAnswers(cast(Connection, server), published.extend, tasks)
    paced.send(messages(b"a", 9))
    await eventually(lambda: published, "the first message")
    paced.send_now()
    assert published == messages(b"a", 9)
    await tasks.close()
