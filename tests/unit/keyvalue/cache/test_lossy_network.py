"""Three replicas over a bad network, compared with the acknowledged changes."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts import keyvalue as kv
from provider.keyvalue.cache.messages import Event
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.tombstones import discard_tombstones
from provider.keyvalue.cache.transfer import Receiver, Sender
from tests.unit.keyvalue.cache.exchange import (
    attempt,
    change,
    changes,
    pull,
    receiver_of,
    replica_of,
    seen,
    state,
    take_unsent,
)


class BadNetwork(RuleBasedStateMachine):
    """Deltas are lost, repeated and reordered, replicas pull from each other, and tombstones are discarded."""

    @initialize()
    def start(self) -> None:
        self.replicas = [replica_of(number) for number in range(3)]
        self.peers = [Peers(replica.id, 1000.0) for replica in self.replicas]
        self.wire: list[tuple[int, str, int, Event]] = []
        self.transfers: dict[tuple[int, int], tuple[Sender, Receiver]] = {}
        self.total = 0
        self.added: Counter[str] = Counter()
        self.now_ms = 1000

    @rule(number=st.integers(0, 2), amount=st.integers(-5, 5))
    def increment(self, number: int, amount: int) -> None:
        change(self.replicas[number], kv.Increment("count", amount), self.now_ms)
        self.total += amount
        self._broadcast(number)

    @rule(number=st.integers(0, 2), member=st.sampled_from(["p", "q"]))
    def add_member_that_is_never_deleted(self, number: int, member: str) -> None:
        change(self.replicas[number], kv.SetAdd("kept", member), self.now_ms)
        self.added[member] += 1
        self._broadcast(number)

    @rule(number=st.integers(0, 2), request=changes)
    def change_something(self, number: int, request: kv.SingleKeyRequest) -> None:
        attempt(lambda: change(self.replicas[number], request, self.now_ms))
        self._broadcast(number)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if self.wire:
            to, author, count, event = data.draw(st.sampled_from(self.wire))
            self.replicas[to].apply(author, count, event)

    @rule(pair=st.permutations([0, 1, 2]))
    def fetch_one_way(self, pair: list[int]) -> None:
        pull(self.replicas[pair[0]], self.replicas[pair[1]], self.now_ms)

    @rule(pair=st.permutations([0, 1, 2]))
    def take_a_page(self, pair: list[int]) -> None:
        """Continue a transfer of tiny pages, or begin one; other steps happen between its pages."""
        asker, server = pair[:2]
        if (asker, server) not in self.transfers:
            sender = Sender(self.replicas[server])
            sender.page_bytes = 60
            self.transfers[asker, server] = (sender, receiver_of(self.replicas[asker]))
        sender, receiver = self.transfers[asker, server]
        receiver.receive(sender.answer(self.replicas[asker].id, receiver.request(), 0.0), self.now_ms)
        if receiver.is_done:
            del self.transfers[asker, server]

    @rule(pair=st.permutations([0, 1, 2]))
    def abandon_a_transfer(self, pair: list[int]) -> None:
        if (pair[0], pair[1]) in self.transfers:
            self.transfers.pop((pair[0], pair[1]))[1].end()

    @rule(pair=st.permutations([0, 1, 2]))
    def heartbeat(self, pair: list[int]) -> None:
        sender, hearer = pair[:2]
        heartbeat = self.peers[sender].heartbeat(self.replicas[sender].context)
        self.peers[hearer].receive(self.replicas[sender].id, heartbeat, 0.0)

    @rule(number=st.integers(0, 2))
    def prune(self, number: int) -> None:
        replica, peers = self.replicas[number], self.peers[number]
        if len(peers.ids) == 2:
            peers.confirm(replica.context)
            discard_tombstones(replica, peers.stable(replica.context), 100)

    @rule()
    def time_passes(self) -> None:
        self.now_ms += 700

    @invariant()
    def sizes_are_sane(self) -> None:
        for replica in getattr(self, "replicas", []):
            assert replica.size_bytes >= 0
            assert replica.keys >= 0

    def teardown(self) -> None:
        if not hasattr(self, "replicas"):
            return
        for _ in range(2):
            for one, other in itertools.permutations(self.replicas, 2):
                pull(one, other, self.now_ms)
        for replica in self.replicas:
            assert state(replica) == state(self.replicas[0])
            assert replica.context == self.replicas[0].context
            found = replica.read("count", self.now_ms)
            assert (found.data if found is not None else 0) == self.total
            assert set(seen(replica, "kept", self.now_ms)[1] if self.added else ()) == set(self.added)

    def _broadcast(self, number: int) -> None:
        for author, count, event in take_unsent(self.replicas[number]):
            self.wire += [(to, author, count, event) for to in range(3) if to != number]


TestBadNetwork = BadNetwork.TestCase
TestBadNetwork.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
