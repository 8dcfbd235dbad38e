"""A member gone mad: it holds the key of the cluster, and speaks as hundreds of replicas that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.process.cache.forger import HEARTBEAT, PAGE, Forger, heartbeat, new_id, parse

Answer = Callable[["MadMember", str, int], bytes | None]
"""Function from the id that is asked and the number of the page to a body; None: no answer."""

FAR = 2**40


def page(number: int, context: Any, cells: list[Any], *, is_last: bool = False) -> bytes:
    return bytes(msgpack.packb([PAGE, "t", number, is_last, False, context, {}, cells]))


def silence(member: MadMember, name: str, number: int) -> None:
    return None


def garbage(member: MadMember, name: str, number: int) -> bytes:
    return b"\x94\x04\x01\x02\x03"


def endless(member: MadMember, name: str, number: int) -> bytes:
    """Return a page of keys that no replica has, each page with others; none is the last."""
    context = [{name: FAR}, {}] if number == 0 else None
    cells: list[Any] = [[f"t:{name}-{number}-{key}", {name: number + 1}, [], [], [], None, None] for key in range(20)]
    return page(number, context, cells)


def nothing(member: MadMember, name: str, number: int) -> bytes:
    """Return a transfer that brings nothing of all that was announced."""
    return page(number, [{}, {}], [], is_last=True)


def boast(member: MadMember, name: str, number: int) -> bytes:
    """Return a transfer whose context has events that the other replicas have not made."""
    return page(number, [{name: 1} | dict.fromkeys(member.heard, FAR), {}], [], is_last=True)


class MadMember:
    """Replicas that announce vectors far ahead and answer requests in a way of their own.

    Args:
        client: Client that carries their messages.
        lattice: Lattice that their signatures cover.
        key: Key of the cluster.
        answers: Ways in which they answer; each is that of as many replicas.
        count: Number of replicas.

    Attributes:
        heard: Ids of the replicas that have been heard.
    """

    def __init__(self, client: Client, lattice: str, key: SigningKey, answers: Iterable[Answer], count: int) -> None:
        self.heard: set[str] = set()
        self._client = client
        self._state = f"kvcache.{lattice}.default.state"
        self._replay = f"kvcache.{lattice}.default.replay"
        ways = list(answers)
        self._forgers = {name: Forger(lattice, key, sender=name) for name in (new_id() for _ in range(count))}
        self._answers = {name: ways[number % len(ways)] for number, name in enumerate(self._forgers)}

    async def start(self) -> None:
        """Speak to every replica as soon as it is heard."""
        await self._client.subscribe(self._state, cb=self._hear)
        await self._client.subscribe(f"{self._replay}.*", cb=self._answer)
        await self._client.flush()

    async def announce(self) -> None:
        """Send a heartbeat of each of them that names all replicas that are heard."""
        for name, forger in self._forgers.items():
            body = heartbeat({name: FAR, **dict.fromkeys(self.heard, 0)}, wants_answer=False)
            await self._client.publish(self._state, forger.message(self._state, HEARTBEAT, body))
        await self._client.flush()

    async def _hear(self, message: Msg) -> None:
        sender, _, body = parse(message.data)
        if sender not in self._forgers and body is not None and body[0] == HEARTBEAT:
            is_new = sender not in self.heard
            self.heard.add(sender)
            if is_new:
                await self.announce()

    async def _answer(self, request: Msg) -> None:
        name = request.subject.rpartition(".")[2]
        if name not in self._forgers:
            return
        sender, sequence, body = parse(request.data)
        answer = self._answers[name](self, name, body[2] if body is not None else 0)
        if answer is not None:
            subject = f"{self._replay}.{sender}"
            message = self._forgers[name].message(subject, PAGE, answer, sequence)
            await self._client.publish(subject, message)
