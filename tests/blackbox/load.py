"""Callers that call all the time, and ledgers that show afterwards which changes must be there and which must not."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import nats.errors

from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor

INCREMENTERS = 32
ADDERS = 4
OWNERS = 4
READERS = 4
LISTS = 8
ABSENT = ""
CHECK_SECONDS = 15.0
"""Time in which a read at the end must be answered: an election may still be under way, on a busy machine for seconds."""


@dataclass
class Ledger:
    """The outcomes of one kind of change. `unanswered`: there was no answer."""

    served: list[Any] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)
    unknown: list[Any] = field(default_factory=list)
    unanswered: list[Any] = field(default_factory=list)

    @property
    def uncertain(self) -> int:
        return len(self.unknown) + len(self.unanswered)


class Load:
    """A mix of changes and reads on one link, as an async context manager that checks its ledgers at the end.

    Args:
        actor: Actor that makes the changes; its `caller_seconds` is the time limit of an answer.
        reader: Actor that reads them; `None`: the same actor.
        may_be_unanswered: Whether calls may be lost, because the provider or the lattice itself fails.
    """

    def __init__(self, actor: Actor, reader: Actor | None = None, *, may_be_unanswered: bool = False) -> None:
        self.increments, self.list_adds, self.set_adds = Ledger(), Ledger(), Ledger()
        self.errors: Counter[str] = Counter()
        self.slowest_seconds = 0.0
        self.reads = Ledger()
        self._actor = actor
        self._reader = reader or actor
        self._may_be_unanswered = may_be_unanswered
        self._numbers = itertools.count()
        self._highest_total = 0
        self._stale: list[str] = []
        self._possible: list[set[str]] = [{ABSENT} for _ in range(OWNERS)]
        self._impossible: list[str] = []
        self._is_over = False
        self._callers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        callers = [
            *(self._increment() for _ in range(INCREMENTERS)),
            *(self._list_add() for _ in range(ADDERS)),
            *(self._set_add() for _ in range(ADDERS)),
            *(self._set_and_delete(owner) for owner in range(OWNERS)),
            *(self._read() for _ in range(READERS)),
        ]
        self._callers = [asyncio.create_task(self._forever(caller)) for caller in callers]
        await self.progress("the first answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)
        if error is None:
            await self._check()

    async def progress(self, what: str, deadline_seconds: float = 15) -> None:
        """Wait until a number of changes of every kind have been acknowledged from now on."""
        ledgers = (self.increments, self.list_adds, self.set_adds)
        enough = [len(ledger.served) + count for ledger, count in zip(ledgers, (200, 20, 20), strict=True)]
        await eventually(
            lambda: all(len(ledger.served) >= count for ledger, count in zip(ledgers, enough, strict=True)),
            f"{what}; errors so far {self.errors.most_common(5)}",
            deadline_seconds,
        )

    async def trouble(self, what: str, count: int = INCREMENTERS, deadline_seconds: float = 5) -> None:
        """Wait until `count` more calls have failed."""
        enough = sum(self.errors.values()) + count
        await eventually(lambda: sum(self.errors.values()) >= enough, what, deadline_seconds)

    # --- callers

    async def _forever(self, caller: Any) -> None:
        while not self._is_over:
            await anext(caller)

    async def _try(self, call: Coroutine[Any, Any, Any], what: Any, ledger: Ledger) -> Any:
        """Make a call and note its outcome. Return the result, or `None` without one."""
        began = time.monotonic()
        try:
            result = await call
        except CallFailedError as error:
            text = str(error)
            (ledger.unknown if "outcome unknown" in text else ledger.refused).append(what)
            self.errors[text.partition(": ")[2][:90]] += 1
        except nats.errors.NoRespondersError:
            ledger.refused.append(what)
            self.errors["no responders"] += 1
            await asyncio.sleep(0.01)
        except (nats.errors.TimeoutError, nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError):
            ledger.unanswered.append(what)
            self.errors["no answer"] += 1
        else:
            ledger.served.append((what, result))
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            return result
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        return None

    async def _increment(self) -> Any:
        while True:
            total = await self._try(self._actor.increment("hot"), 1, self.increments)
            self._highest_total = max(self._highest_total, total or 0)
            yield

    async def _list_add(self) -> Any:
        while True:
            number = next(self._numbers)
            await self._try(self._actor.list_add(f"list{number % LISTS}", str(number)), str(number), self.list_adds)
            yield

    async def _set_add(self) -> Any:
        while True:
            number = next(self._numbers)
            await self._try(self._actor.set_add(f"set{number % LISTS}", str(number)), str(number), self.set_adds)
            yield

    async def _set_and_delete(self, owner: int) -> Any:
        """Set and delete a key that no other caller writes, and keep track of its possible values."""
        key, possible = f"own{owner}", self._possible[owner]
        while True:
            value, ledger = str(next(self._numbers)), Ledger()
            await self._try(self._actor.set(key, value), value, ledger)
            _note(possible, value, ledger)
            read = await self._try(self._read_text(self._reader, key), key, Ledger())
            if read is not None and read not in possible:
                self._impossible.append(f"{key} read {read!r}, possible {sorted(possible)}")
            ledger = Ledger()
            was_there = await self._try(self._actor.delete(key), ABSENT, ledger)
            if was_there is not None and not ({True} if ABSENT not in possible else {True, False}) & {was_there}:
                self._impossible.append(f"Del {key} answered {was_there}, possible {sorted(possible)}")
            _note(possible, ABSENT, ledger)
            yield

    async def _read_text(self, actor: Actor, key: str) -> str:
        return await actor.get(key) or ABSENT

    async def _read(self) -> Any:
        while True:
            highest = self._highest_total
            text = await self._try(self._read_text(self._reader, "hot"), "hot", self.reads)
            if text is not None and int(text or 0) < highest:
                self._stale.append(f"read {text!r} after {highest} was acknowledged")
            yield

    # --- checks at the end

    async def _check(self) -> None:
        errors = self.errors.most_common(5)
        assert self._stale == [], self._stale[:5]
        assert self._impossible == [], self._impossible[:5]
        if not self._may_be_unanswered:
            unanswered = [self.increments.unanswered, self.list_adds.unanswered, self.set_adds.unanswered]
            assert unanswered == [[], [], []], errors
        await self._check_total()
        await self._check_members(self.list_adds, "list", self._lists())
        await self._check_members(self.set_adds, "set", self._sets())
        for owner, possible in enumerate(self._possible):
            text = await answered(self._read_text, self._actor, f"own{owner}")
            assert text in possible, (owner, text, possible, errors)

    async def _check_total(self) -> None:
        totals = [total for _, total in self.increments.served]
        assert len(set(totals)) == len(totals), Counter(totals).most_common(3)
        text = await answered(self._actor.get, "hot")
        assert text is not None
        final, least = int(text), len(totals)
        assert least <= final <= least + self.increments.uncertain, (final, least, self.increments.uncertain)
        assert max(totals) <= final

    async def _check_members(self, ledger: Ledger, name: str, reading: Coroutine[Any, Any, Counter[str]]) -> None:
        found = await reading
        lost = [member for member, _ in ledger.served if not found[member]]
        assert lost == [], f"{len(lost)} acknowledged members are not in their {name}: {lost[:5]}"
        unexpected = [member for member in ledger.refused if found[member]]
        assert unexpected == [], f"{len(unexpected)} refused members are in their {name}: {unexpected[:5]}"
        doubled = [member for member, count in found.items() if count > 1]
        assert doubled == [], f"{len(doubled)} members are twice in their {name}: {doubled[:5]}"

    async def _lists(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(LISTS):
            found.update(await answered(self._actor.list_range, f"list{number}"))
        return found

    async def _sets(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(LISTS):
            found.update(await answered(self._actor.set_query, f"set{number}"))
        return found


async def answered(read: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Repeat a read that found no leader until it is answered."""
    deadline = time.monotonic() + CHECK_SECONDS
    while True:
        try:
            return await read(*arguments)
        except CallFailedError as error:
            if "store timeout" not in str(error) or time.monotonic() > deadline:
                raise


def _note(possible: set[str], value: str, ledger: Ledger) -> None:
    """Note the possible values of a key after a change."""
    if ledger.served:
        possible.clear()
    if ledger.served or ledger.uncertain:
        possible.add(value)
