"""Readers, other clients, and the events that come from the servers and from operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.unit.keyvalue.bucket.pages.model.rules import GRACE
from tests.unit.keyvalue.bucket.pages.model.world import NOTHING, Backup, Message, World
from tests.unit.keyvalue.bucket.pages.model.writers import Writer


class Reader(NamedTuple):
    """A reader: reads the head, then its pages, and tells whether the value is damaged."""

    step: str = "read"
    head: Message = NOTHING
    began: int = 0

    @property
    def is_collector(self) -> bool:
        return False

    def steps(self, world: World, me: int) -> Iterator[World]:
        match self.step:
            case "read":
                yield world.with_process(me, Reader("pages", world.head, world.now))
            case "pages":
                is_absent = not set(self.head.pages) <= world.names
                yield world.with_process(me, self._replace(step="again" if is_absent else "done"))
                if not world.rules.leased_absence:  # a leader that was cut off knows no page
                    yield world.with_process(me, self._replace(step="again"))
            case "again":
                is_same = world.head.revision == self.head.revision or not world.rules.head_again
                yield world.with_process(me, self._replace(step="damaged" if is_same else "done"))

    def on_reply(self, world: World, me: int, number: int, reply: str, revision: int) -> World:
        raise AssertionError("a reader sends no write")

    def fault_in(self, world: World) -> str:
        if self.step == "damaged":
            return f"called damaged: {self.head.operation}"
        is_in_time = self.step == "pages" and world.now < self.began + GRACE and world.backup.lost_at < 0
        # In a crowded stream a reader may miss pages. It reads the head again, and must not call the value damaged.
        if is_in_time and not world.is_crowded and not set(self.head.pages) <= world.names:
            return f"taken from a reader: {self.head.operation}"
        return ""


def events(world: World) -> Iterator[World]:
    """Yield the worlds after something that no process of the model does."""
    for index, event in enumerate(world.clients_left):
        if index and event == world.clients_left[index - 1]:
            continue
        left = world._replace(clients_left=world.clients_left[:index] + world.clients_left[index + 1 :])
        yield from _event(left, event)


def _event(world: World, event: str) -> Iterator[World]:
    match event:
        case "tick":
            yield world._replace(now=world.now + 1)
        case "overwrite":  # another client puts a small value, without a condition
            yield world.store(Message(operation="other"))
        case "vanish" if world.head.revision:  # a value ends, or an operator removes a marker
            yield world._replace(head=NOTHING, old_head=world.head)
        case "back up":
            yield world._replace(backup=Backup(world.head))
        case "lose" if set(world.backup.head.pages) <= world.names and world.backup.head.revision:
            lost = Backup(world.backup.head, world.now)
            left = world._replace(
                head=NOTHING, old_head=NOTHING, backup=lost, incarnation=world.incarnation + 1, sent=()
            )
            yield left._replace(processes=tuple(_ended(process) for process in world.processes))
        case "restore" if world.backup.lost_at >= 0 and world.now <= world.backup.lost_at + GRACE:
            # Changes since the backup are undone, so they may be made again.
            yield world._replace(head=world.backup.head, backup=Backup(world.backup.head), applied=())


def _ended(process: Any) -> Any:
    """Return a process after the bucket was lost. A provider opens the bucket anew, which ends the writes under way."""
    is_writing = isinstance(process, Writer) and process.step not in ("clean", "done")
    return process._replace(step="ended") if is_writing else process
