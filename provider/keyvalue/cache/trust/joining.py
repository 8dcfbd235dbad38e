"""The rule by which a new replica decides that it has caught up with the others. Pure.

A joiner cannot know of changes that it has not heard of, and any member may announce anything. So it takes the word of no single
replica: it asks all that it hears. It has caught up when a transfer is complete, and each other replica either has nothing
more, or has been asked and did not deliver. Replicas that go on delivering are waited for only so long: nobody can tell a
large transfer from one that never ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from provider.keyvalue.cache.peers import Peers

OTHERS_SECONDS = 3.0
"""Time for other transfers after the first complete one with values: as long as a replica that says nothing is asked."""

_EMPTY_SECONDS = 10.0
"""The same after the first complete one without values, which any member can send: by then hundreds of others were asked."""

_FAILURES = 3
"""Pulls in vain before a replica counts as one that does not deliver, while no transfer has been complete: about ten seconds
of silence. One that was frozen, or is loaded, has answered by then."""


class Joining:
    """The outcomes of the pulls of a joiner. Times are seconds of a steady clock.

    Args:
        peers: Other replicas.
        lacks: Function that tells whether a replica, by its last heartbeat, has more than this one.
    """

    def __init__(self, peers: Peers, lacks: Callable[[str], bool]) -> None:
        self._peers = peers
        self._lacks = lacks
        self._failures: dict[str, int] = {}
        self._delivered: set[str] = set()
        self._until = math.inf
        """Time up to which other transfers are waited for."""
        self._has_values = False

    def note(self, peer: str, *, is_done: bool, has_values: bool, now: float) -> None:
        """Note the outcome of a pull: whether the transfer is complete, and whether it brought values."""
        self._failures = {name: count for name, count in self._failures.items() if self._peers.knows(name)}
        if is_done:
            self._delivered.add(peer)
            self._has_values = self._has_values or has_values
            self._until = min(self._until, now + (OTHERS_SECONDS if has_values else _EMPTY_SECONDS))
        else:
            self._failures[peer] = self._failures.get(peer, 0) + 1

    def has_caught_up(self, now: float) -> bool:
        """Tell whether this replica has what the others had when it started, as far as they deliver it.

        Without any other replica the answer is no: whether this one is alone is for others to say.
        """
        peers = self._peers.ids
        if not peers:
            return False
        if now >= self._until:
            return True
        # As long as nothing has come from anywhere, a replica that was asked in vain once may still be the only good one.
        patience = 1 if self._has_values else _FAILURES
        return all(
            peer in self._delivered or self._failures.get(peer, 0) >= patience or not self._lacks(peer)
            for peer in peers
        )
