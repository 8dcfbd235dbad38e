"""One round: callers call, the cluster has a fault and recovers, and the history of all calls is checked."""

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
"""Enough to have calls of one provider overlap, few enough for histories that can be checked."""

_KEYS = [f"{kind}-{number}" for kind in KINDS for number in range(2)]
_WRITING = (0.0, 0.1, 0.5)
"""Shares of changes among the calls of the one provider that may write less than the others."""


@dataclass(frozen=True)
class Round:
    """The result of a round.

    Attributes:
        fault: Name of the fault in `FAULTS`.
        bucket: Bucket that only this round has used.
        history: All calls.
        violations: At most one per key.
        undecided: Reason why the history could not be checked, or "".
        trouble: Condition that was not met in time, or "". Usually it is that every provider answers after the fault.
        seconds_until_served: Time from the end of the fault until every provider answered again.
        outage_seconds: Longest time in which no change was acknowledged at any server.
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

    The actors of one provider, a random one, write little or nothing, so that its reads depend on its lease alone.
    """
    async with providers.serving(CONSISTENCY=consistency) as (bucket, actors):
        writing = dict.fromkeys(actors, 0.5) | {random.choice(list(actors)): random.choice(_WRITING)}
        async with Callers(actors, _KEYS, callers=_CALLERS_PER_ACTOR, writing=writing) as callers:
            trouble, seconds_until_served = "", float("nan")
            try:
                seconds_until_served = await _cause(providers, fault, bucket, callers)
            except (AssertionError, TimeoutError) as error:
                trouble = str(error)
        if not trouble:
            await callers.read_all()
    violations, undecided = await asyncio.to_thread(_checked, callers.history)
    outage = _longest_outage(callers.history)
    return Round(fault, bucket, callers.history, violations, undecided, trouble, seconds_until_served, outage)


async def _cause(providers: Providers, fault: str, bucket: str, callers: Callers) -> float:
    """Cause a fault and wait for its end. Return the seconds from there until every provider answers again."""
    await callers.served()
    await FAULTS[fault](providers.nodes, bucket)
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
