"""Three replicas whose messages an adversary keeps, repeats, reorders, changes, forges and misdirects.

The clock stands still, so no recorded message is ever too old. That is the worst case.
"""

from __future__ import annotations

import hashlib
import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts import keyvalue as kv
from contracts.nkeys import KeyKind, encode_seed
from provider.keyvalue.cache.messages import (
    AddText,
    Deltas,
    Event,
    Heartbeat,
    Message,
    Piece,
    PieceRequest,
    TransferPage,
    TransferRequest,
    new_replica_id,
    pack,
    release_of,
)
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.pieces.arrivals import Arrivals
from provider.keyvalue.cache.pieces.cutting import Cut
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Receiver, Sender
from provider.keyvalue.cache.trust import signed
from provider.keyvalue.cache.trust.authentication import Authentication
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError
from provider.keyvalue.cache.trust.signed import SignedHead
from tests.unit.keyvalue.cache.exchange import admission_of, attempt, change, state

STATE = "cache.state"
LONG = 50
"""Size of a text from which on it travels in pieces."""
PIECE_BYTES = 40
NOW_MS = 1_700_000_000_000
NODES = st.integers(0, 2)
KEYS = st.sampled_from(["a", "b"])


def keys_of(name: bytes) -> ClusterKeys:
    return ClusterKeys("lattice", encode_seed(KeyKind.CLUSTER, hashlib.sha256(name).digest()).text, [])


MEMBERS, STRANGERS = keys_of(b"cluster"), keys_of(b"outsider")

Sent = tuple[str, bytes]
"""The subject of a message and its bytes."""


class Node:
    """A replica with all that decides which messages it takes in, and no network."""

    def __init__(self) -> None:
        self.replica = Replica(new_replica_id())
        self.subject = f"cache.replay.{self.replica.id}"
        self.peers = Peers(self.replica.id, 1000.0)
        self._admission = admission_of(self.replica)
        self._authentication = Authentication(self.replica.id, MEMBERS)
        self._arrivals = Arrivals()
        self._sender = Sender(self.replica)
        self._sender.event_bytes, self._sender.piece_bytes = LONG, PIECE_BYTES
        self._receiver: Receiver | None = None
        self._asked = 0

    def send(self, message: Message, subject: str = STATE, answers: int = 0) -> Sent:
        kind, release = signed.KINDS[type(message)], release_of(message)
        return subject, self._authentication.sign(subject, kind, pack(message), NOW_MS, answers, release)

    def deltas(self) -> list[Sent]:
        events, self.replica.unsent = self.replica.unsent, []
        sent = []
        for count, event in enumerate(events, self.replica.count - len(events) + 1):
            message = Deltas(count, [event])
            if isinstance(event.add, AddText) and len(event.add.value) > LONG:
                cut = Cut(count, message, PIECE_BYTES)
                sent += [self.send(cut.piece(number)) for number in range(cut.count)]
            else:
                sent.append(self.send(message))
        return sent

    def heartbeat(self) -> Sent:
        return self.send(self.peers.heartbeat(self.replica.context))

    def receive(self, subject: str, data: bytes) -> list[Sent]:
        """Take a message as it comes; return the messages that answer it."""
        if signed.is_from(data, self.replica.id):
            return []
        try:
            head = self._authentication.check(data, subject, NOW_MS, 0.0)
            return self._take(head, signed.message_of(head, data, 2**21)) + self.deltas()
        except ForeignMessageError:
            return []

    def _take(self, head: SignedHead, message: Message) -> list[Sent]:
        sender = head.sender
        match message:
            case Heartbeat():
                self.peers.receive(sender, message, 0.0)
            case Piece() if not head.answers and self.peers.is_bound(sender):
                whole = self._arrivals.add(sender, message, 0.0)
                return self._take(head, whole) if whole is not None else []
            case Deltas() if self.peers.is_bound(sender):
                self._admission.check_deltas(sender, message, NOW_MS)
                for count, event in enumerate(message.events, message.first):
                    self.replica.apply(sender, count, event)
            case TransferRequest() | PieceRequest():
                answer = self._sender.respond(sender, message, 0.0)
                return [self.send(answer, f"cache.replay.{sender}", head.sequence)]
            case TransferPage() | Piece() if self._receiver is not None and head.answers == self._asked:
                self._asked = 0
                page = self._receiver.collect(message)
                if page is not None:
                    self._receiver.receive(page, NOW_MS)
                if not self._receiver.is_done:
                    return [self.ask(f"cache.replay.{sender}")]
                self._receiver = None
        return []

    def begin_pull(self, other: Node) -> list[Sent]:
        """Ask another replica for a first page, if it has more."""
        if not self.peers.has_more(other.replica.id, self.replica.context):
            return []
        if self._receiver is not None:
            self._receiver.end()
        self._receiver = Receiver(self.replica, self._admission)
        return [self.ask(other.subject), *self.deltas()]

    def ask(self, subject: str) -> Sent:
        assert self._receiver is not None
        sent = self.send(self._receiver.next_request(), subject)
        self._asked = self._authentication.sequence
        return sent


class HostileNetwork(RuleBasedStateMachine):
    """The adversary decides which message arrives where, when, how often, and in which form."""

    @initialize()
    def start(self) -> None:
        self.life = 0
        self.numbers = itertools.count()
        self.sent: list[Sent] = []
        self.nodes = [Node() for _ in range(3)]

    def value(self, length: int = 0) -> str:
        """Return a text that tells in which life of the cache it was written."""
        return f"{self.life}:{next(self.numbers)}".ljust(length, "é")

    def deliver(self, sent: list[Sent], *, is_recorded: bool = True) -> None:
        """Deliver messages to the replicas that they are for, and then the answers."""
        while sent:
            if is_recorded:
                self.sent += sent
            answers: list[Sent] = []
            for subject, data in sent:
                for node in self.nodes:
                    if subject in (STATE, node.subject):
                        answers += node.receive(subject, data)
            sent = answers

    # --- what members do

    @rule(number=NODES, key=KEYS, is_set=st.booleans(), length=st.sampled_from([0, 0, 55, 120]))
    def write(self, number: int, key: str, is_set: bool, length: int) -> None:
        node = self.nodes[number]
        request = kv.SetAdd(key, self.value()) if is_set else kv.Set(key, self.value(length), 0)
        attempt(lambda: change(node.replica, request, NOW_MS))
        self.sent += node.deltas()

    @rule(number=NODES, key=KEYS)
    def delete(self, number: int, key: str) -> None:
        change(self.nodes[number].replica, kv.Del(key), NOW_MS)
        self.sent += self.nodes[number].deltas()

    @rule(number=NODES)
    def beat(self, number: int) -> None:
        self.deliver([self.nodes[number].heartbeat()])

    @rule(pair=st.permutations([0, 1, 2]))
    def pull(self, pair: list[int]) -> None:
        self.deliver(self.nodes[pair[0]].begin_pull(self.nodes[pair[1]]))

    @rule(number=NODES)
    def restart_one(self, number: int) -> None:
        self.nodes[number] = Node()

    @rule()
    def restart_all(self) -> None:
        """Begin a new life of the cache: nothing that was ever written may come back."""
        self.life += 1
        self.nodes = [Node() for _ in range(3)]

    # --- what the adversary does

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.sent:
            self.deliver(data.draw(st.lists(st.sampled_from(self.sent), max_size=5)), is_recorded=False)

    @rule(data=st.data(), number=NODES)
    def misdirect(self, data: st.DataObject, number: int) -> None:
        if self.sent:
            _, message = data.draw(st.sampled_from(self.sent))
            for subject in (STATE, self.nodes[number].subject):
                self.nodes[number].receive(subject, message)

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        if not self.sent:
            return
        subject, message = data.draw(st.sampled_from(self.sent))
        changed = bytearray(message)
        at = data.draw(st.integers(0, 8 * len(message) - 1))
        if data.draw(st.booleans()):
            changed[at // 8] ^= 1 << at % 8
        else:
            del changed[at // 8 :]
        self.deliver([(subject, bytes(changed))], is_recorded=False)

    @rule(number=NODES, has_issuer=st.booleans(), key=KEYS)
    def forge(self, number: int, has_issuer: bool, key: str) -> None:
        """Sign in the name of a replica with a key of one's own, under the own name or that of the cluster's key."""
        impersonated = self.nodes[number].replica
        issuer = MEMBERS.issuer if has_issuer else STRANGERS.issuer
        event = Event((NOW_MS + 1) << 16, key, AddText("forged", 0), {}, [])
        cut = Cut(impersonated.count + 1, Deltas(impersonated.count + 1, [event]), 3)
        forged: list[Message] = [
            Deltas(impersonated.count + 1, [event]),
            Heartbeat({node.replica.id: 99 for node in self.nodes}, 0, True, True),
            *(cut.piece(number) for number in range(cut.count)),
        ]
        for message in forged:
            head = SignedHead(signed.KINDS[type(message)], impersonated.id, 1000, NOW_MS, 0, issuer)
            self.deliver([(STATE, signed.sign(STRANGERS, STATE, head, pack(message)))], is_recorded=False)

    # --- what must hold

    @invariant()
    def nothing_is_seen_that_was_not_written_in_this_life(self) -> None:
        if not hasattr(self, "nodes"):
            return
        for node in self.nodes:
            for items, *_ in state(node.replica).values():
                assert all(text.startswith(f"{self.life}:") for _, text, _ in items)

    def teardown(self) -> None:
        """Let the replicas exchange all they have; they must agree."""
        if not hasattr(self, "nodes"):
            return
        for _ in range(4):
            for node in self.nodes:
                self.deliver([node.heartbeat()])
            for one, other in itertools.permutations(self.nodes, 2):
                self.deliver(one.begin_pull(other))
        states = [(node.replica.context, state(node.replica)) for node in self.nodes]
        assert states[0] == states[1] == states[2]


HostileNetwork.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHostileNetwork = HostileNetwork.TestCase
