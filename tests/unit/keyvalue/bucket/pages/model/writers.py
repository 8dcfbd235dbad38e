"""A writer: reads the head, puts new pages, commits a head by compare-and-set, removes the pages that it has replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.keyvalue.bucket.pages.model.rules import GRACE
from tests.unit.keyvalue.bucket.pages.model.world import NOTHING, Message, World

_ATTEMPTS = 2
_SENDS = 2


class Writer(NamedTuple):
    """One change by one process.

    Attributes:
        name: Name of the change.
        work: `edit` replaces the last page, `set` all pages, `delete` removes the value.
        step: The step that comes next.
        base: The message that the change builds on.
        attempt: Number of the attempt, from 0.
        sends: Number of times that this head was sent.
        page: The new page.
        due: Time at which the replaced pages go.
        incarnation: The streams in which they were replaced.
    """

    name: str
    work: str
    step: str = "read"
    base: Message = NOTHING
    attempt: int = 0
    sends: int = 0
    page: str = ""
    due: int = -1
    incarnation: int = 0

    @property
    def is_collector(self) -> bool:
        return False

    def steps(self, world: World, me: int) -> Iterator[World]:
        match self.step:
            case "read":
                yield self._read(world, me)
            case "mark":
                sent = world.send(me, self._number, 0, Message(operation=f"mark.{self.name}{self.attempt}"))
                yield sent.with_process(me, self._replace(step="marking"))
            case "put":
                name = self.page or f"{self.name}{self.attempt}"
                yield world.put_page(name).with_process(me, self._replace(step="send", page=name))
            case "send":
                yield self._send(world, me)
            case "wait":  # no answer comes in time
                yield world.with_process(me, self._replace(step="check"))
            case "check":
                yield self._check(world, me)
            case "clean" if world.now >= self.due or world.is_crowded or not world.rules.grace:
                yield self._clean(world, me)

    def on_reply(self, world: World, me: int, number: int, reply: str, revision: int) -> World:
        """Take the reply to a write; one that comes too late changes nothing."""
        if number != self._number or self.step not in ("marking", "wait"):
            return world
        if self.step == "marking":
            mark = Message(revision, world.now)
            return (
                world.with_process(me, self._replace(step="put" if self.work != "delete" else "send", base=mark))
                if reply == "ok"
                else world.with_process(me, self._again())
            )
        if reply == "ok":
            return self._committed(world, me)
        if reply == "refused" and world.is_replicated:
            # A leader that was deposed may refuse what its successor stores: the head tells.
            return world.with_process(me, self._replace(step="check", sends=_SENDS))
        if reply == "refused" and (self.sends == 1 or not world.rules.certain_loss):
            world = world.without_pages((self.page,)) if world.rules.new_pages else world
            return world.with_process(me, self._again())
        return world.with_process(me, self._replace(step="check"))

    def fault_in(self, world: World) -> str:
        is_there = self.name in world.applied or world.incarnation > 0
        return "" if self.step != "done" or is_there else f"lost: {self.name}"

    @property
    def _number(self) -> int:
        return self.attempt * 10 + self.sends

    def _again(self) -> Writer:
        if self.attempt + 1 == _ATTEMPTS:
            return self._replace(step="failed")
        return Writer(self.name, self.work, attempt=self.attempt + 1, page=self.page)

    def _read(self, world: World, me: int) -> World:
        head = world.head
        page = "" if world.rules.new_pages else self.page
        first = "send" if self.work == "delete" or page else "put"
        if not head.revision and world.rules.never_nothing:
            first = "mark"
        return world.with_process(me, self._replace(step=first, base=head, page=page))

    def _send(self, world: World, me: int) -> World:
        expected = self.base.revision if world.rules.never_blind else None
        pages, sequence = self._new_pages(world)
        message_id = self.name if world.is_replicated else ""
        message = Message(0, 0, f"{self.name}.{self.attempt}", message_id, pages, sequence)
        sent = self._replace(step="wait", sends=self.sends + 1)
        return world.send(me, sent._number, expected, message).with_process(me, sent)

    def _new_pages(self, world: World) -> tuple[tuple[str, ...], int]:
        if self.work == "delete":
            return (), 0
        kept = self.base.pages[:-1] if self.work == "edit" else ()
        sequence = next((page.sequence for page in world.pages if page.name == self.page), 0)
        return (*kept, self.page), max(sequence, self.base.sequence if kept else 0)

    def _check(self, world: World, me: int) -> World:
        """Find out after a lost answer, or an uncertain refusal, whether the head was stored."""
        if world.head.operation == f"{self.name}.{self.attempt}":
            return self._committed(world, me)
        if world.head.revision == self.base.revision and self.sends < _SENDS and world.rules.never_blind:
            return world.with_process(me, self._replace(step="send"))
        return world.with_process(me, self._replace(step="unknown"))

    def _committed(self, world: World, me: int) -> World:
        done = self._replace(step="clean", due=world.now + GRACE, incarnation=world.incarnation)
        return world.with_process(me, done)

    def _clean(self, world: World, me: int) -> World:
        done = world.with_process(me, self._replace(step="done"))
        if world.rules.same_streams and world.incarnation != self.incarnation:
            return done  # a head that was restored may reach them
        if self.work == "edit":
            return done.without_pages(self.base.pages[-1:])
        if self.work == "set":
            return done.without_pages(self.base.pages)
        if not self.base.pages:
            return done
        most = self.base.sequence if world.rules.bounded_purge else world.last_sequence
        return done.without_pages(tuple(page.name for page in world.pages if page.sequence <= most))
