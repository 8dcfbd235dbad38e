"""An actor for tests: the fifteen operations as calls, with the arguments that the interface names."""

from __future__ import annotations

import uuid
from typing import Any

import msgpack

from tests.blackbox.lattice_host import CallFailedError, LatticeHost

Members = set[str]


class Actor:
    """A linked actor of a host.

    Args:
        host: Host that signs and sends the calls.
        public_key: Public key of the actor.
        bucket: Name of the bucket in its link, or "".
        caller_seconds: Time for which it waits for an answer; `None`: as long as its host does.
    """

    def __init__(
        self, host: LatticeHost, public_key: str, bucket: str = "", caller_seconds: float | None = None
    ) -> None:
        self.host = host
        self.public_key = public_key
        self.bucket = bucket
        self.caller_seconds = caller_seconds

    async def call(self, operation: str, argument: Any) -> Any:
        """Call an operation by its short name. An error is raised as a `CallFailedError`."""
        return await self.host.call(self.public_key, operation, argument, self.caller_seconds)

    async def error(self, operation: str, argument: Any) -> str:
        """Call an operation that must fail, and return the text of the error."""
        return await self.host.error(self.public_key, operation, argument, self.caller_seconds)

    async def raw_error(self, operation: str, payload: bytes) -> str:
        """Send bytes, which must be refused, to an operation by its full name, and return the text of the error."""
        response = await self.host.invoke(self.host.invocation(self.public_key, operation, payload))
        assert response.error, f"{operation} {payload!r} did not fail, but answered {response.msg!r}"
        return response.error

    async def read_all(self, key: str) -> list[str]:
        """Return the answers, or errors, of all reading operations for a key. They are equal as long as nothing changes."""
        found = []
        for operation, argument in (
            ("Get", key),
            ("ListRange", {"listName": key, "start": 0, "stop": -1}),
            ("SetQuery", key),
        ):
            try:
                found.append(repr(await self.call(operation, argument)))
            except CallFailedError as refusal:
                found.append(str(refusal))
        return found

    # --- text and numbers

    async def get(self, key: str) -> str | None:
        """Return the text of a key, or `None` if it is absent; the answer must then have an empty text."""
        answer = await self.call("Get", key)
        assert sorted(answer) == ["exists", "value"], answer
        assert type(answer["exists"]) is bool
        assert answer["exists"] or answer["value"] == "", answer
        return answer["value"] if answer["exists"] else None

    async def set(self, key: str, value: str, expires: int = 0) -> None:
        assert await self.call("Set", {"key": key, "value": value, "expires": expires}) is None

    async def delete(self, key: str) -> bool:
        return _flag(await self.call("Del", key))

    async def contains(self, key: str) -> bool:
        return _flag(await self.call("Contains", key))

    async def increment(self, key: str, value: int = 1) -> int:
        return _number(await self.call("Increment", {"key": key, "value": value}))

    # --- lists

    async def list_add(self, key: str, value: str) -> int:
        return _number(await self.call("ListAdd", {"listName": key, "value": value}))

    async def list_del(self, key: str, value: str) -> bool:
        return _flag(await self.call("ListDel", {"listName": key, "value": value}))

    async def list_range(self, key: str, start: int = 0, stop: int = -1) -> list[str]:
        return _texts(await self.call("ListRange", {"listName": key, "start": start, "stop": stop}))

    async def list_clear(self, key: str) -> bool:
        return _flag(await self.call("ListClear", key))

    # --- sets

    async def set_add(self, key: str, value: str) -> int:
        return _number(await self.call("SetAdd", {"setName": key, "value": value}))

    async def set_del(self, key: str, value: str) -> int:
        return _number(await self.call("SetDel", {"setName": key, "value": value}))

    async def set_query(self, key: str) -> Members:
        return _members(await self.call("SetQuery", key))

    async def set_union(self, *keys: str) -> Members:
        return _members(await self.call("SetUnion", list(keys)))

    async def set_intersection(self, *keys: str) -> Members:
        return _members(await self.call("SetIntersection", list(keys)))

    async def set_clear(self, key: str) -> bool:
        return _flag(await self.call("SetClear", key))


def fresh(name: str = "k") -> str:
    """Return a key that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def packed(argument: Any) -> bytes:
    data: bytes = msgpack.packb(argument)
    return data


def _flag(answer: Any) -> bool:
    assert type(answer) is bool, answer
    return answer


def _number(answer: Any) -> int:
    assert type(answer) is int, answer
    return answer


def _texts(answer: Any) -> list[str]:
    assert isinstance(answer, list), answer
    assert all(type(text) is str for text in answer), answer
    return answer


def _members(answer: Any) -> set[str]:
    texts = _texts(answer)
    assert len(set(texts)) == len(texts), f"members come once each: {texts}"
    return set(texts)
