"""The operations on a tree of pages that change nothing. Pure; see `paged_value.Operation`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from provider.keyvalue.bucket.pages.page_codec import (
    Child,
    Node,
    check_piece,
    decode_elements,
    decode_node,
    hash_prefix,
)
from provider.keyvalue.bucket.pages.paged_value import PAUSE, DamagedPageError, Head, Operation, PageId, Wanted
from provider.keyvalue.kinds import Kind

_PAGES_AHEAD = 32
"""Leaves of a list or a set to read ahead: half a megabyte, about what a connection carries in one round trip."""

_PIECES_AHEAD = 4
"""Leaves of a text to read ahead: two megabytes, which keep a connection busy while one piece is used."""

_FEW_MEMBERS = 32
"""Members that are looked up in a leaf one by one. For more, it is faster to take all members of the leaf in hand."""

_LEAVES_PER_PAUSE = 8
"""Leaves to look up members in before others go on: it takes about a millisecond."""

_NODES_AT_ONCE = 64
"""Inner nodes that a walk over all of them asks for at once: about a megabyte."""


def tree_count(head: Head) -> int:
    """Return the number of elements in the tree, without the buffer."""
    return head.count - len(head.added) + len(head.removed)


def root_of(head: Head) -> Child:
    return Child(head.root, tree_count(head))


class Leaves:
    """The leaves of a tree, in order, read ahead.

    Args:
        head: The head of the tree.
        start: Position of the first element wanted; leaves before it are not read.
        stop: Position behind the last element wanted; `None`: the end.
        skipped: Pages that are known not to matter, nor anything below them. The pages that were passed are added by `pass_by`.
        most_ahead: Leaves to read ahead; `None`: as many as keep a connection busy.

    Attributes:
        position: Position of the first element of the next leaf.
    """

    def __init__(
        self,
        head: Head,
        start: int = 0,
        stop: int | None = None,
        skipped: set[PageId] | None = None,
        most_ahead: int | None = None,
    ) -> None:
        self.position = 0
        self._kind = head.kind
        self._prefix = hash_prefix(head.root)
        self._start = start
        self._stop = tree_count(head) if stop is None else stop
        self._skipped = skipped if skipped is not None else set()
        usual = _PAGES_AHEAD if head.kind in (Kind.LIST, Kind.SET) else _PIECES_AHEAD
        self._most_ahead = usual if most_ahead is None else most_ahead
        self._todo = [(root_of(head), head.height)]
        """The nodes that come next, each with its level; the next one is the last."""
        self._asked_ahead = 0
        """Number of nodes to come that were named as the next ones already."""

    def next_elements(self) -> Operation[list[str] | None]:
        """Return the next leaf of a list or a set; `None` behind the last."""
        found = yield from self._next()
        return None if found is None else decode_elements(*found)

    def next_piece(self) -> Operation[bytes | None]:
        """Return the next leaf of a text or a binary value; `None` behind the last."""
        found = yield from self._next()
        return None if found is None else check_piece(*found)

    def next_child(self) -> Operation[tuple[Child, list[str], bytes] | None]:
        """Return the next leaf of a list or a set with its place in the tree and its page; `None` behind the last."""
        found = yield from self._next()
        return None if found is None else (found[0], decode_elements(*found), found[1])

    def _next(self) -> Operation[tuple[Child, bytes] | None]:
        while self._todo and self.position < self._stop:
            child, level = self._todo.pop()
            # Level 0 stands behind the nodes below an inner node: all of them were passed by.
            if not level:
                self._skipped.add(child.page_id)
                continue
            if self.position + child.length <= self._start or child.page_id in self._skipped:
                self.position += child.length
                continue
            payloads = yield Wanted((child.page_id,), self._ahead(self.position + child.length))
            payload = payloads[child.page_id]
            if level == 1:
                self.position += child.length
                return child, payload
            node = decode_node(child, payload, self._kind)
            self._todo.append((child, 0))
            self._todo.extend((below, level - 1) for below in reversed(node.children(self._prefix, child.low)))
        return None

    def _ahead(self, position: int) -> tuple[PageId, ...]:
        # Naming all of them again with each leaf would cost more than the leaf.
        self._asked_ahead -= 1
        if self._asked_ahead > self._most_ahead // 2:
            return ()
        ahead: list[PageId] = []
        for child, level in reversed(self._todo):
            if position >= self._stop or len(ahead) == self._most_ahead:
                break
            if level and child.page_id not in self._skipped and position + child.length > self._start:
                ahead.append(child.page_id)
            position += child.length if level else 0
        self._asked_ahead = len(ahead)
        return tuple(ahead)


def members_found(head: Head, members: Iterable[str]) -> Operation[set[str]]:
    """Return those of some texts that are members of the tree of a set, which its buffer may contradict."""
    prefix = hash_prefix(head.root)
    groups = {root_of(head): sorted(members)}
    if not groups[root_of(head)]:
        return set()
    for _ in range(head.height - 1):
        payloads = yield Wanted(tuple(child.page_id for child in groups))
        below: dict[Child, list[str]] = {}
        for child, group in groups.items():
            node = decode_node(child, payloads[child.page_id], Kind.SET)
            for index, share in _shares(node, group):
                below[Child(PageId(prefix + node.ids[index]), node.counts[index])] = share
        groups = below
    payloads = yield Wanted(tuple(child.page_id for child in groups))
    found: set[str] = set()
    for number, (child, group) in enumerate(groups.items()):
        if number and not number % _LEAVES_PER_PAUSE:
            yield PAUSE
        elements = decode_elements(child, payloads[child.page_id])
        if len(group) > _FEW_MEMBERS:
            found.update(set(group).intersection(elements))
        else:
            found.update(member for member in group if _is_in(elements, member))
    return found


def _shares(node: Node, members: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Divide members in ascending order among the children of a node; yield the index of each child that has some."""
    start = 0
    while start < len(members):
        index = bisect_right(node.lows, members[start])
        stop = bisect_left(members, node.lows[index], start) if index < len(node.lows) else len(members)
        yield index, members[start:stop]
        start = stop


def _is_in(elements: list[str], member: str) -> bool:
    index = bisect_left(elements, member)
    return index < len(elements) and elements[index] == member


def position_of(head: Head, element: str, skipped: set[PageId]) -> Operation[int | None]:
    """Return the position of the first element of the tree of a list that equals a text; `None`: there is no such element.

    Args:
        head: The head of the list.
        element: The text.
        skipped: Pages that are known not to have the element below them. Those that are passed by are added, so a search
            that is repeated on a later head reads only new pages.
    """
    leaves = Leaves(head, skipped=skipped)
    while True:
        first = yield from leaves.next_child()
        if first is None:
            return None
        child, elements, _ = first
        if element in elements:
            return leaves.position - child.length + elements.index(element)
        skipped.add(child.page_id)


def reachable_pages(head: Head) -> Operation[set[PageId]]:
    """Return the ids of all pages of a value. Only the inner nodes are read.

    Raises:
        DamagedPageError: An inner node is not readable, or a page has two places, which no provider wrote. To follow such pages could
            take for ever: with each level there may be twice as many ways to the same few pages.
    """
    prefix = hash_prefix(head.root)
    level = [root_of(head)]
    found = {head.root}
    for _ in range(head.height - 1):
        below: list[Child] = []
        for start in range(0, len(level), _NODES_AT_ONCE):
            nodes = level[start : start + _NODES_AT_ONCE]
            payloads = yield Wanted(tuple(child.page_id for child in nodes))
            for child in nodes:
                below += decode_node(child, payloads[child.page_id], head.kind).children(prefix, "")
        before = len(found)
        found.update(child.page_id for child in below)
        if len(found) != before + len(below):
            raise DamagedPageError(head.root, "has a page in two places below it")
        level = below
    return found
