"""The read lease of a replicated bucket: proof that the leader which answers a read is still the leader.

No read of JetStream is linearizable by itself: a leader that was cut off goes on answering for seconds. An
acknowledged write proves that its leader had a majority when the write was sent; a node that received it waits at
least four seconds before it stands for election. So for three seconds after a write was *sent*, once it is
acknowledged, no other leader can have been elected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LEASE_SECONDS = 3.0


class ReadLease:
    """Until when the leader is known to be the leader, on the event loop's clock."""

    def __init__(self, renew: Callable[[float], Awaitable[None]]) -> None:
        """Make a lease that has run out.

        Args:
            renew: Makes a tiny write to the stream before the given deadline and calls `extend` when it is
                acknowledged.
        """
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._renewing = asyncio.Lock()

    def extend(self, sent_at: float) -> None:
        """Note that a write sent at this time has been acknowledged."""
        self._until = max(self._until, sent_at + LEASE_SECONDS)

    async def hold(self, deadline: float) -> float:
        """Return until when the lease runs, renewing it once for everybody who waits.

        A read is valid when its reply is here before that time; a later extension does not count for it.

        Raises:
            errors.NatsError: It could not be renewed.
            TimeoutError: Not before the deadline.
        """
        if self._runs():
            return self._until
        async with asyncio.timeout_at(deadline), self._renewing:
            if not self._runs():
                await self._renew(deadline)
            return self._until

    def _runs(self) -> bool:
        return self._loop.time() < self._until
