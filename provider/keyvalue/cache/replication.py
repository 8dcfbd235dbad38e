"""The exchange between one replica and the others: joining, heartbeats, pushing events, leaving.

Push: own events are published once per turn of the event loop, and applied by the others as they arrive. Pull: what was
lost on the way, or happened while replicas were cut off from each other, shows when heartbeats are compared; then
`anti_entropy` transfers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from contracts.statistics import MOST_NAME_CHARACTERS, MOST_NUMBERS, CacheStatistics
from provider.keyvalue.cache.anti_entropy import AntiEntropy
from provider.keyvalue.cache.channel import Channel
from provider.keyvalue.cache.items.item import Item
from provider.keyvalue.cache.messages import (
    Deltas,
    Heartbeat,
    Message,
    Piece,
    PieceRequest,
    TransferPage,
    TransferRequest,
    new_replica_id,
)
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.tombstones import discard_tombstones
from provider.keyvalue.cache.transfer import MAX_PAGE_BYTES, Sender
from provider.keyvalue.cache.trust.admission import Admission
from provider.keyvalue.cache.trust.authentication import Authentication
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.cache.trust.joining import OTHERS_SECONDS, Joining
from provider.keyvalue.cache.trust.refused_messages import SIGNS_OF_OTHERS, ForeignMessageError, Refusal
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.link_config import CacheConfig
from provider.keyvalue.link_values import ReplicationAuth
from provider.nats.connection import Connection
from provider.plain_text import cut

_log = logging.getLogger(__name__)

_ALONE_AFTER_SECONDS = 0.5
"""Time after which a joiner that has received no heartbeat is alone. An answer takes a round trip and the jitter."""

_HEAR_SECONDS = 0.05
"""Time after the first answer for the others to answer too: the jitter, and a round trip."""

_SHOWN_JOINING_SECONDS = 3.0
"""Time after which the log tells of a joiner that has not caught up. A transfer of 100,000 keys takes so long."""

_ANSWER_JITTER_SECONDS = 0.02
"""Time over which the answers of all replicas to one heartbeat are spread."""

_SILENT_HEARTBEATS = 2.5
"""Heartbeats after which a silent replica is not pulled from: waiting for its pages would hold up pulls from others."""

_LEAVE_SECONDS = 0.15
"""Time for the others to pull from a replica that ends: half of what the strictest host allows for a shutdown."""

_SHOWN_DRIFT_MS = 10_000
"""Difference between clocks that health tells of: far more than synchronised ones have, a sixth of what is accepted."""

_SHOWN_FAILURES = 2
"""Failed pulls in a row from one replica that health tells of: a single one fails also when a replica ends."""

_DRIFT_SECONDS = 60.0
"""Time after which the clock of a silent replica is not compared any more."""

_AUTH_REMARKS = {
    ReplicationAuth.UPGRADE: "REPLICATION_AUTH is upgrade: values of replicas that do not sign are believed",
    ReplicationAuth.OFF: "REPLICATION_AUTH is off: every client that may publish on its subjects is believed",
}

_TOMBSTONE_SLICE = 500
"""Tombstones looked at before other work gets a turn: less than a millisecond."""


class Replication:
    """One replica among others.

    Args:
        config: Settings of the cache; `configure` replaces them.
        keys: Keys by which replicas know each other; None if `REPLICATION_AUTH` is off.
        on_expiry: Function that schedules an expiry; see `ReplicaState`.

    Attributes:
        replica: State of the replica.
        discarded: Number of tombstones discarded.
        pages_sent: Number of pages sent to other replicas.
        joined: Set once the replica has what the others had when it started, or there are no others.
    """

    def __init__(self, config: CacheConfig, keys: ClusterKeys | None, on_expiry: Callable[[str, Item], None]) -> None:
        self.replica = Replica(new_replica_id(), self._on_event, on_expiry)
        self.joined = asyncio.Event()
        self.discarded = 0
        self.pages_sent = 0
        self._loop = asyncio.get_running_loop()
        self._authentication = Authentication(self.replica.id, keys) if keys is not None else None
        self._channel = Channel(
            self.replica.id, config, self._authentication, self._on_message, self._on_request, self._on_refusal
        )
        self._admission = Admission(self.replica)
        self._peers = Peers(self.replica.id, config.forget_seconds)
        self._admission.is_heard = self._peers.is_bound
        self._sender = Sender(self.replica)
        self._anti_entropy = AntiEntropy(
            self.replica, self._admission, self._peers, self._channel, self._on_pulled, self._ask
        )
        self._joining = Joining(self._peers, self._anti_entropy.is_behind)
        self._began_at = self._loop.time()
        self._heartbeat_received = asyncio.Event()
        self._joiner_until = 0.0
        """Time until which this replica has only just joined, so that others may have what it lacks."""
        self._is_flush_due = False
        self._is_answer_due = False
        self._is_leaving = False

    @property
    def statistics(self) -> CacheStatistics:
        """The state of the replica and of its exchange with the others. Names and limits are not known here."""
        replica = self.replica
        return CacheStatistics(
            cache=cut(self._channel.config.state_subject, MOST_NAME_CHARACTERS),
            replica=replica.id,
            seen=dict(itertools.islice(replica.context.vector.items(), MOST_NUMBERS)),
            is_connected=self._channel.is_connected,
            is_joined=self.joined.is_set(),
            keys=replica.keys,
            size_bytes=replica.size_bytes,
            tombstones=len(replica.key_tombstones) + len(replica.tally_tombstones),
            tombstones_discarded=self.discarded,
            peers=len(self._peers.ids),
            missing_events=self._peers.missing_events(replica.context),
            silent_seconds=self._peers.silent_seconds(self._loop.time()),
            pages_received=self._anti_entropy.pages,
            pages_sent=self.pages_sent,
            messages_refused={refusal.value: count for refusal, count in self._channel.refusals.totals.items()},
        )

    @property
    def is_cut_off(self) -> bool:
        """True if there was a connection and it is lost."""
        return self._channel.is_open and not self._channel.is_connected

    @property
    def event_bytes(self) -> int:
        """Greatest size of a key and a value together that fits into a message, in bytes."""
        return self._channel.event_bytes

    @property
    def text_limit(self) -> tuple[int, str]:
        """Greatest size of a text with its key that the replicas take, in bytes, and the words for that limit in an error."""
        if old := self._peers.without_pieces:
            return (
                self.event_bytes,
                f"what fits into a message, as {len(old)} replicas of an earlier release take no more",
            )
        return self._channel.text_bytes, "what the replicas of a cache exchange"

    @property
    def strangers(self) -> list[str]:
        """Reasons for which this replica does not exchange anything with those that it hears, if there are no others."""
        if self._peers.ids:
            return []
        seconds = max(_SILENT_HEARTBEATS * self._channel.config.heartbeat_seconds, _ALONE_AFTER_SECONDS)
        refusals = self._channel.refusals.signs_of_others(self._loop.time(), seconds)
        deaf = ["they do not hear this one, or refuse it"] if self._peers.unmet_ids else []
        return [refusal.value for refusal in refusals] + deaf

    def remarks(self) -> list[str]:
        """Return the remarks of health on the other replicas: refused messages, disagreement, clocks."""
        now, auth = self._loop.time(), self._channel.config.auth
        remarks = []
        if auth is not ReplicationAuth.ON:
            remarks.append(_AUTH_REMARKS[auth])
        if refused := self._channel.refusals.recent(now):
            counts = ", ".join(f"{count} {refusal.value}" for refusal, count in refused.items())
            remarks.append(f"messages refused: {counts}")
        if undelivered := self._anti_entropy.undelivered(_SHOWN_FAILURES):
            remarks.append(f"replicas that announce changes and do not deliver them: {undelivered}")
        if deaf := self._peers.deaf(now - _SILENT_HEARTBEATS * self._channel.config.heartbeat_seconds):
            remarks.append(f"replicas that do not hear this one, or refuse it: {len(deaf)}")
        if old := self._peers.without_pieces:
            remarks.append(f"replicas of an earlier release, which take no value larger than a message: {len(old)}")
        drift_ms = self._authentication.drift_ms(now - _DRIFT_SECONDS) if self._authentication is not None else 0
        if drift_ms > _SHOWN_DRIFT_MS:
            remarks.append(f"its clock and that of another replica differ by {drift_ms // 1000} s")
        return remarks

    def configure(self, config: CacheConfig) -> None:
        """Replace the settings."""
        self._channel.config = config
        self._peers.forget_seconds = config.forget_seconds
        self._admission.limit(config.max_keys, config.max_bytes)

    # --- joining and leaving

    async def subscribe(self, connection: Connection, stack: AsyncExitStack) -> None:
        """Receive the messages of the others on a connection until the stack is closed."""
        stack.callback(connection.on_reconnect(self._on_reconnect))
        await self._channel.open(connection, stack)
        self._admission.event_bytes = self._channel.event_bytes
        self._admission.text_bytes = self._channel.text_bytes

    async def run(self) -> None:
        """Join the others and stay in step with them until cancelled."""
        self._began_at = self._loop.time()
        self._joiner_until = self._began_at + _SILENT_HEARTBEATS * self._channel.config.heartbeat_seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_heartbeats())
            group.create_task(self._anti_entropy.run())
            await self._join()

    async def _join(self) -> None:
        """Find out which replicas are there, and pull from them. `joining` has the rule by which that is enough."""
        # 1. Ask who is there. A replica of a release that does not sign is not asked: its next heartbeat is waited for.
        self._ask()
        config = self._channel.config
        is_upgrade = config.auth is ReplicationAuth.UPGRADE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALONE_AFTER_SECONDS + (1.1 * config.heartbeat_seconds if is_upgrade else 0)):
                await self._heartbeat_received.wait()
        # 2. No other replica is there, so there is nothing to wait for.
        if not self._peers.ids and not self.strangers:
            self.joined.set()
            return
        # 3. Hear all of them before the first is pulled from: then none can speak for those that are still to be heard.
        await asyncio.sleep(_HEAR_SECONDS)
        self._anti_entropy.hurry()
        self._end_joining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHOWN_JOINING_SECONDS):
                await self.joined.wait()
                return
        fields = {"subject": config.state_subject, "replicas": len(self._peers.ids)}
        _log.warning("cache_catching_up", extra=fields)

    def _end_joining(self) -> None:
        """Count as caught up once `joining` says so."""
        now = self._loop.time()
        if not self.joined.is_set() and self._joining.has_caught_up(now):
            fields = {"keys": self.replica.keys, "seconds": round(now - self._began_at, 3)}
            _log.info("cache_caught_up", extra={"subject": self._channel.config.state_subject, **fields})
            self.joined.set()

    async def leave(self) -> None:
        """Give the others a moment to pull what only this replica has."""
        if not self._channel.is_connected:
            return
        self._is_leaving = True
        self._flush()
        self._channel.publish_all()
        self._channel.publish(self._heartbeat(wants_answer=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                # At least one heartbeat is awaited: it may be of a replica that this one does not know yet.
                is_awaited = True
                while is_awaited:
                    self._heartbeat_received.clear()
                    await self._heartbeat_received.wait()
                    is_awaited = any(self._peers.lacks(peer, self.replica.context) for peer in self._peers.ids)

    # --- heartbeats

    def _heartbeat(self, *, wants_answer: bool = False) -> Heartbeat:
        return self._peers.heartbeat(
            self.replica.context,
            wants_answer=wants_answer,
            is_leaving=self._is_leaving,
            names_idle=self._channel.signs,
        )

    async def _send_heartbeats(self) -> None:
        """Send a heartbeat at every interval, discard tombstones, and pull from replicas that have more."""
        while True:
            # Up to 5 % early or late, so that the heartbeats of all replicas do not coincide.
            await asyncio.sleep(self._channel.config.heartbeat_seconds * (0.95 + random.random() / 10))
            config = self._channel.config
            for peer in self._peers.remove_silent(self._loop.time()):
                _log.info("cache_replica_forgotten", extra={"subject": config.state_subject, "replica": peer})
            if self._authentication is not None:
                self._authentication.forget_idle(self._loop.time())
            self._peers.confirm(self.replica.context)
            await self._discard_tombstones()
            if not self._peers.ids and not self.strangers:
                self.joined.set()
            self._end_joining()
            self._channel.publish(self._heartbeat())
            silent_since = self._loop.time() - _SILENT_HEARTBEATS * config.heartbeat_seconds
            for peer in self._peers.ids:
                if self._peers.is_alive(peer, silent_since):
                    self._anti_entropy.schedule_if_behind(peer)

    async def _discard_tombstones(self) -> None:
        stable = self._peers.stable(self.replica.context)
        discarded = _TOMBSTONE_SLICE
        while discarded == _TOMBSTONE_SLICE:
            discarded = discard_tombstones(self.replica, stable, _TOMBSTONE_SLICE)
            self.discarded += discarded
            await asyncio.sleep(0)

    def _on_reconnect(self) -> None:
        self._ask()

    def _ask(self) -> None:
        """Send a heartbeat that all others answer with theirs."""
        self._channel.publish(self._heartbeat(wants_answer=True))

    def _on_pulled(self, peer: str, is_whole: bool, has_values: bool) -> None:
        """Tell the others at once that a transfer is complete: its sender may be about to end, and waits for that."""
        if is_whole:
            self._peers.prove(peer)
            self._peers.confirm(self.replica.context)
            self._answer_soon(at_once=True)
            self._loop.call_later(OTHERS_SECONDS, self._end_joining)
        self._joining.note(peer, is_done=is_whole, has_values=has_values, now=self._loop.time())
        self._end_joining()

    def _answer_soon(self, *, at_once: bool) -> None:
        """Send a heartbeat, at a random moment so that not all replicas answer in the same one."""
        if not self._is_answer_due:
            self._is_answer_due = True
            self._loop.call_later(0 if at_once else random.random() * _ANSWER_JITTER_SECONDS, self._answer)

    def _answer(self) -> None:
        self._is_answer_due = False
        self._channel.publish(self._heartbeat())

    def _on_refusal(self, refusal: Refusal) -> None:
        if refusal in SIGNS_OF_OTHERS:
            self._doubt()

    def _doubt(self) -> None:
        """Count as catching up again if a joiner that seemed to be alone hears others that it cannot exchange with."""
        if self.joined.is_set() and self._loop.time() < self._joiner_until and self.strangers:
            self.joined.clear()

    # --- publishing

    def _on_event(self) -> None:
        """Publish after the answers of this turn have been written: their callers do not wait for the signature."""
        if not self._is_flush_due:
            self._is_flush_due = True
            # The answers are written in the next turn at the latest, so the events go out in the one after it.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        """Publish the events that have not been sent. What cannot be sent now will be pulled by the others."""
        self._is_flush_due = False
        replica = self.replica
        if replica.unsent:
            events, replica.unsent = replica.unsent, []
            self._channel.publish_events(replica.count - len(events) + 1, events)

    # --- receiving

    def _on_message(self, sender: str, message: Message, is_signed: bool) -> None:
        if isinstance(message, Deltas):
            self._receive_deltas(sender, message)
        elif isinstance(message, Heartbeat):
            self._receive_heartbeat(sender, message, is_signed=is_signed)
        elif isinstance(message, Piece):
            self._receive_piece(sender, message)

    def _receive_piece(self, sender: str, piece: Piece) -> None:
        """Keep a piece of a message. Pieces count as changes do: only of a replica that knows this one."""
        if (self._channel.signs and not self._peers.is_bound(sender)) or self.replica.context.has(sender, piece.whole):
            return
        self._admission.check_size(piece.total_bytes)
        message = self._anti_entropy.arrivals.add(sender, piece, self._loop.time())
        if isinstance(message, Deltas):
            self._receive_deltas(sender, message)

    def _receive_deltas(self, sender: str, deltas: Deltas) -> None:
        self._peers.tell(sender, deltas.first + len(deltas.events) - 1)
        if self._channel.signs and not self._peers.is_bound(sender):
            # They may be a recording from before the start. A transfer brings those that count.
            return
        self._admission.check_deltas(sender, deltas, wall_clock_ms())
        replica = self.replica
        is_gap = deltas.first > replica.context.vector.get(sender, 0) + 1
        is_premature = self._admission.is_premature(deltas, is_gap=is_gap)
        if not is_premature:
            for count, event in enumerate(deltas.events, deltas.first):
                replica.apply(sender, count, event)
        if is_gap or is_premature:
            self._anti_entropy.schedule(sender)

    def _receive_heartbeat(self, sender: str, heartbeat: Heartbeat, *, is_signed: bool) -> None:
        replica = self.replica
        if heartbeat.vector.get(replica.id, 0) > replica.count:
            raise ForeignMessageError(f"replica {sender} names events of this one that do not exist", Refusal.NAME)
        if not heartbeat.is_leaving and not self._peers.knows(sender):
            fields = {"subject": self._channel.config.state_subject, "replica": sender}
            _log.info("cache_replica_heard", extra=fields)
        is_deaf = self._peers.receive(sender, heartbeat, self._loop.time(), is_signed=is_signed)
        if heartbeat.wants_answer or is_deaf:
            self._answer_soon(at_once=heartbeat.is_leaving or self._is_leaving)
        if self._peers.is_unmet(sender):
            # It may be a recording. A replica that lives hears the answer, and names this one in its next heartbeat.
            self._doubt()
            return
        self._heartbeat_received.set()
        self._joiner_until = 0.0
        if self._peers.has_more(sender, replica.context):
            self._anti_entropy.schedule(sender)
        else:
            self._peers.prove(sender)
        if heartbeat.is_leaving:
            self._anti_entropy.hurry()
            if not self._anti_entropy.is_scheduled(sender):
                self._peers.remove(sender)

    def _on_request(self, sender: str, request: TransferRequest | PieceRequest) -> TransferPage | Piece:
        self._sender.page_bytes = min(MAX_PAGE_BYTES, self._channel.max_payload_bytes // 2)
        self._sender.event_bytes, self._sender.piece_bytes = self._channel.event_bytes, self._channel.piece_bytes
        self.pages_sent += 1
        return self._sender.respond(sender, request, self._loop.time())
