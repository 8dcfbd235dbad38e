"""The other replicas, and the events that each of them has applied. Pure: times are seconds of a steady clock.

A heartbeat carries the version vector of the replicas that its sender knows to be alive, and a digest of the rest of
the context: a replica ends with its process, but its events and their counters stay. Dot clouds are part of the rest,
also those of living replicas, as such a replica may have ended unnoticed.
"""

from __future__ import annotations

import functools
import math
from collections import ChainMap
from collections.abc import Callable, Mapping

from provider.keyvalue.cache.causality import Context
from provider.keyvalue.cache.messages import Heartbeat

_MAX_PEERS = 1000
"""Replicas that are remembered: far more than a lattice has. Beyond that, the one that was silent longest makes room."""

_MAX_NAMES = 250_000
"""Replicas that all heartbeats together name, as each takes up to 200 bytes: 500 replicas that name each other. Beyond that, the
same ones make room."""

_UNMET_SECONDS = 30.0
"""Time after which a silent replica is forgotten that has never named this one. It may have been a recording."""


class _Peer:
    """Another replica."""

    __slots__ = (
        "confirmed",
        "heartbeat",
        "is_bound",
        "is_proven",
        "is_signed",
        "received_at",
        "told",
        "unheard_since",
    )

    def __init__(self, heartbeat: Heartbeat, received_at: float, *, is_signed: bool) -> None:
        self.heartbeat = heartbeat
        self.received_at = received_at
        self.is_signed = is_signed
        self.is_bound = False
        """True once a signed heartbeat of it has named this replica."""
        self.is_proven = False
        """True once it has delivered all that it announced, or announced nothing that is missing here."""
        self.told = 0
        """Number of its events by its own word."""
        self.unheard_since = received_at
        """Time of the first of its heartbeats since the last one that named this replica."""
        self.confirmed: Mapping[str, int] = {}
        """Version vector of a context of this peer that the own context covers."""

    @property
    def is_met(self) -> bool:
        """True if it is proven to live now, or signs nothing. Anything else may be a recording."""
        return self.is_bound or not self.is_signed


class Peers:
    """The replicas that have sent a heartbeat.

    Args:
        replica_id: Id of the own replica.
        forget_seconds: Time after which a silent replica is not waited for any more. If it comes back, it is sent all
            keys.
    """

    def __init__(self, replica_id: str, forget_seconds: float) -> None:
        self.id = replica_id
        self.forget_seconds = forget_seconds
        self._peers: dict[str, _Peer] = {}
        self._names = 0
        """Number of replicas that their last heartbeats name, all together."""

    @property
    def ids(self) -> list[str]:
        """Ids of the replicas that hear this one too, or that do not sign."""
        return [name for name, peer in self._peers.items() if peer.is_met]

    @property
    def unmet_ids(self) -> list[str]:
        """Ids of replicas that have been heard of late and have not named this one: it is not sure that they live."""
        return [name for name, peer in self._peers.items() if not peer.is_met]

    @property
    def without_pieces(self) -> list[str]:
        """Ids of replicas of earlier releases, which take no text that does not fit into a message."""
        return [name for name, peer in self._peers.items() if peer.is_met and not peer.heartbeat.takes_pieces]

    # --- heartbeats

    def heartbeat(
        self, context: Context, *, wants_answer: bool = False, is_leaving: bool = False, names_idle: bool = True
    ) -> Heartbeat:
        """Return the own heartbeat. It names all replicas that are heard, so that each learns that it is.

        Args:
            context: Own context.
            wants_answer: Whether the others answer with theirs at once.
            is_leaving: Whether this replica is about to end.
            names_idle: Whether replicas are named that have made no event. Releases that do not sign refuse that.
        """
        counts = {replica: context.vector.get(replica, 0) for replica in (self.id, *self._peers)}
        vector = {replica: count for replica, count in counts.items() if count or names_idle}
        return Heartbeat(vector, context.digest(vector), wants_answer, is_leaving, takes_pieces=True)

    def receive(self, peer_id: str, heartbeat: Heartbeat, now: float, *, is_signed: bool = True) -> bool:
        """Note the heartbeat of another replica; return whether that replica needs to hear from this one.

        It does if it is new, or does not name this replica. An unsigned heartbeat in the name of a replica that signs is
        ignored.
        """
        peer = self._peers.get(peer_id)
        if peer is not None and peer.is_signed and not is_signed:
            return False
        is_new = peer is None
        if peer is None:
            if len(self._peers) >= _MAX_PEERS:
                self._forget_one()
            peer = self._peers[peer_id] = _Peer(heartbeat, now, is_signed=is_signed)
        self._names += len(heartbeat.vector) - (0 if is_new else len(peer.heartbeat.vector))
        peer.heartbeat, peer.received_at, peer.is_signed = heartbeat, now, is_signed
        self.tell(peer_id, heartbeat.vector.get(peer_id, 0))
        hears_this = self.id in heartbeat.vector
        if hears_this:
            peer.is_bound = peer.is_bound or is_signed
            peer.unheard_since = math.inf
        else:
            peer.unheard_since = min(peer.unheard_since, now)
        while self._names > _MAX_NAMES:
            self._forget_one()
        return is_signed and (is_new or not hears_this)

    def knows(self, peer_id: str) -> bool:
        return peer_id in self._peers

    def _forget_one(self) -> None:
        """Have a replica make room for others. One that is pushed out is back with its next heartbeat."""

        def order(name: str) -> tuple[bool, bool, float]:
            peer = self._peers[name]
            return peer.is_proven, peer.is_met, peer.received_at

        self.remove(min(self._peers, key=order))

    def prove(self, peer_id: str) -> None:
        """Note that a replica has delivered all that it announced, or announced nothing that is missing here."""
        peer = self._peers.get(peer_id)
        if peer is not None:
            peer.is_proven = True

    def tell(self, peer_id: str, count: int) -> None:
        """Note that a replica itself has spoken of so many events of its own."""
        peer = self._peers.get(peer_id)
        if peer is not None and count > peer.told:
            peer.told = count

    def unproven(self, teller: str, vector: Mapping[str, int], since: float = -math.inf) -> list[str]:
        """Return the replicas that have told of fewer events of their own than a context of another one has.

        Args:
            teller: Id of the replica whose context it is.
            vector: Version vector of the context.
            since: Time since which they must have sent a heartbeat; others are left out.
        """
        return [
            name
            for name, peer in self._peers.items()
            if peer.is_bound and name != teller and vector.get(name, 0) > peer.told and peer.received_at >= since
        ]

    def is_bound(self, peer_id: str) -> bool:
        """Tell whether a replica's changes count: a signed heartbeat of it has named this replica.

        The id of this replica is new with its process. So that heartbeat, and the changes that are numbered after it, are
        not recordings from before the start, when this replica had applied changes that it does not know of any more.
        """
        peer = self._peers.get(peer_id)
        return peer is not None and peer.is_bound

    def is_unmet(self, peer_id: str) -> bool:
        """Tell whether a replica has been heard that has not named this one."""
        peer = self._peers.get(peer_id)
        return peer is not None and not peer.is_met

    def is_signed(self, peer_id: str) -> bool:
        """Tell whether a replica signs its messages."""
        peer = self._peers.get(peer_id)
        return peer is None or peer.is_signed

    def is_alive(self, peer_id: str, since: float) -> bool:
        """Tell whether a replica has sent a heartbeat since a given time."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.received_at >= since

    def is_leaving(self, peer_id: str) -> bool:
        """Tell whether a replica has announced that it is about to end."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.heartbeat.is_leaving

    def deaf(self, since: float) -> list[str]:
        """Return the ids of the replicas that are heard and have not named this one since a given time."""
        return [name for name, peer in self._peers.items() if peer.is_signed and peer.unheard_since < since]

    def remove(self, peer_id: str) -> None:
        """Remove a replica that has ended."""
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            self._names -= len(peer.heartbeat.vector)

    def remove_silent(self, now: float) -> list[str]:
        """Remove the replicas that have been silent for too long, and return their ids."""
        silent = [
            name
            for name, peer in self._peers.items()
            if now - peer.received_at
            > (self.forget_seconds if peer.is_met else min(_UNMET_SECONDS, self.forget_seconds))
        ]
        for name in silent:
            self.remove(name)
        return silent

    # --- comparing contexts

    def vector(self, peer_id: str) -> dict[str, int]:
        """Return the version vector of the last heartbeat of a replica."""
        peer = self._peers.get(peer_id)
        return peer.heartbeat.vector if peer is not None else {}

    def has_more(self, peer_id: str, context: Context) -> bool:
        """Tell whether a replica, by its last heartbeat, has applied an event that is not in a context."""
        peer = self._peers.get(peer_id)
        if peer is None or not peer.is_met:
            return False
        vector = peer.heartbeat.vector
        is_beyond = any(count > context.vector.get(name, 0) for name, count in vector.items())
        return is_beyond or peer.heartbeat.rest != context.digest(vector)

    def lacks(self, peer_id: str, context: Context) -> bool:
        """Tell whether a replica, by its last heartbeat, lacks an event of a context's version vector."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return False
        vector = peer.heartbeat.vector
        return any(
            count > vector.get(name, 0) for name, count in context.vector.items() if name in vector or name == self.id
        )

    def missing_events(self, context: Context) -> int:
        """Return the number of events that some living replica has applied, by its last heartbeat, and a context lacks."""
        known: dict[str, int] = {}
        for peer in self._peers.values():
            if peer.is_met:
                for name, count in peer.heartbeat.vector.items():
                    known[name] = max(count, known.get(name, 0))
        return sum(max(0, count - context.vector.get(name, 0)) for name, count in known.items())

    def silent_seconds(self, now: float) -> float:
        """Return the time since the last heartbeat of the replica that has been silent longest; 0 without replicas."""
        return max((now - peer.received_at for peer in self._peers.values() if peer.is_met), default=0.0)

    # --- causal stability

    def confirm(self, context: Context) -> None:
        """Note the vectors of all replicas whose last heartbeat told of no event beyond the own context.

        The digest of the rest was equal as well, so such a replica has applied the same events of ended replicas.
        """
        rest = dict(context.vector)
        for peer_id, peer in self._peers.items():
            if peer.is_met and not self.has_more(peer_id, context):
                peer.confirmed = ChainMap(peer.heartbeat.vector, rest)

    def stable(self, context: Context) -> Callable[[str], int]:
        """Return the function that tells, of a replica, the last of its events that every replica is known to have applied.

        A replica that only another one has heard from counts as one that has applied nothing, so nothing is stable. No
        replica is waited for longer than `forget_seconds`, as all others forget it then.
        """
        known = {self.id, *self._peers}
        if not all(name in known for peer in self._peers.values() for name in peer.heartbeat.vector):
            return lambda _: 0

        @functools.cache
        def stable(replica: str) -> int:
            confirmed = (peer.confirmed.get(replica, 0) for peer in self._peers.values())
            return min([context.vector.get(replica, 0), *confirmed])

        return stable
