"""The read lease of a replicated bucket: proof that the leader which answers a read is the only one.

No JetStream read is linearizable by itself. A leader that was cut off from its peers goes on answering for seconds; when the
network heals, it answers beside its successor until it learns of it.

An acknowledged write is not enough of a proof. A majority has the write, but the other replicas may elect a leader at any
time: a replica that lacks the write stands for election; one that has it refuses its vote, and within a second stands for
election itself. Meanwhile the old leader may still answer.

The proof is a write that every replica has. All of them then follow the leader that sent it to them, and for four seconds
from the moment of sending none of them stands for election.

Source: nats-server server/raft.go (minElectionTimeout, processVoteRequest); observed with 2.15.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from provider import errors
from provider.tasks import TaskOwner

LEASE_SECONDS = 3.0
"""Length of a lease from the moment its write was sent. No replica stands for election for four seconds; the fourth is the
margin for clocks that run at different rates and for servers that are suspended."""

_AHEAD_SECONDS = 1.5
"""Rest of a lease at which it is renewed ahead of time: half of it, so that a failed renewal can be repeated."""

_RECENT_SECONDS = 1.0
"""Age up to which a caller's write is used for a lease instead of a write of our own: at least two seconds are left then."""

_AHEAD_PAUSE_SECONDS = 0.05
"""Pause between renewals ahead of time: enough for the slowest replica to get the write, without one request per read."""

_CONFIRM_PAUSES_SECONDS = (0.002, 0.005, 0.01, 0.02)
"""Pauses before the leader is asked again whether all replicas have a write. A majority acknowledges it; the slowest replica
usually has it some milliseconds later."""

_FIRST_UNCONFIRMED_SECONDS = 0.25
"""Time without questions to the leader after a replica was missing; doubled each time. Until then each read pays for a write
alone."""

_LAST_UNCONFIRMED_SECONDS = 2.0
"""Longest such time. A replica that comes back gives the lease back at most this much later."""


class Proof(NamedTuple):
    """The grounds on which a strong read may answer. Times are on the event loop's clock.

    Attributes:
        until: Time until which the leader is the only one: its reply is valid if it arrives before. 0: there is no lease.
        revision: Without a lease, the revision of a write that was sent after the read began.
        sent_at: The time at which that write was sent.
    """

    until: float
    revision: int = 0
    sent_at: float = 0.0


class _Written(NamedTuple):
    """An acknowledged write."""

    sent_at: float
    revision: int


class ReadLease:
    """The lease of one bucket. It costs nothing while writes flow, and one small write every three seconds otherwise.

    Args:
        write: Makes a small write to the stream before a deadline and returns its revision.
        is_everywhere: Asks the leader whether every replica has the stream up to a revision.
        tasks: Owner of the renewals ahead of time.

    Attributes:
        renewals: Number of writes made for the lease.
        misses: Number of renewals that got no lease, because a replica was missing.
    """

    def __init__(
        self,
        write: Callable[[float], Awaitable[int]],
        is_everywhere: Callable[[int, float], Awaitable[bool]],
        tasks: TaskOwner,
    ) -> None:
        self._write = write
        self._is_everywhere = is_everywhere
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self.renewals = 0
        self.misses = 0
        self._until = 0.0
        self._written = _Written(float("-inf"), 0)
        """The acknowledged write that was sent last."""
        self._renewing = asyncio.Lock()
        self._confirm_again_at = 0.0
        self._unconfirmed_seconds = _FIRST_UNCONFIRMED_SECONDS
        self._asked = 0
        """Reads that had to wait for a renewal, so far."""
        self._served = 0
        """The value of `_asked` when the last renewal began: it serves the reads up to there."""
        self._proof = Proof(0.0)
        """The result of the last renewal."""

    def is_running(self) -> bool:
        """Tell whether reads need no further proof now."""
        return self._loop.time() < self._until

    def note_write(self, sent_at: float, revision: int) -> None:
        """Note that a write which was sent at this time has been acknowledged."""
        if sent_at > self._written.sent_at:
            self._written = _Written(sent_at, revision)

    async def hold(self, deadline: float) -> Proof:
        """Return the running lease, or renew it once for all reads that wait.

        If a replica is missing there is no lease to be had. Then the proof names a write that was sent after the read began.

        Raises:
            errors.NatsError: There is no majority, or it cannot be reached.
            TimeoutError: The deadline has come.
        """
        # 1. A lease that runs costs nothing.
        if self.is_running():
            self._renew_ahead()
            return Proof(self._until)
        self._asked += 1
        asked = self._asked
        async with asyncio.timeout_at(deadline), self._renewing:
            # 2. Another read has renewed the lease while this one waited for its turn.
            if self.is_running():
                return Proof(self._until)
            # 3. Renew, unless the last renewal began after this read asked. One that began before may rest on a write
            #    that is older than this read, and would not show what was acknowledged in between.
            if self._served < asked:
                latest = self._asked
                self._proof = await self._renew(deadline)
                self._served = latest
            return self._proof

    def _renew_ahead(self) -> None:
        """While callers write, renew the lease by one of their writes before it ends, so that no read waits for it."""
        now = self._loop.time()
        is_due = now > self._until - _AHEAD_SECONDS and now >= self._confirm_again_at
        if is_due and now - self._written.sent_at < _RECENT_SECONDS:
            self._confirm_again_at = now + _AHEAD_PAUSE_SECONDS
            self._tasks.start(self._confirm_ahead(), "renew read lease")

    async def _confirm_ahead(self) -> None:
        try:
            await self._confirm(self._until)
        except (errors.NatsError, TimeoutError):
            return  # the next read that finds no lease tries again, and gets the error

    async def _renew(self, deadline: float) -> Proof:
        """Make a lease; if a replica is missing, return a write instead."""
        now = self._loop.time()
        may_confirm = now >= self._confirm_again_at
        # 1. A caller's recent write may be on all replicas: one question, no write of our own.
        if may_confirm and now - self._written.sent_at < _RECENT_SECONDS and await self._confirm(deadline):
            return Proof(self._until)
        # 2. Write, and ask until the slowest replica has it.
        sent_at = self._loop.time()
        revision = await self._write(deadline)
        self.renewals += 1
        if may_confirm:
            for pause in _CONFIRM_PAUSES_SECONDS:
                if await self._confirm(deadline):
                    return Proof(self._until)
                await asyncio.sleep(pause)
            # 3. A replica is down or far behind: do not ask again for a while.
            self._confirm_again_at = self._loop.time() + self._unconfirmed_seconds
            self._unconfirmed_seconds = min(2 * self._unconfirmed_seconds, _LAST_UNCONFIRMED_SECONDS)
        self.misses += 1
        # 4. Without a lease, this write proves which replica has everything that was acknowledged before the read began.
        return Proof(0.0, revision, sent_at)

    async def _confirm(self, deadline: float) -> bool:
        """Ask whether all replicas have the last write; if so, the lease runs from the moment at which it was sent."""
        sent_at, revision = self._written
        if not await self._is_everywhere(revision, deadline):
            return False
        self._until = max(self._until, sent_at + LEASE_SECONDS)
        self._unconfirmed_seconds = _FIRST_UNCONFIRMED_SECONDS
        return self.is_running()
