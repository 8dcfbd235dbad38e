"""Anti-entropy: pulling from other replicas the events that did not arrive as deltas.

One replica is asked first, as it mostly has everything that is missing. If it does not deliver, twice as many others are
asked, and so on. So the replicas that do not answer, however many they are, hold up nothing for longer than a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Callable, Iterable, Mapping

from provider import errors
from provider.keyvalue.cache.channel import Channel
from provider.keyvalue.cache.messages import Piece, TransferPage
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.pieces.arrivals import Arrivals
from provider.keyvalue.cache.pieces.cutting import MAX_TEXT_BYTES
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Receiver
from provider.keyvalue.cache.trust.admission import Admission
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal
from provider.keyvalue.cache.trust.sequences import Budget
from provider.keyvalue.clock import wall_clock_ms
from provider.room import Room

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.1
"""Time for events that another replica has applied to arrive here too. Events that are missing then are pulled."""

_PAGE_SECONDS = 1.0
_PAGE_TRIES = 3
"""A page that does not arrive is requested again. After three seconds its sender has ended or is cut off."""

_SILENT_SECONDS = 0.2
"""Time without a page after which further replicas are asked: many round trips."""

_BUSY_SECONDS = 2.0
"""Time after which they are asked although pages arrive. Few transfers take so long, and one that never ends does."""

_MAX_AT_ONCE = 16
"""Pulls that have brought pages and go on. Each of them takes memory, and makes merging a little slower."""

_TURN_SECONDS = 2.0
"""Time for which a pull goes on in any case when more than that are under way."""

_MAX_NAMES_BYTES = 16 * 1024 * 1024
"""Memory for the names of keys that all pulls under way have brought, beside three times the size of the cache: one that
brings all keys and as many deleted ones, or 10,000, always finds room. No replica keeps more of them."""

_LARGE_PAGE_BYTES = 64 * 1024
"""Size of a page that has a large context or value. Others are a third as large at most."""

_MAX_PAGES_BYTES = 4 * 1024 * 1024
"""Size of all such pages that wait to be merged, as hundreds of replicas may send one at once. Unpacked they take ten times as
much. One that finds no room is requested again."""

_RETRIES_PER_SECOND = 30
"""Pulls from replicas that have failed: so many cost next to nothing, and hundreds that always fail have their turns."""

_WITNESS_SECONDS = 0.2
"""Time for a replica to say how many events it has made: its heartbeat takes a round trip and some jitter."""


_ARRIVING_SECONDS = 3.0
"""Time for which nothing is pulled because pieces arrive: most likely they bring the missing changes."""

_PIECES_SECONDS = 60.0
"""Time that all pieces of a page may take: 64 MiB at one MiB a second. Meanwhile they take room that others wait for."""

_ROOM_SECONDS = 10.0
"""Time that a pull waits for room for a page in pieces; its sender keeps the transfer for longer."""


class _Pull:
    """A pull under way. Times are those of the event loop's clock."""

    def __init__(self, began_at: float, receiver: Receiver) -> None:
        self.began_at = began_at
        self.receiver = receiver
        self.page_at = -1.0
        """Time of the last page, or piece of one; negative: none has come."""
        self.page_bytes = 0
        """Size of a large page that waits to be merged."""
        self.room_bytes = 0
        """Room that the pieces of a page take."""
        self.pieces_until = 0.0
        """Time by which all of them must be here."""
        self.task: asyncio.Task[None] | None = None

    @property
    def is_ending(self) -> bool:
        return self.task is None or self.task.cancelling() > 0


def _end_one(pulls: Iterable[_Pull]) -> bool:
    """End the pull that has brought the fewest values, and of those the most names; return whether there is one."""
    going_on = [pull for pull in pulls if not pull.is_ending]
    if not going_on:
        return False
    least = min(going_on, key=lambda pull: (pull.receiver.values, -pull.receiver.size_bytes))
    assert least.task is not None
    return least.task.cancel()


class AntiEntropy:
    """The pulls of one replica.

    Args:
        replica: Replica that pulls.
        admission: Check of the pages.
        peers: Other replicas, with the contexts they have told.
        channel: Channel to them.
        on_pulled: Function called when a pull has ended: with the replica, whether all of it has arrived, and whether that
            has brought values.
        ask: Function that asks all replicas for a heartbeat.

    Attributes:
        pages: Number of pages received.
        arrivals: Messages that arrive in pieces without being asked for. While they do, nothing is pulled.
    """

    def __init__(
        self,
        replica: Replica,
        admission: Admission,
        peers: Peers,
        channel: Channel,
        on_pulled: Callable[[str, bool, bool], None],
        ask: Callable[[], None],
    ) -> None:
        self.pages = 0
        self.arrivals = Arrivals()
        self._room = Room(2 * MAX_TEXT_BYTES)
        self._replica = replica
        self._admission = admission
        self._peers = peers
        self._channel = channel
        self._on_pulled = on_pulled
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._scheduled: set[str] = set()
        self._pulls: dict[str, _Pull] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        """By replica, the pulls that have failed since the last one that did not, and the time of the last of them."""
        self._retries = Budget(_RETRIES_PER_SECOND)
        self._is_due = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._has_succeeded = False
        self._asked_at = -1.0
        self._turn = asyncio.Lock()
        """Held while a page is merged: one in each turn of the loop, so that calls are answered between any two."""

    # --- schedule

    def schedule(self, peer: str) -> None:
        """Pull from a replica soon, if it then still has more than this one."""
        self._scheduled.add(peer)
        self._is_due.set()

    def schedule_if_behind(self, peer: str) -> None:
        """Pull from a replica soon if its last heartbeat told of more than this one has."""
        if peer not in self._pulls and self._peers.has_more(peer, self._replica.context):
            self.schedule(peer)

    def hurry(self) -> None:
        """Pull without waiting for events on their way, as a replica is about to end."""
        self._is_urgent.set()

    def is_scheduled(self, peer: str) -> bool:
        return peer in self._scheduled or peer in self._pulls

    def is_behind(self, peer: str) -> bool:
        """Tell whether events of a replica, or events that it has applied, are missing here."""
        context = self._replica.context
        return peer in context.cloud or self._peers.has_more(peer, context)

    def undelivered(self, failures: int) -> int:
        """Return the number of replicas that have announced events and failed to deliver them so many times in a row."""
        return sum(
            count >= failures and self._peers.has_more(peer, self._replica.context)
            for peer, (count, _) in self._failures.items()
        )

    # --- pulling

    async def run(self) -> None:
        """Pull from the scheduled replicas until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                # 1. Wait until a replica has more, and then for the events that are still on their way.
                await self._is_due.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GRACE_SECONDS):
                        await self._is_urgent.wait()
                await self._pieces_arrived()
                self._is_urgent.clear()
                self._is_due.clear()
                # 2. Ask one replica: it mostly has all that is missing. While none delivers, ask twice as many each time.
                wave = 1
                while candidates := self._candidates():
                    for peer in candidates[:wave]:
                        self._start(group, peer)
                    wave = 1 if await self._pause() else 2 * wave

    async def _pieces_arrived(self) -> None:
        """Wait until no more pieces arrive, or it is urgent, or that takes too long."""
        until = self._loop.time() + _ARRIVING_SECONDS
        while self.arrivals.is_arriving(self._loop.time()) and self._loop.time() < until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._is_urgent.wait()
                    return

    def _candidates(self) -> list[str]:
        """Return the scheduled replicas to pull from, those that have failed last; forget the others."""
        is_spent = self._retries.is_spent(self._loop.time())
        for peer in list(self._scheduled):
            if peer in self._pulls or (is_spent and peer in self._failures) or not self.is_behind(peer):
                self._scheduled.discard(peer)
                self._end_if_leaving(peer)
        # In random order, so that no replica can put itself before the others; of the failed ones, each has its turn.
        return sorted(self._scheduled, key=lambda peer: (self._failures.get(peer, (0, 0.0))[1], random.random()))

    def _start(self, group: asyncio.TaskGroup, peer: str) -> None:
        now = self._loop.time()
        busy = [pull for pull in self._pulls.values() if pull.page_at >= 0]
        if len(busy) >= _MAX_AT_ONCE and not _end_one(pull for pull in busy if now - pull.began_at >= _TURN_SECONDS):
            return
        if peer in self._failures:
            self._retries.spend()
        self._scheduled.discard(peer)
        pull = self._pulls[peer] = _Pull(now, Receiver(self._replica, self._admission))
        pull.task = group.create_task(self._run_pull(peer, pull))

    async def _pause(self) -> bool:
        """Wait until a pull has ended or none has brought a page for a while; return whether one has succeeded."""
        began = self._loop.time()
        self._has_succeeded = False
        self._has_ended.clear()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self._has_ended.wait()
            now = self._loop.time()
            is_busy = any(pull.page_at > now - _SILENT_SECONDS for pull in self._pulls.values())
            if self._has_ended.is_set() or not is_busy or now - began > _BUSY_SECONDS:
                return self._has_succeeded

    async def _run_pull(self, peer: str, pull: _Pull) -> None:
        receiver = pull.receiver
        announced = self._peers.vector(peer)
        is_done = False
        try:
            is_done = await self._receive_pages(peer, pull)
        finally:
            self._give_back_room(pull)
            for _ in receiver.ending():
                await asyncio.sleep(0)
            # A replica that delivers less than it has announced will announce it again: that must not go on and on.
            vector = self._replica.context.vector
            is_whole = is_done and all(count <= vector.get(name, 0) for name, count in announced.items())
            self._note_outcome(peer, is_whole=is_whole, has_values=receiver.values > 0)
            fields = {"subject": self._channel.config.state_subject, "replica": peer, "keys": receiver.keys}
            _log.debug("cache_fetched", extra={**fields, "is_done": is_done})
            self._on_pulled(peer, is_whole, receiver.values > 0)
            self._end_if_leaving(peer)

    def _note_outcome(self, peer: str, *, is_whole: bool, has_values: bool) -> None:
        # The error of a cancelled task has frames that name the pull: together they would stay until the next collection.
        self._pulls.pop(peer).task = None
        self._has_ended.set()
        # One that brought no values may have announced events that never were: then the others are not to wait for it.
        self._has_succeeded = self._has_succeeded or (is_whole and has_values)
        self._failures = {name: failures for name, failures in self._failures.items() if self._peers.knows(name)}
        if is_whole:
            self._failures.pop(peer, None)
        else:
            count = self._failures.get(peer, (0, 0.0))[0] + 1
            self._failures[peer] = count, self._loop.time()

    def _end_if_leaving(self, peer: str) -> None:
        if peer not in self._pulls and self._peers.is_leaving(peer):
            self._peers.remove(peer)

    async def _receive_pages(self, peer: str, pull: _Pull) -> bool:
        """Transfer what another replica has and this one lacks; return whether all of it has arrived."""
        failures, receiver = 0, pull.receiver
        is_signed = self._peers.is_signed(peer)
        while not receiver.is_done and failures < _PAGE_TRIES:
            if len(self._pulls) > 1 and receiver.is_needless:
                return True
            try:
                # One in each turn of the loop, as a large context takes some time to send.
                async with self._turn:
                    await asyncio.sleep(0)
                pull.page_bytes = 0
                has_room = functools.partial(self._has_room_for_page, pull)
                answer = await self._channel.request_page(
                    peer, receiver.next_request(), _PAGE_SECONDS, has_room, is_signed=is_signed
                )
                page = await self._collected(pull, answer)
                pull.page_at = self._loop.time()
                if page is None:
                    continue
                # Also before the end, as some replicas may have been heard only since.
                if page.context is not None or page.is_last:
                    context = page.context.vector if page.context is not None else receiver.vector
                    await self._hear_witnesses(peer, context)
                async with self._turn:
                    for _ in receiver.receiving(page, wall_clock_ms()):
                        await asyncio.sleep(0)
                    await asyncio.sleep(0)
                self.pages += 1
                self._bound_names()
            except ForeignMessageError as error:
                self._channel.refuse(error)
                return False
            except errors.RequestTimeoutError:
                failures += 1
            except errors.NatsError:
                return False
        return receiver.is_done

    def _has_room_for_page(self, pull: _Pull, size_bytes: int) -> bool:
        """Tell whether a page that arrives may wait to be merged. A large one waits beside few others."""
        if size_bytes > _LARGE_PAGE_BYTES:
            if sum(other.page_bytes for other in self._pulls.values()) + size_bytes > _MAX_PAGES_BYTES:
                return False
            pull.page_bytes = size_bytes
        return True

    def _bound_names(self) -> None:
        """End a pull if all together have named more keys than replicas keep: then most of them have never been there."""
        pulls = [pull for pull in self._pulls.values() if pull.receiver.size_bytes and not pull.is_ending]
        most = _MAX_NAMES_BYTES + 3 * self._replica.size_bytes
        if sum(pull.receiver.size_bytes for pull in pulls) > most and _end_one(pulls):
            self._channel.refuse(ForeignMessageError("more deleted keys than any replica keeps", Refusal.LIMIT))

    async def _collected(self, pull: _Pull, answer: TransferPage | Piece) -> TransferPage | None:
        """Return the page that an answer brings; None if it is a piece of one, and others are to come.

        Raises:
            ForeignMessageError: The piece is not the one that was requested, or the pieces take too long.
            errors.RequestTimeoutError: There was no room for the pieces.
        """
        if isinstance(answer, Piece) and not pull.room_bytes:
            size_bytes = min(answer.total_bytes, MAX_TEXT_BYTES)
            try:
                await self._room.take(size_bytes, self._loop.time() + _ROOM_SECONDS)
            except TimeoutError:
                raise errors.RequestTimeoutError from None
            pull.room_bytes, pull.pieces_until = size_bytes, self._loop.time() + _PIECES_SECONDS
        page = pull.receiver.collect(answer)
        if page is not None:
            self._give_back_room(pull)
        elif self._loop.time() > pull.pieces_until:
            raise ForeignMessageError("a page whose pieces take too long")
        return page

    def _give_back_room(self, pull: _Pull) -> None:
        if pull.room_bytes:
            self._room.give_back(pull.room_bytes)
            pull.room_bytes = 0

    async def _hear_witnesses(self, peer: str, vector: Mapping[str, int]) -> None:
        """Let the other replicas say themselves how many events they have made, if a context has more of theirs.

        Such a context would make this replica deaf: it would count the next events of that replica as applied.

        Raises:
            ForeignMessageError: One of them has not made the events that the context has.
        """
        arrived_at = self._loop.time()
        if not self._peers.unproven(peer, vector):
            return
        # Its own word counts only if it was given after the page. One question serves all pages that wait for it.
        await asyncio.sleep(self._asked_at + _WITNESS_SECONDS - arrived_at)
        if self._asked_at < arrived_at:
            self._asked_at = self._loop.time()
            self._ask()
        await asyncio.sleep(self._asked_at + _WITNESS_SECONDS - self._loop.time())
        # One that says nothing now may have ended after it made them.
        if self._peers.unproven(peer, vector, self._asked_at):
            raise ForeignMessageError("a transfer with events that their replica has not made")
