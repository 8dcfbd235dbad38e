"""The caller of a development lattice for whom the page sends operations, and a second one by whom it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from contracts import wrpc
from contracts.extensions import EntryResponse, GetEntry, ListKeys
from contracts.operations import operation_name
from provider.commands.arguments import request_from
from provider.commands.component_arguments import BinaryResponse, component_call_from, shown_result
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.component import Component
from provider.commands.errors import CommandError
from provider.plain_text import cut

_PAGE_KEYS = 100
"""Keys in one page of the list. Each is read once per refresh, about 20 ms in all."""

_MOST_PAGES = 50
"""Pages of a component's keys that one refresh looks through for those with a prefix, for which its interface has no word."""

VALUE_CHARACTERS = 300
"""Characters of a value in the list."""

Object = dict[str, Any]
"""A JSON object."""


class Caller(Protocol):
    """An actor or a component.

    Attributes:
        kind: `actor` or `component`.
        knows_entries: Whether values have a revision and an end for it.
    """

    kind: str
    knows_entries: bool

    async def call(self, words: list[str], expires: int | None) -> tuple[str, Any]:
        """Send an operation; return its whole name, and its result as `output.plain_result` takes it.

        Args:
            words: Name of the operation and its arguments, as `keyvalue-nats call` takes them.
            expires: Seconds until a written text expires; None: not given.

        Raises:
            CommandError: The words are no operation, or the provider has answered with an error, or not in time.
        """
        ...

    async def keys(self, prefix: str, cursor: str) -> Object:
        """Return one page of keys that begin with a text, each with kind and value, and the cursor of the next page.

        Raises:
            CommandError: The provider has answered with an error, or not in time.
        """
        ...

    def shown_operation(self, name: str) -> str:
        """Return the name of an operation in the provider's log as the list of calls shows it."""
        ...


class PageActor:
    """An actor of a lattice of 0.x."""

    kind = "actor"
    knows_entries = True

    def __init__(self, actor: Actor, reader: Actor) -> None:
        self._actor = actor
        self._reader = reader

    async def call(self, words: list[str], expires: int | None) -> tuple[str, Any]:
        request = request_from(words[0] if words else "", words[1:], expires)
        return operation_name(request), await self._actor.call(request)

    async def keys(self, prefix: str, cursor: str) -> Object:
        page = await self._reader.call(ListKeys(prefix, cursor, _PAGE_KEYS))
        return {"keys": await _each(page.keys, self._entry), "cursor": page.cursor}

    def shown_operation(self, name: str) -> str:
        return name.rpartition(".")[2]

    async def _entry(self, key: str) -> Object:
        entry: EntryResponse = await self._reader.call(GetEntry(key))
        if not entry.exists:
            return _gone(key)
        return {
            "key": key,
            "kind": entry.kind,
            "value": cut(entry.value, VALUE_CHARACTERS),
            "revision": entry.revision,
            "expires_seconds": entry.expires,
        }


class PageComponent:
    """A component of a lattice of 1.x. Its interface knows bytes: a counter is its digits, a list or a set a JSON array."""

    kind = "component"
    knows_entries = False

    def __init__(self, component: Component, reader: Component) -> None:
        self._component = component
        self._reader = reader

    async def call(self, words: list[str], expires: int | None) -> tuple[str, Any]:
        call = component_call_from(words[0] if words else "", words[1:], expires, str.encode)
        return wrpc.function_name(type(call)), shown_result(call, await self._component.call(call))

    async def keys(self, prefix: str, cursor: str) -> Object:
        keys: list[str] = []
        for _ in range(_MOST_PAGES):
            call = component_call_from("ListKeys", [cursor], None, str.encode)
            page = shown_result(call, await self._reader.call(call))
            keys += [key for key in page.keys if key.startswith(prefix)]
            cursor = page.cursor
            if not cursor or len(keys) >= _PAGE_KEYS:
                break
        return {"keys": await _each(keys, self._value), "cursor": cursor}

    def shown_operation(self, name: str) -> str:
        return name

    async def _value(self, key: str) -> Object:
        call = component_call_from("Get", [key], None, str.encode)
        found = shown_result(call, await self._reader.call(call))
        if isinstance(found, BinaryResponse):
            return {"key": key, "kind": "binary", "value": cut(found.value_base64, VALUE_CHARACTERS)}
        return {"key": key, "kind": "text", "value": cut(found.value, VALUE_CHARACTERS)} if found.exists else _gone(key)


async def _each(keys: list[str], read: Callable[[str], Awaitable[Object]]) -> list[Object]:
    """Read keys at the same time; one that cannot be read has its error."""

    async def one(key: str) -> Object:
        try:
            return await read(key)
        except CommandError as error:
            return {"key": key, "error": str(error)}

    return await asyncio.gather(*map(one, keys))


def _gone(key: str) -> Object:
    return {"key": key, "error": "deleted meanwhile"}
