"""One round: callers call, a fault is done and undone, and the history of it all is checked."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass

from tests.linearizability.callers import KINDS, Callers
from tests.linearizability.checker import UndecidedError, Violation, check
from tests.linearizability.faults import FAULTS
from tests.linearizability.history import Operation, Outcome
from tests.linearizability.model import READS
from tests.linearizability.providers import Providers

_CALLERS_PER_ACTOR = 4
_KEYS = [f"{kind}-{number}" for kind in KINDS for number in range(2)]
_WRITING = (0.0, 0.1, 0.5)


@dataclass(frozen=True)
class Round:
    """What became of a round.

    Attributes:
        fault: By its name in `FAULTS`.
        bucket: The round's own.
        history: All of it.
        violations: At most one per key.
        undecided: Why the history could not be checked, "" when it was.
        trouble: What did not come to pass in time, "" when all did: an answer of every provider after the fault, above all.
        seconds_until_served: From the end of the fault until every provider answered again.
        outage_seconds: The longest time in which no change was acknowledged anywhere.
    """

    fault: str
    bucket: str
    history: list[Operation]
    violations: list[Violation]
    undecided: str
    trouble: str
    seconds_until_served: float
    outage_seconds: float

    @property
    def outcomes(self) -> Counter[Outcome]:
        return Counter(operation.outcome for operation in self.history)

    @property
    def is_survived(self) -> bool:
        return not self.violations and not self.undecided and not self.trouble


async def play(providers: Providers, fault: str, consistency: str = "strong") -> Round:
    """Play one round on a bucket of its own.

    One provider, any, may write nothing or little: it lives by its lease alone.
    """
    async with providers.serving(CONSISTENCY=consistency) as (bucket, actors):
        writing = dict.fromkeys(actors, 0.5) | {random.choice(list(actors)): random.choice(_WRITING)}
        async with Callers(actors, _KEYS, callers=_CALLERS_PER_ACTOR, writing=writing) as callers:
            trouble, seconds_until_served = "", float("nan")
            try:
                seconds_until_served = await _do(providers, fault, bucket, callers)
            except (AssertionError, TimeoutError) as error:
                trouble = str(error)
        if not trouble:
            await callers.read_all()
    violations, undecided = await asyncio.to_thread(_checked, callers.history)
    outage = _longest_outage(callers.history)
    return Round(fault, bucket, callers.history, violations, undecided, trouble, seconds_until_served, outage)


async def _do(providers: Providers, fault: str, bucket: str, callers: Callers) -> float:
    """Do a fault and undo it; returns how many seconds later every provider answers again."""
    await callers.served()
    async with FAULTS[fault](providers.nodes, bucket):
        pass
    undone = time.monotonic()
    await callers.served()
    seconds = time.monotonic() - undone
    await callers.served(count=200)
    return seconds


def _checked(history: list[Operation]) -> tuple[list[Violation], str]:
    try:
        return check(history), ""
    except UndecidedError as error:
        return [], str(error)


def _longest_outage(history: list[Operation]) -> float:
    times = sorted(
        operation.returned
        for operation in history
        if operation.outcome is Outcome.ANSWERED and operation.name not in READS
    )
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)
