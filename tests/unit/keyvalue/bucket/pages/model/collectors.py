"""A collector. It decides with the functions of the provider: which pages may go, and what the fence looks like."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from provider.keyvalue.bucket.entries import EXPECTED_REVISION, MESSAGE_ID
from provider.keyvalue.bucket.pages.garbage.fence import fence_header
from provider.keyvalue.bucket.pages.garbage.suspects import (
    HeadSeen,
    PageSeen,
    Round,
    Suspect,
    suspects_after,
    verdict_of,
)
from provider.keyvalue.bucket.pages.paged_value import PageId
from provider.keyvalue.bucket.reading.stored_form import OPERATION_ID
from provider.keyvalue.bucket.ttl import NO_LIFETIMES
from provider.nats.frames import header_block, header_value
from provider.nats.jetstream import StoredMessage
from tests.unit.keyvalue.bucket.pages.model.rules import GRACE
from tests.unit.keyvalue.bucket.pages.model.world import NOTHING, Message, Page, World

_MOST = 100


class Collector(NamedTuple):
    """A collector of one key.

    Attributes:
        rounds: Rounds that it may still begin.
        step: The step that comes next.
        listed: The pages that this round has listed.
        head: The head that this round has read.
        known: The suspects of earlier rounds, as a value.
        due: The pages that are to be removed.
        incarnation: The streams as this collector knows them.
        quiet_until: Time before which nothing is collected.
    """

    rounds: int = 3
    step: str = "idle"
    listed: tuple[Page, ...] = ()
    head: Message = NOTHING
    known: tuple[tuple[str, float, int], ...] = ()
    due: tuple[str, ...] = ()
    incarnation: int = 0
    quiet_until: int = -1

    @property
    def is_collector(self) -> bool:
        return True

    def steps(self, world: World, me: int) -> Iterator[World]:
        rules = world.rules
        match self.step:
            case "idle" if self.rounds:
                yield from self._begin(world, me)
            case "listed":
                yield from self._read_heads(world, me)
            case "read":  # only where the head is read before the pages are listed
                yield self._judge(world, me, self._replace(listed=tuple(sorted(world.pages))), self.head)
            case "fence":
                sent = world.send(me, self.rounds, self.head.revision, self._fence(world))
                yield sent.with_process(me, self._replace(step="wait"))
            case "wait":  # no answer comes in time
                yield world.with_process(me, self._replace(step="idle" if rules.known_fence else "remove"))
            case "remove":
                # The streams are looked at again: the head may have been read while a backup was still to be restored.
                is_other = rules.same_streams and world.incarnation != self.incarnation
                removed = world if is_other else world.without_pages(self.due)
                yield removed.with_process(me, self._replace(step="idle"))

    def on_reply(self, world: World, me: int, number: int, reply: str, revision: int) -> World:
        """Take the reply to the fence; one that comes too late changes nothing."""
        if number != self.rounds or self.step != "wait":
            return world
        # An acknowledgement of a message that was stored before looks like any other, but for its mark.
        is_there = reply == "ok" or (reply == "duplicate" and not world.rules.own_id)
        return world.with_process(me, self._replace(step="remove" if is_there else "idle"))

    def fault_in(self, world: World) -> str:
        return ""

    def _begin(self, world: World, me: int) -> Iterator[World]:
        begun = self._replace(rounds=self.rounds - 1, due=(), listed=(), head=NOTHING)
        if world.rules.same_streams:
            if world.incarnation != self.incarnation:
                quiet = world.now + GRACE
                yield world.with_process(me, begun._replace(known=(), incarnation=world.incarnation, quiet_until=quiet))
                return
            if world.now <= self.quiet_until:
                return
        if not world.rules.pages_first:
            yield world.with_process(me, begun._replace(step="read", head=world.head))
            return
        yield world.with_process(me, begun._replace(step="listed", listed=tuple(sorted(world.pages))))

    def _read_heads(self, world: World, me: int) -> Iterator[World]:
        yield self._judge(world, me, self, world.head)
        if not world.rules.strong_head:
            yield self._judge(world, me, self, world.old_head)
        # An inner page may not be readable for a moment. Then the pages below it are not known.
        unreadable = self._replace(step="idle")
        yield (
            world.with_process(me, unreadable)
            if world.rules.whole_walk
            else self._judge(world, me, self, world.head, is_walked=False)
        )

    def _judge(self, world: World, me: int, listed: Collector, head: Message, *, is_walked: bool = True) -> World:
        pages = [PageSeen(PageId(page.name), page.time) for page in listed.listed]
        seen = HeadSeen(head.revision, head.time)
        found = Round(pages, {PageId(name) for name in head.pages if is_walked}, seen, world.now, has_one_clock=True)
        known = {PageId(name): Suspect(since, revision) for name, since, revision in listed.known}
        after = suspects_after(known, found, _MOST)
        verdict = verdict_of(known, found, GRACE) if world.rules.two_rounds else verdict_of(after, found, 0)
        remembered = tuple(sorted((name, suspect.since, suspect.revision) for name, suspect in after.items()))
        step = "fence" if verdict.needs_fence and world.rules.fence else "remove"
        judged = listed._replace(
            step=step if verdict.removable else "idle",
            head=head,
            known=remembered,
            due=tuple(verdict.removable),
            listed=(),
        )
        return world.with_process(me, judged)

    def _fence(self, world: World) -> Message:
        operation, message_id = _fenced(self.head.operation, self.head.message_id, self.head.revision)
        if not world.rules.own_id:
            message_id = self.head.message_id
        return self.head._replace(operation=operation, message_id=message_id)


@lru_cache(1024)
def _fenced(operation: str, message_id: str, revision: int) -> tuple[str, str]:
    """Return the operation id and the message id of the fence that the provider makes."""
    pairs = [(OPERATION_ID, operation.encode()), (MESSAGE_ID, message_id.encode()), (EXPECTED_REVISION, b"0")]
    message = StoredMessage("$KV.b.k", revision, 0, header_block(*(pair for pair in pairs if pair[1])), b"")
    fence = fence_header(message, NO_LIFETIMES, 0) or b""
    assert header_value(fence, EXPECTED_REVISION) == b"%d" % revision
    return (header_value(fence, OPERATION_ID) or b"").decode(), (header_value(fence, MESSAGE_ID) or b"").decode()
