"""The keys of a Redis database with their values and ends, batch by batch. Knows the client for Redis, and no bucket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from redis import asyncio as redis_client
from redis import exceptions

from provider.commands.errors import RedisError
from provider.keyvalue.byte_values import value_of
from provider.keyvalue.kinds import Kind, Value

_MOST_LENGTH = 64 * 1024 * 1024
"""Bytes of a text, or elements, of values that are read at all: one is held in memory several times while it is copied."""

_BATCH_KEYS = 200
"""Keys that are read together: enough to hide the round trips."""

_MOST_TOGETHER = 1024 * 1024
"""Bytes of texts, and elements, that are read together: few enough to be held in memory. A longer value is read alone."""

_UNREADABLE = "the given URL"
"""Shown in place of a URL whose parts cannot be told apart, as it may have a password."""

_TIMEOUT_SECONDS = 10.0
"""Time for a connection and for one answer. Redis answers within a second, or hangs."""

_LENGTHS = {b"string": "strlen", b"list": "llen", b"set": "scard"}
"""The kinds that actors know, with the command that tells their length. Others are left out, with a reason."""

_VALUES: dict[bytes, tuple[Any, ...]] = {b"string": ("get",), b"list": ("lrange", 0, -1), b"set": ("smembers",)}


_NO_PASSWORD = ("NOAUTH", "HELLO must be called", "Authentication required")
"""Beginnings of the answers to a client that has given none."""


class Read(NamedTuple):
    """One key.

    Attributes:
        key: The key, or its bytes as Python shows them if they are not UTF-8.
        value: The value; None if it cannot be imported, or is gone since.
        expires_ms: Milliseconds until the value ends; 0: never.
        reason: Reason for which it cannot be imported; "" if it can, or is gone.
    """

    key: str
    value: Value | None
    expires_ms: int = 0
    reason: str = ""


class RedisSource:
    """A database of a Redis server, or the one of a cluster, as an async context manager.

    Args:
        url: URL with the scheme `redis` or `rediss`, or `unix`.
        password: Password in place of one in the URL; "": none.

    Raises (all methods):
        RedisError: The server cannot be reached, or refuses.
    """

    def __init__(self, url: str, password: str) -> None:
        self.address = _address(url)
        self._url = url
        self._given: dict[str, Any] = {"password": password} if password else {}
        with _explained(self.address):
            self._client = _client(url, self._given)
        self._nodes = [_Node(self.address, self._client)]

    async def __aenter__(self) -> Self:
        with _explained(self.address):
            info: Any = await self._client.info("cluster")
            if info.get("cluster_enabled"):
                await self._find_masters()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for node in self._nodes:
            await node.client.aclose()

    async def _find_masters(self) -> None:
        """Take all masters of the cluster, as each answers for its own keys alone."""
        table: Any = await self._client.execute_command("CLUSTER NODES")
        for address, facts in table.items():
            flags = facts["flags"].split(",")
            if "master" not in flags or not {"fail", "noaddr", "handshake", "myself"}.isdisjoint(flags):
                continue
            host, _, port = address.rpartition(":")
            url = _at(self._url, facts.get("hostname") or host, port)
            self._nodes.append(_Node(_address(url), _client(url, self._given)))
        own = next(facts["flags"] for facts in table.values() if "myself" in facts["flags"])
        if "master" not in own.split(","):
            await self._nodes.pop(0).client.aclose()

    async def size(self) -> int:
        """Return the number of keys of the database."""
        total = 0
        for node in self._nodes:
            with _explained(node.address):
                total += int(await node.client.dbsize())
        return total

    async def batches(self, pattern: str) -> AsyncIterator[list[Read]]:
        """Yield the keys that match a pattern of Redis. A key that changes meanwhile may come twice, as of both times."""
        for node in self._nodes:
            async for batch in node.batches(pattern):
                yield batch


class _Node(NamedTuple):
    """One server with its keys; the only one, or a master of a cluster. `address` is for people."""

    address: str
    client: Any

    async def batches(self, pattern: str) -> AsyncIterator[list[Read]]:
        """Yield the keys of this server; see `RedisSource.batches`."""
        cursor = 0
        while True:
            with _explained(self.address):
                cursor, keys = await self.client.scan(cursor, match=pattern or None, count=_BATCH_KEYS)
            async for found in self._read(keys):
                yield found
            if not cursor:
                return

    async def _read(self, keys: list[bytes]) -> AsyncIterator[list[Read]]:
        asked = [(("type", key), ("pttl", key)) for key in keys]
        answers = await self._ask([command for pair in asked for command in pair])
        kinds, ends = answers[::2], answers[1::2]
        lengths = await self._ask([(_LENGTHS.get(kind, "exists"), key) for kind, key in zip(kinds, keys, strict=True)])
        readable: list[tuple[bytes, bytes, Any]] = []
        sizes: list[int] = []
        unread: list[Read] = []
        for key, kind, end, length in zip(keys, kinds, ends, lengths, strict=True):
            if kind in _LENGTHS and isinstance(length, int) and length <= _MOST_LENGTH:
                readable.append((key, kind, end))
                sizes.append(length)
            else:
                unread.append(_unread(key, kind, length))
        yield unread
        for first, after in groups(sizes, _MOST_TOGETHER):
            group = readable[first:after]
            values = await self._ask([(_VALUES[kind][0], key, *_VALUES[kind][1:]) for key, kind, _ in group])
            yield [_decoded(key, kind, value, left) for (key, kind, left), value in zip(group, values, strict=True)]

    async def _ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands together; the answer to one may be an error, as for a key that has become another kind."""
        if not commands:
            return []
        with _explained(self.address):
            return await self._pipelined(commands)

    async def _pipelined(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        async with self.client.pipeline(transaction=False) as pipeline:
            for name, *arguments in commands:
                pipeline.execute_command(name.upper(), *arguments)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.RedisError, OSError, ValueError) as error:
        raise RedisError(address, _reason(error)) from None


def groups(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of groups of neighbours whose sizes are within a limit together; a larger one is a group of its own."""
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and total + size > most:
            yield start, index
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _client(url: str, given: dict[str, Any]) -> Any:
    return redis_client.Redis.from_url(
        url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, **given
    )


def _decoded(key: bytes, kind: bytes, raw: Any, end: Any) -> Read:
    name = _name(key)
    if isinstance(raw, Exception) or isinstance(end, Exception):
        return Read(name, None, reason="it changed while it was read; import again")
    if raw is None or end == -2 or (kind != b"string" and not raw):
        return Read(name, None)  # it has expired or was deleted
    try:
        key.decode()
        value = _value(kind, raw)
    except UnicodeDecodeError:
        return Read(name, None, reason="its name or one of its elements is not UTF-8")
    return Read(name, value, max(int(end), 1) if end != -1 else 0)


def _value(kind: bytes, raw: Any) -> Value:
    if kind == b"list":
        return Value(Kind.LIST, [element.decode() for element in raw])
    if kind == b"set":
        return Value(Kind.SET, dict.fromkeys(sorted(member.decode() for member in raw)))
    return value_of(raw)


def _unread(key: bytes, kind: bytes, length: Any) -> Read:
    if kind == b"none":
        return Read(_name(key), None)
    if kind not in _LENGTHS:
        return Read(_name(key), None, reason=f"a {kind.decode(errors='replace')} is no kind of value that actors know")
    return Read(_name(key), None, reason=f"it is too large: {length} bytes or elements, the maximum is {_MOST_LENGTH}")


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return repr(key)


def _address(url: str) -> str:
    """Return a URL for display, without user and password."""
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return _UNREADABLE
    return shown if "@" not in shown else _UNREADABLE  # a password with a slash looks like a path


def _at(url: str, host: str, port: str) -> str:
    """Return a URL of another server with the same user and password."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{f'[{host}]' if ':' in host else host}:{port}").geturl()


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line. Texts of the client have the address; that of a wrong URL may have more."""
    if isinstance(error, ValueError):
        return "the URL is not valid; characters like / and @ in a password are written as %2F and %40"
    text = str(error).strip() or type(error).__name__
    if text.startswith(_NO_PASSWORD):
        return "it wants a password; give it in the URL, or in REDIS_PASSWORD"
    return text.splitlines()[0].rstrip(".")
