"""The servers of the model: the messages of one key, its pages, and the writes that are under way. Every state is a value."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.unit.keyvalue.bucket.pages.model.rules import Rules


class Message(NamedTuple):
    """The last message of the key. Revision 0: the key has no message.

    Attributes:
        operation: The attempt that wrote it.
        message_id: Id by which a replicated stream tells attempts at the same change; "" for another client's.
        pages: The pages that it reaches; a marker or a small value reaches none.
        sequence: The highest sequence of its pages.
    """

    revision: int = 0
    time: int = 0
    operation: str = ""
    message_id: str = ""
    pages: tuple[str, ...] = ()
    sequence: int = 0


NOTHING = Message()


class Page(NamedTuple):
    name: str
    time: int
    sequence: int


class Sent(NamedTuple):
    """A write of the key that is under way, perhaps for ever.

    Attributes:
        sender: The process that sent it.
        number: Number by which the sender knows the reply.
        expected: Condition of the write; `None`: no condition.
        message: The message to store.
    """

    sender: int
    number: int
    expected: int | None
    message: Message


class Backup(NamedTuple):
    """A copy of the head, and the time at which the bucket was lost; -1: it is there."""

    head: Message = NOTHING
    lost_at: int = -1


class World(NamedTuple):
    """One state.

    Attributes:
        old_head: The message before the last one: a server that was cut off still shows it.
        incarnation: Number of times that the bucket was made anew.
        sent: The writes under way.
        stored_ids: The message ids that the stream has stored.
        applied: Each change of a writer, as often as it was stored.
        processes: The state of each process.
        clients_left: Changes that other clients, or the server, may still make.
        is_crowded: Whether there is so much garbage that replaced pages may go at once.
        fault: The fault that was found; "": none.
    """

    rules: Rules
    is_replicated: bool
    now: int
    head: Message
    old_head: Message
    last_revision: int
    incarnation: int
    pages: frozenset[Page]
    last_sequence: int
    sent: tuple[Sent, ...]
    stored_ids: frozenset[str]
    applied: tuple[str, ...]
    processes: tuple[Any, ...]
    clients_left: tuple[str, ...]
    backup: Backup = Backup()
    is_crowded: bool = False
    fault: str = ""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(page.name for page in self.pages)

    def with_process(self, index: int, process: Any) -> World:
        return self._replace(processes=(*self.processes[:index], process, *self.processes[index + 1 :]))

    def put_page(self, name: str) -> World:
        sequence = self.last_sequence + 1
        others = frozenset(page for page in self.pages if page.name != name)
        return self._replace(pages=others | {Page(name, self.now, sequence)}, last_sequence=sequence)

    def without_pages(self, names: tuple[str, ...]) -> World:
        return self._replace(pages=frozenset(page for page in self.pages if page.name not in names))

    def send(self, sender: int, number: int, expected: int | None, message: Message) -> World:
        return self._replace(sent=(*self.sent, Sent(sender, number, expected, message)))

    def store(self, message: Message) -> World:
        """Put a message under the key, whatever stands there."""
        revision = self.last_revision + 1
        stored = message._replace(revision=revision, time=self.now)
        ids = self.stored_ids | {message.message_id} if message.message_id else self.stored_ids
        return self._replace(head=stored, old_head=self.head, last_revision=revision, stored_ids=ids)


def start(rules: Rules, processes: tuple[Any, ...], clients: tuple[str, ...] = (), *, is_replicated: bool) -> World:
    """Return a world in which the key has a value of two pages."""
    pages = frozenset({Page("a", 0, 1), Page("b", 0, 2)})
    head = Message(1, 0, "first", "first" if is_replicated else "", ("a", "b"), 2)
    return World(
        rules,
        is_replicated,
        0,
        head,
        head,
        1,
        0,
        pages,
        2,
        (),
        frozenset({"first"}),
        (),
        processes,
        tuple(sorted(clients)),
    )


def deliver(world: World, sent: Sent) -> tuple[World, str, int]:
    """Let the server process a write. Return the world, the reply and the revision in it."""
    rest = list(world.sent)
    rest.remove(sent)
    world = world._replace(sent=tuple(rest))
    if world.is_replicated and sent.message.message_id in world.stored_ids:
        return world, "duplicate", world.head.revision
    if sent.expected is not None and sent.expected != world.head.revision:
        return world, "refused", 0
    world = world.store(sent.message)
    change = sent.message.operation.partition(".")[0]
    if not sent.message.operation.startswith(("mark", "first")) and not _is_fence(world, sent):
        world = world._replace(applied=tuple(sorted((*world.applied, change))))
    return world, "ok", world.head.revision


def _is_fence(world: World, sent: Sent) -> bool:
    return bool(world.processes[sent.sender].is_collector)


def fault_of(world: World) -> str:
    """Return the fault of a state by which a value is lost or damaged; "" for a sound state."""
    if world.fault:
        return world.fault
    missing = set(world.head.pages) - world.names
    if missing:
        return f"damaged: {world.head.operation} without {sorted(missing)}"
    twice = [change for change in set(world.applied) if world.applied.count(change) > 1]
    if twice:
        return f"stored twice: {twice}"
    for process in world.processes:
        if reason := process.fault_in(world):
            return str(reason)
    return ""
