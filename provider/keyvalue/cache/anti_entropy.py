"""Anti-entropy: pulling from other replicas the events that did not arrive as deltas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from provider import errors
from provider.keyvalue.cache.channel import Channel
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Receiver
from provider.keyvalue.cache.trust.admission import Admission
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError
from provider.keyvalue.clock import wall_clock_ms

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.1
"""Time for events that another replica has applied to arrive here too. Events that are missing then are pulled."""

_PAGE_SECONDS = 1.0
_PAGE_TRIES = 3
"""A page that does not arrive is requested again. After three seconds its sender has ended or is cut off."""


class AntiEntropy:
    """The pulls of one replica, one after the other.

    Args:
        replica: Replica that pulls.
        admission: Check of the pages.
        peers: Other replicas, with the contexts they have told.
        channel: Channel to them.
        on_pulled: Function called when a pull has succeeded.
        on_complete: Function called after a round of pulls when no other replica has more than this one.

    Attributes:
        pages: Number of pages received.
    """

    def __init__(
        self,
        replica: Replica,
        admission: Admission,
        peers: Peers,
        channel: Channel,
        on_pulled: Callable[[], None],
        on_complete: Callable[[], None],
    ) -> None:
        self.pages = 0
        self._replica = replica
        self._admission = admission
        self._peers = peers
        self._channel = channel
        self._on_pulled = on_pulled
        self._on_complete = on_complete
        self._scheduled: set[str] = set()
        self._failures: dict[str, int] = {}
        """By replica, the number of pulls that have failed since the last one that did not."""
        self._is_due = asyncio.Event()
        self._is_urgent = asyncio.Event()

    def schedule(self, peer: str) -> None:
        """Pull from a replica soon, if it then still has more than this one."""
        self._scheduled.add(peer)
        self._is_due.set()

    def schedule_if_behind(self, peer: str) -> None:
        """Pull from a replica soon if its last heartbeat told of more than this one has."""
        if self._peers.has_more(peer, self._replica.context):
            self.schedule(peer)

    def hurry(self) -> None:
        """Pull without waiting for events on their way, as a replica is about to end."""
        self._is_urgent.set()

    def is_scheduled(self, peer: str) -> bool:
        return peer in self._scheduled

    async def run(self) -> None:
        """Pull from the scheduled replicas until cancelled."""
        while True:
            # 1. Wait until a replica has more, and then for the events that are still on their way.
            await self._is_due.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._is_urgent.wait()
            self._is_urgent.clear()
            self._is_due.clear()
            peers, self._scheduled = self._scheduled, set()
            # 2. Pull the events that have not arrived meanwhile: last from replicas that have failed, as waiting for
            # their pages holds up pulls from others, which may have the same events.
            for peer in sorted(peers, key=lambda peer: self._failures.get(peer, 0)):
                if self._is_behind(peer) and await self.pull(peer):
                    self._on_pulled()
                if self._peers.is_leaving(peer):
                    self._peers.remove(peer)
            # 3. Without this, a joiner whose first pulls failed would never know that it has everything by now.
            if not any(self._is_behind(peer) for peer in self._peers.ids):
                self._on_complete()

    async def pull(self, peer: str) -> bool:
        """Transfer what another replica has and this one lacks; return whether all of it has arrived."""
        receiver = Receiver(self._replica, self._admission)
        try:
            is_done = await self._receive_pages(peer, receiver)
        finally:
            receiver.end()
        self._failures = {name: count for name, count in self._failures.items() if self._peers.knows(name)}
        self._failures[peer] = 0 if is_done else self._failures.get(peer, 0) + 1
        return is_done

    def _is_behind(self, peer: str) -> bool:
        """Tell whether events of a replica, or events that it has applied, are missing here."""
        context = self._replica.context
        return peer in context.cloud or self._peers.has_more(peer, context)

    async def _receive_pages(self, peer: str, receiver: Receiver) -> bool:
        failures = 0
        is_signed = self._peers.is_signed(peer)
        while not receiver.is_done and failures < _PAGE_TRIES:
            try:
                page = await self._channel.request_page(peer, receiver.request(), _PAGE_SECONDS, is_signed=is_signed)
                receiver.receive(page, wall_clock_ms())
                self.pages += 1
            except ForeignMessageError as error:
                self._channel.refuse(error)
                return False
            except errors.RequestTimeoutError:
                failures += 1
            except errors.NatsError:
                return False
        fields = {"subject": self._channel.config.state_subject, "replica": peer, "keys": receiver.keys}
        _log.debug("cache_fetched", extra={**fields, "is_done": receiver.is_done})
        return receiver.is_done
