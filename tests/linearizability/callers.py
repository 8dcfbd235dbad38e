"""Callers that call all the time, at every server of a cluster, and the history of their calls."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import nats.errors

from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.linearizability.history import Operation, Outcome
from tests.linearizability.model import READS

_LONG_BYTES, _FILLER = 12_000, "."
"""Length of the elements of a paged list or set. Six of them are more than one message of it holds, and one is less than a
quarter: so the value gets its pages and loses them again and again."""

_MEMBERS = tuple(f"m{number}" for number in range(8))
_LONGEST_PAUSE_SECONDS = 0.016
"""Keeps the processor from being busy with callers, so that servers and providers meet their own deadlines."""


class _Chance(NamedTuple):
    """An operation and how often it is called.

    Attributes:
        name: Name of the operation.
        weight: Frequency relative to other reads, or other changes, of the same kind of key.
        argument: Function that makes the argument from a number that no other call has.
    """

    name: str
    weight: int
    argument: Callable[[int], Any]


def _nothing(number: int) -> None:
    return None


def _member(number: int) -> str:
    return random.choice(_MEMBERS)


KINDS: dict[str, tuple[_Chance, ...]] = {
    "text": (_Chance("Get", 4, _nothing), _Chance("Contains", 1, _nothing), _Chance("Set", 8, str), _Chance("Del", 1, _nothing)),
    "count": (_Chance("Get", 1, _nothing), _Chance("Increment", 30, lambda number: number % 3 + 1), _Chance("Del", 1, _nothing)),
    "list": (_Chance("ListRange", 1, _nothing), _Chance("ListAdd", 10, str), _Chance("ListClear", 1, _nothing)),
    "set": (
        _Chance("SetQuery", 1, _nothing),
        _Chance("SetAdd", 10, _member),
        _Chance("SetDel", 6, _member),
        _Chance("SetClear", 1, _nothing),
    ),
    "pagedlist": (_Chance("ListRange", 1, _nothing), _Chance("ListAdd", 24, str), _Chance("ListClear", 1, _nothing)),
    "pagedset": (
        _Chance("SetQuery", 1, _nothing),
        _Chance("SetAdd", 10, _member),
        _Chance("SetDel", 6, _member),
        _Chance("SetClear", 1, _nothing),
    ),
}  # fmt: skip
"""The operations by the first part of a key's name. The first of each kind reads the whole value."""

_CALLS: dict[str, Callable[[Actor, str, Any], Awaitable[Any]]] = {
    "Get": lambda actor, key, _: actor.get(key),
    "Set": lambda actor, key, value: actor.set(key, value),
    "Del": lambda actor, key, _: actor.delete(key),
    "Contains": lambda actor, key, _: actor.contains(key),
    "Increment": lambda actor, key, amount: actor.increment(key, amount),
    "ListAdd": lambda actor, key, value: actor.list_add(key, value),
    "ListRange": lambda actor, key, _: actor.list_range(key),
    "ListClear": lambda actor, key, _: actor.list_clear(key),
    "SetAdd": lambda actor, key, member: actor.set_add(key, member),
    "SetDel": lambda actor, key, member: actor.set_del(key, member),
    "SetQuery": lambda actor, key, _: actor.set_query(key),
    "SetClear": lambda actor, key, _: actor.set_clear(key),
}


class Callers:
    """Callers with one call under way each, as an async context manager that stops them.

    Args:
        actors: Actors by the name of the server that their provider is connected to.
        keys: Names of a kind in `KINDS`, a dash, and any text.
        callers: Number of callers of each actor.
        writing: Share of changes among the calls of each actor, by the same names; 0: only reads.
    """

    def __init__(
        self, actors: Mapping[str, Actor], keys: list[str], *, callers: int, writing: Mapping[str, float]
    ) -> None:
        self.history: list[Operation] = []
        self._actors = actors
        self._keys = keys
        self._callers = callers
        self._writing = writing
        self._numbers = itertools.count()
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._call_on(f"{name}/{number}", actor, self._writing[name]))
            for name, actor in self._actors.items()
            for number in range(self._callers)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def served(self, *names: str, count: int = 10, deadline_seconds: float = 30) -> None:
        """Wait until `count` calls that began after now have been answered at each of the named servers, by default at all."""
        since = time.monotonic()

        def are_served() -> bool:
            return all(
                sum(1 for _ in itertools.islice(self._answered(name, since), count)) >= count
                for name in names or self._actors
            )

        await eventually(are_served, f"answers at {names or 'all servers'}", deadline_seconds)

    async def read_all(self) -> None:
        """Have every actor read every key once more."""
        for key in self._keys:
            chance = KINDS[key.partition("-")[0]][0]
            await asyncio.gather(
                *(self._call(f"{name}/last", actor, key, chance) for name, actor in self._actors.items())
            )

    def _answered(self, name: str, since: float) -> Iterator[Operation]:
        for operation in reversed(self.history):
            if operation.returned < since:
                return
            is_new = operation.invoked >= since and operation.caller.startswith(f"{name}/")
            if is_new and operation.outcome is Outcome.ANSWERED:
                yield operation

    async def _call_on(self, caller: str, actor: Actor, writing: float) -> None:
        while not self._is_over:
            key = random.choice(self._keys)
            is_change = random.random() < writing
            chances = [chance for chance in KINDS[key.partition("-")[0]] if (chance.name not in READS) == is_change]
            (chance,) = random.choices(chances, [chance.weight for chance in chances])
            await self._call(caller, actor, key, chance)
            await asyncio.sleep(random.random() * _LONGEST_PAUSE_SECONDS)

    async def _call(self, caller: str, actor: Actor, key: str, chance: _Chance) -> None:
        number = next(self._numbers)
        argument = chance.argument(number)
        invoked = time.monotonic()
        is_paged = key.startswith("paged")
        sent = argument.ljust(_LONG_BYTES, _FILLER) if is_paged and isinstance(argument, str) else argument
        try:
            result = _hashable(await _CALLS[chance.name](actor, key, sent))
            outcome = Outcome.ANSWERED
        except CallFailedError as error:
            result = str(error)
            outcome = Outcome.UNKNOWN if "outcome unknown" in result else Outcome.REFUSED
        except nats.errors.NoRespondersError:
            outcome, result = Outcome.REFUSED, "no provider"
        except nats.errors.TimeoutError:
            outcome, result = Outcome.UNKNOWN, "no answer"
        returned = time.monotonic()
        self.history.append(
            Operation(number, caller, key, chance.name, argument, invoked, returned, outcome, result)
        )  # fmt: skip


def _hashable(result: Any) -> Any:
    match result:
        case list():
            return tuple(element.rstrip(_FILLER) for element in result)
        case set():
            return frozenset(element.rstrip(_FILLER) for element in result)
    return result
