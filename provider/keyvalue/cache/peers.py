"""Which other replicas there are and what they have seen. Pure: times are arguments, in seconds of any steady clock.

A heartbeat carries the vector of the replicas that its sender knows to be alive, and a digest of the rest: replicas end
with their processes, but what they wrote stays, and so do their counts. Strays are part of the rest, also those of the
living: their author may have ended without anybody knowing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container

from provider.keyvalue.cache.cells import Context
from provider.keyvalue.cache.messages import Heartbeat

_MAX_PEERS = 1000


class _Peer:
    """Another replica."""

    __slots__ = ("confirmed", "heard_at", "heartbeat")

    def __init__(self, heartbeat: Heartbeat, heard_at: float) -> None:
        self.heartbeat = heartbeat
        self.heard_at = heard_at
        self.confirmed: dict[str, int] = {}
        """What it had seen at a time of which everything is known here."""


class Membership:
    """The replicas that have been heard of.

    Args:
        replica_id: The own.
        forget_seconds: A replica not heard of for longer is not waited for any more. When it comes back after all, it is
            sent everything.
    """

    def __init__(self, replica_id: str, forget_seconds: float) -> None:
        self.id = replica_id
        self.forget_seconds = forget_seconds
        self._peers: dict[str, _Peer] = {}

    @property
    def peers(self) -> list[str]:
        return list(self._peers)

    def heartbeat(self, context: Context, *, wants_answer: bool = False, is_leaving: bool = False) -> Heartbeat:
        """Make the own heartbeat."""
        alive = {self.id, *self._peers}
        vector = {replica: count for replica, count in context.vector.items() if replica in alive}
        return Heartbeat(vector, _digest(context, vector), wants_answer, is_leaving)

    def hear(self, replica: str, heartbeat: Heartbeat, now: float) -> bool:
        """Take in another replica's heartbeat; returns whether it was not known before."""
        peer = self._peers.get(replica)
        if peer is not None:
            peer.heartbeat, peer.heard_at = heartbeat, now
            return False
        if len(self._peers) >= _MAX_PEERS:
            return False
        self._peers[replica] = _Peer(heartbeat, now)
        return True

    def is_heard(self, replica: str, since: float) -> bool:
        """Tell whether a replica has been heard of since a time."""
        peer = self._peers.get(replica)
        return peer is not None and peer.heard_at >= since

    def is_leaving(self, replica: str) -> bool:
        """Tell whether a replica has said that it is about to end."""
        peer = self._peers.get(replica)
        return peer is not None and peer.heartbeat.is_leaving

    def leave(self, replica: str) -> None:
        """Note that a replica has ended."""
        self._peers.pop(replica, None)

    def forget_absent(self, now: float) -> list[str]:
        """Forget those that have not been heard of for too long; returns them."""
        absent = [name for name, peer in self._peers.items() if now - peer.heard_at > self.forget_seconds]
        for name in absent:
            del self._peers[name]
        return absent

    def is_ahead(self, replica: str, context: Context) -> bool:
        """Tell whether a replica has seen, by its last heartbeat, what a context has not."""
        peer = self._peers.get(replica)
        if peer is None:
            return False
        seen = peer.heartbeat.vector
        has_more = any(count > context.vector.get(name, 0) for name, count in seen.items())
        return has_more or peer.heartbeat.rest != _digest(context, seen)

    def is_behind(self, replica: str, context: Context) -> bool:
        """Tell whether a replica lacks, by its last heartbeat, something of a context's vector."""
        peer = self._peers.get(replica)
        if peer is None:
            return False
        seen = peer.heartbeat.vector
        return any(
            count > seen.get(name, 0) for name, count in context.vector.items() if name in seen or name == self.id
        )

    def confirm(self, context: Context) -> None:
        """Note of each replica what it has seen, where all that it had seen then is in the own context too."""
        for name, peer in self._peers.items():
            if not self.is_ahead(name, context):
                vector = peer.heartbeat.vector
                rest = {replica: count for replica, count in context.vector.items() if replica not in vector}
                peer.confirmed = {**rest, **vector}

    def stable(self, context: Context) -> dict[str, int]:
        """Return by replica up to which event everybody has taken in its events, as far as is known here.

        Whom another replica has heard of and this one has not counts as well: it has taken in nothing, for all that is
        known. None is waited for longer than `forget_seconds`, as all forget it then.
        """
        named = {name for peer in self._peers.values() for name in peer.heartbeat.vector}
        if not named <= {self.id, *self._peers}:
            return {}
        return {
            replica: min([count, *(peer.confirmed.get(replica, 0) for peer in self._peers.values())])
            for replica, count in context.vector.items()
        }


def _digest(context: Context, without: Container[str]) -> int:
    """Return a digest of a context in whatever order, some replicas left out of its vector."""
    digest = 0
    for replica, count in context.vector.items():
        if replica not in without:
            digest ^= _hash(f"{replica} {count}")
    for replica, counts in context.strays.items():
        digest ^= _hash(f"{replica} strays {sorted(counts)}")
    return digest


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
