"""Callers at every replica who never stop, and a ledger that knows what the replicas must agree on afterwards.

These hold, whatever was cut while they called:

- a counter that is only incremented is the sum of the acknowledged increments;
- a member added once is there if and only if no delete of it found it;
- a member or text that one caller alone writes is as its last write left it;
- a text that all write is one after whose writing nobody began another;
- an item added after the last clear had ended is there.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import nats.errors

from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.replicas import State

COUNTERS = [f"n:{number}" for number in range(4)]
LISTS = [f"l:{number}" for number in range(4)]
SETS = [f"s:{number}" for number in range(4)]
TEXTS = [f"t:shared-{number}" for number in range(3)]
OF_ANY_KIND = [f"x:{number}" for number in range(4)]
OWNED = "s:owned"
CLEARED_LIST, CLEARED_SET = "l:cleared", "s:cleared"
CALLERS_PER_REPLICA = 4

_AMOUNTS = (1, 1, 1, 2, 7, -1)
_OWNED_MEMBERS = 4
_LOST = object()
_WRONG_KIND = "but the operation is for"


@dataclass
class TextWrite:
    """When a write of a text that all write was under way, in seconds of the monotonic clock."""

    began: float
    ended: float
    value: str


@dataclass
class ReplicaLedger:
    """The answers that callers got. `lost`: whether a change whose call was not answered happened."""

    totals: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    least: Counter[str] = field(default_factory=Counter)
    added: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    removed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    uncertain: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    owned_texts: dict[str, str | None] = field(default_factory=dict)
    owned_members: dict[str, bool] = field(default_factory=dict)
    writes: dict[str, list[TextWrite]] = field(default_factory=lambda: defaultdict(list))
    added_when: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    last_clear_ended: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    slowest_seconds: float = 0.0

    @property
    def keys(self) -> list[str]:
        """Every key that callers may have written."""
        always = [*COUNTERS, *LISTS, *SETS, *TEXTS, *OF_ANY_KIND, OWNED, CLEARED_LIST, CLEARED_SET]
        return [*always, *self.owned_texts]

    def check(self, found: State, *, may_be_unanswered: bool = False) -> None:
        """Compare a state that all replicas have with what callers were told."""
        assert self.refused == [], self.refused[:5]
        assert self.wrong == [], self.wrong[:5]
        if not may_be_unanswered:
            assert self.unanswered == [], (len(self.unanswered), self.unanswered[:5])
        for key in COUNTERS:
            total = int(found[key] or 0)
            low, high = self.totals[key] + self.least[key], self.totals[key] + self.most[key]
            assert low <= total <= high, f"{key} is {total}, acknowledged {low} to {high}"
        for key in (*LISTS, *SETS):
            self._check_members(key, found[key])
        for key, text in self.owned_texts.items():
            assert key in self.uncertain or found[key] == text, f"{key} is {found[key]!r}, its writer left {text!r}"
        for member, is_there in self.owned_members.items():
            if member not in self.uncertain[OWNED]:
                assert (member in found[OWNED]) == is_there, f"{member}: its writer left {is_there}"
        for key, writes in self.writes.items():
            self._check_last(key, writes, found[key])
        for key, added in self.added_when.items():
            after = {member for member, began in added.items() if began > self.last_clear_ended.get(key, 0.0)}
            assert after <= set(found[key]), f"{key}: {after - set(found[key])} added after the last clear are gone"
            assert set(found[key]) <= set(added) | self.uncertain[key]

    def _check_members(self, key: str, found: Any) -> None:
        members = list(found)
        assert len(set(members)) == len(members), f"{key} has members twice: {Counter(members).most_common(3)}"
        expected = self.added[key] - self.removed[key]
        lost = expected - set(members) - self.uncertain[key]
        returned = set(members) - expected - self.uncertain[key]
        assert not lost, f"{key}: {len(lost)} of {len(expected)} that nobody deleted are gone: {sorted(lost)[:5]}"
        assert not returned, f"{key}: {len(returned)} that were deleted are there: {sorted(returned)[:5]}"

    def _check_last(self, key: str, writes: list[TextWrite], found: Any) -> None:
        if key in self.uncertain:
            return
        last = next((write for write in writes if write.value == found), None)
        assert last is not None, f"{key} is {found!r}, which nobody wrote"
        later = [write for write in writes if write.began > last.ended]
        assert not later, f"{key} is {last}, but {len(later)} writes began after it, as {later[-1]}"


class ReplicaLoad:
    """Callers on all replicas. An async context manager; when it has ended, no call is under way.

    Args:
        actors: One for each replica.
        seed: What callers do depends on it alone.
        operations: Names of what they do, each as often as the others; `None`: everything.
        ledger: One to go on with; `None`: a new one.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        seed: int,
        operations: Sequence[str] | None = None,
        ledger: ReplicaLedger | None = None,
    ) -> None:
        self.ledger = ledger or ReplicaLedger()
        self._is_over = asyncio.Event()
        self._callers = [
            _Caller(actor, self.ledger, (replica, number), random.Random(f"{seed}-{replica}-{number}"), operations)
            for replica, actor in enumerate(actors)
            for number in range(CALLERS_PER_REPLICA)
        ]
        self._replicas = range(len(actors))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(caller.run(self._is_over)) for caller in self._callers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def progress(self, what: str, calls: int = 100, deadline_seconds: float = 8) -> None:
        """Wait until every replica has answered so many more calls."""
        enough = {replica: self.ledger.answered[replica] + calls for replica in self._replicas}
        await eventually(
            lambda: all(self.ledger.answered[replica] >= enough[replica] for replica in self._replicas),
            f"{what}: {calls} answers of each replica; unanswered {self.ledger.unanswered[:3]}",
            deadline_seconds,
        )


_names = itertools.count()


class _Caller:
    """One who makes one call after the other at one replica."""

    def __init__(
        self,
        actor: Actor,
        ledger: ReplicaLedger,
        place: tuple[int, int],
        source: random.Random,
        operations: Sequence[str] | None,
    ) -> None:
        self._actor = actor
        self._ledger = ledger
        self._replica = place[0]
        self._name = f"{place[0]}.{place[1]}.{next(_names)}"
        self._numbers = itertools.count()
        self._source = source
        table: dict[str, Callable[[], Awaitable[None]]] = {
            "increment": self._increment,
            "list_add": self._list_add,
            "list_del": self._list_del,
            "set_add": self._set_add,
            "set_del": self._set_del,
            "owned_text": self._owned_text,
            "owned_member": self._owned_member,
            "shared_text": self._shared_text,
            "any_kind": self._any_kind,
            "clear": self._clear,
            "read": self._read,
        }
        self._steps = [table[name] for name in operations or table]

    async def run(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            await self._source.choice(self._steps)()

    async def _try(self, what: str, call: Awaitable[Any], may_be_refused: str | None = None) -> Any:
        """Make a call and return its result, `_LOST` without an answer; a refusal that is no fault counts as None."""
        began = time.monotonic()
        try:
            result = await call
        except CallFailedError as error:
            self._ledger.answered[self._replica] += 1
            if may_be_refused is None or may_be_refused not in str(error):
                self._ledger.refused.append(f"{what} at {self._replica}: {error}")
            result = None
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError, nats.errors.ConnectionClosedError) as error:
            self._ledger.unanswered.append(f"{what} at {self._replica}: {type(error).__name__}")
            await asyncio.sleep(0.01)
            return _LOST
        else:
            self._ledger.answered[self._replica] += 1
        self._ledger.slowest_seconds = max(self._ledger.slowest_seconds, time.monotonic() - began)
        return result

    def _new(self) -> str:
        return f"{self._name}-{next(self._numbers)}"

    async def _increment(self) -> None:
        key, amount = self._source.choice(COUNTERS), self._source.choice(_AMOUNTS)
        if await self._try("Increment", self._actor.increment(key, amount)) is _LOST:
            (self._ledger.most if amount > 0 else self._ledger.least)[key] += amount
        else:
            self._ledger.totals[key] += amount

    async def _list_add(self) -> None:
        key, value = self._source.choice(LISTS), self._new()
        await self._add(key, value, self._actor.list_add(key, value))

    async def _set_add(self) -> None:
        key, value = self._source.choice(SETS), self._new()
        await self._add(key, value, self._actor.set_add(key, value))

    async def _add(self, key: str, value: str, call: Awaitable[Any]) -> None:
        result = await self._try(f"add to {key}", call)
        if result is _LOST:
            self._ledger.uncertain[key].add(value)
        elif not result:
            self._ledger.wrong.append(f"adding {value} to {key} answered {result}")
        self._ledger.added[key].add(value)

    async def _list_del(self) -> None:
        key = self._source.choice(LISTS)
        members = await self._try("ListRange", self._actor.list_range(key))
        if members is not _LOST and members:
            value = self._source.choice(members)
            await self._remove(key, value, self._actor.list_del(key, value))

    async def _set_del(self) -> None:
        key = self._source.choice(SETS)
        members = await self._try("SetQuery", self._actor.set_query(key))
        if members is not _LOST and members:
            value = self._source.choice(sorted(members))
            await self._remove(key, value, self._actor.set_del(key, value))

    async def _remove(self, key: str, value: str, call: Awaitable[Any]) -> None:
        result = await self._try(f"delete from {key}", call)
        if result is _LOST:
            self._ledger.uncertain[key].add(value)
        elif result:
            self._ledger.removed[key].add(value)

    async def _owned_text(self) -> None:
        key = f"t:{self._name}"
        before = self._ledger.owned_texts.get(key)
        if self._source.random() < 0.3:
            result = await self._try("Del", self._actor.delete(key))
            self._expect(key, result, expected=before is not None)
            after = None
        else:
            after = self._new()
            result = await self._try("Set", self._actor.set(key, after))
        if result is _LOST:
            self._ledger.uncertain[key].add(key)
        self._ledger.owned_texts[key] = after

    async def _owned_member(self) -> None:
        member = f"{self._name}-{self._source.randrange(_OWNED_MEMBERS)}"
        before, is_add = self._ledger.owned_members.get(member, False), self._source.random() < 0.6
        if is_add:
            result = await self._try("SetAdd", self._actor.set_add(OWNED, member))
            self._expect(member, result, expected=0 if before else 1)
        else:
            result = await self._try("SetDel", self._actor.set_del(OWNED, member))
            self._expect(member, result, expected=1 if before else 0)
        if result is _LOST:
            self._ledger.uncertain[OWNED].add(member)
        self._ledger.owned_members[member] = is_add

    def _expect(self, what: str, result: Any, *, expected: Any) -> None:
        """Note a result that is not the one that the only writer must get."""
        is_known = what not in self._ledger.uncertain and what not in self._ledger.uncertain[OWNED]
        if result is not _LOST and is_known and result != expected:
            self._ledger.wrong.append(f"{what}: its only writer was answered {result}, not {expected}")

    async def _shared_text(self) -> None:
        key, value, began = self._source.choice(TEXTS), self._new(), time.monotonic()
        if await self._try("Set", self._actor.set(key, value)) is _LOST:
            self._ledger.uncertain[key].add(value)
        self._ledger.writes[key].append(TextWrite(began, time.monotonic(), value))

    async def _any_kind(self) -> None:
        key, value = self._source.choice(OF_ANY_KIND), self._source.choice("abc")
        calls = (
            lambda: self._actor.set(key, self._new(), self._source.choice((0, 0, 1))),
            lambda: self._actor.increment(key),
            lambda: self._actor.list_add(key, value),
            lambda: self._actor.list_del(key, value),
            lambda: self._actor.list_clear(key),
            lambda: self._actor.set_add(key, value),
            lambda: self._actor.set_del(key, value),
            lambda: self._actor.set_clear(key),
            lambda: self._actor.delete(key),
        )
        await self._try(f"a change of {key}", self._source.choice(calls)(), may_be_refused=_WRONG_KIND)

    async def _clear(self) -> None:
        key, value, began = self._source.choice((CLEARED_LIST, CLEARED_SET)), self._new(), time.monotonic()
        if self._source.random() < 0.1:
            clear = self._actor.list_clear(key) if key == CLEARED_LIST else self._actor.set_clear(key)
            await self._try(f"clear of {key}", clear)
            self._ledger.last_clear_ended[key] = time.monotonic()
            return
        call: Awaitable[Any]
        call = self._actor.list_add(key, value) if key == CLEARED_LIST else self._actor.set_add(key, value)
        if await self._try(f"add to {key}", call) is _LOST:
            self._ledger.uncertain[key].add(value)
        else:
            self._ledger.added_when[key][value] = began

    async def _read(self) -> None:
        reads = (
            lambda: self._actor.get(self._source.choice(COUNTERS)),
            lambda: self._actor.contains(self._source.choice(OF_ANY_KIND)),
            lambda: self._actor.set_union(*SETS),
            lambda: self._actor.set_intersection(*SETS),
            lambda: self._actor.list_range(self._source.choice(LISTS), -3, -1),
        )
        await self._try("a read", self._source.choice(reads)())
