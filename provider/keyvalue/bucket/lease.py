"""The read lease of a replicated bucket: proof that the leader which answers a read is the only one.

No read of JetStream is linearizable by itself: a leader that was cut off goes on answering for seconds, and when it
comes back it answers beside its successor until it hears of it. That a write was acknowledged proves less than it seems:
a majority has it, so the others may elect a leader at any time (a replica that lacks it stands for election, one that has
it refuses and then stands for election itself, within a second), and the leader before may still be there.

What does prove it: every replica has a write that was sent at some moment. Then all of them follow the leader that sent
it to them, and for four seconds since that moment none of them stands for election.

Source: nats-server server/raft.go (minElectionTimeout, processVoteRequest); seen with 2.15.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from provider import errors
from provider.tasks import TaskOwner

LEASE_SECONDS = 3.0
_EARLY_SECONDS = 1.5
_RECENT_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_LOOK_PAUSES_SECONDS = (0.002, 0.005, 0.01, 0.02)
"""A majority acknowledges a write; the slowest replica has it a little later."""
_FIRST_UNFOLLOWED_SECONDS = 0.25
_LAST_UNFOLLOWED_SECONDS = 2.0
"""How long the leader is not asked again when a replica was missing; doubled every time."""


class Proof(NamedTuple):
    """What a read may rely on. Times are on the event loop's clock.

    Attributes:
        until: Until then the leader is the only one; a read is valid when its reply is here before. 0: not known.
        revision: When `until` is not known, that of a write which was sent after the read had begun.
        sent_at: When that write was sent.
    """

    until: float
    revision: int = 0
    sent_at: float = 0.0


class _Written(NamedTuple):
    sent_at: float
    revision: int


class ReadLease:
    """Until when the leader is known to be the only one.

    Args:
        write: Makes a tiny write to the stream before a deadline and returns its revision.
        is_followed: Asks the leader whether every replica has what was written up to a revision.
        tasks: Owns the renewal ahead of time.
    """

    def __init__(
        self,
        write: Callable[[float], Awaitable[int]],
        is_followed: Callable[[int, float], Awaitable[bool]],
        tasks: TaskOwner,
    ) -> None:
        self._write = write
        self._is_followed = is_followed
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._written = _Written(float("-inf"), 0)
        self._renewing = asyncio.Lock()
        self._ask_again_at = 0.0
        self._unfollowed_seconds = _FIRST_UNFOLLOWED_SECONDS
        self._asked = 0
        self._answered = 0
        self._proof = Proof(0.0)

    def note_write(self, sent_at: float, revision: int) -> None:
        """Note that a write sent at this time has been acknowledged."""
        if sent_at > self._written.sent_at:
            self._written = _Written(sent_at, revision)

    async def hold(self, deadline: float) -> Proof:
        """Return the lease, renewing it once for everybody who waits; without one, a write that everybody can use.

        Raises:
            errors.NatsError: There is no majority, or it cannot be reached.
            TimeoutError: Not before the deadline.
        """
        if self._runs():
            self._renew_early()
            return Proof(self._until)
        self._asked += 1
        asked = self._asked
        async with asyncio.timeout_at(deadline), self._renewing:
            if self._runs():
                return Proof(self._until)
            if self._answered < asked:
                latest = self._asked
                self._proof = await self._renew(deadline)
                self._answered = latest
            return self._proof

    def _runs(self) -> bool:
        return self._loop.time() < self._until

    def _renew_early(self) -> None:
        """While writes flow, renew the lease by one of them before it runs out: no read waits for it then."""
        now = self._loop.time()
        is_due = now > self._until - _EARLY_SECONDS and now >= self._ask_again_at
        if is_due and now - self._written.sent_at < _RECENT_SECONDS:
            self._ask_again_at = now + _PAUSE_SECONDS
            self._tasks.start(self._try_early(), "renew read lease")

    async def _try_early(self) -> None:
        try:
            await self._confirm(self._until)
        except (errors.NatsError, TimeoutError):
            return  # whoever reads next does it again, and says why it cannot be done

    async def _renew(self, deadline: float) -> Proof:
        now = self._loop.time()
        may_ask = now >= self._ask_again_at
        if may_ask and now - self._written.sent_at < _RECENT_SECONDS and await self._confirm(deadline):
            return Proof(self._until)
        sent_at = self._loop.time()
        revision = await self._write(deadline)
        if may_ask:
            for pause in _LOOK_PAUSES_SECONDS:
                if await self._confirm(deadline):
                    return Proof(self._until)
                await asyncio.sleep(pause)
            self._ask_again_at = self._loop.time() + self._unfollowed_seconds
            self._unfollowed_seconds = min(2 * self._unfollowed_seconds, _LAST_UNFOLLOWED_SECONDS)
        return Proof(0.0, revision, sent_at)

    async def _confirm(self, deadline: float) -> bool:
        """Ask whether all replicas have the last write; if so, the lease runs since it was sent."""
        sent_at, revision = self._written
        if not await self._is_followed(revision, deadline):
            return False
        self._until = max(self._until, sent_at + LEASE_SECONDS)
        self._unfollowed_seconds = _FIRST_UNFOLLOWED_SECONDS
        return self._runs()
