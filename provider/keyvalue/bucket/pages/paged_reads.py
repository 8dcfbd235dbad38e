"""Reads of whole paged values, and of ranges of them, with the recent changes in their heads. Pure.

An answer that would be larger than a limit is an error, before more than the limit is in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from provider import errors
from provider.keyvalue.bucket.pages.page_codec import encoded_size
from provider.keyvalue.bucket.pages.paged_value import DamagedPageError, Head, Operation
from provider.keyvalue.bucket.pages.tree_reads import Leaves, tree_count

Members = Head | Iterable[str]
"""The members of a set: paged, or of a set that is one message."""


class AnswerSize:
    """The size of an answer while it is collected.

    Args:
        operation: Name of the operation, for the error.
        maximum: Limit of the answer in bytes.
    """

    def __init__(self, operation: str, maximum: int) -> None:
        self._operation = operation
        self._maximum = maximum
        self._size = 0

    def add(self, elements: Iterable[str]) -> None:
        """Count elements.

        Raises:
            errors.AnswerTooLargeError: The answer is over the limit.
        """
        self.check(self._size + sum(map(encoded_size, elements)))

    def check(self, size: int) -> None:
        """Take over a size, likewise."""
        self._size = size
        if size > self._maximum:
            raise errors.AnswerTooLargeError(self._operation, size, self._maximum)


def text_of(head: Head, answer: AnswerSize) -> Operation[str]:
    """Return a text."""
    try:
        return (yield from bytes_of(head, answer)).decode()
    except UnicodeDecodeError as error:
        raise DamagedPageError(head.root, str(error)) from None


def bytes_of(head: Head, answer: AnswerSize) -> Operation[bytes]:
    """Return the bytes of a text or a binary value."""
    answer.check(head.count)
    leaves = Leaves(head)
    pieces: list[bytes] = []
    while (piece := (yield from leaves.next_piece())) is not None:
        pieces.append(piece)
    return b"".join(pieces)


def range_of(head: Head, start: int, stop: int, answer: AnswerSize) -> Operation[list[str]]:
    """Return elements of a list by their positions.

    Args:
        head: The list.
        start: Position of the first element; negative: from the end.
        stop: Position of the last element, likewise.
        answer: The size of the answer.
    """
    start = max(start + head.count, 0) if start < 0 else start
    end = min(stop + head.count if stop < 0 else stop, head.count - 1) + 1
    in_tree = tree_count(head)
    found: list[str] = []
    if start >= end:
        return found
    leaves = Leaves(head, start, min(end, in_tree))
    while (elements := (yield from leaves.next_elements())) is not None:
        first = leaves.position - len(elements)
        wanted = elements[max(start - first, 0) : end - first]
        answer.add(wanted)
        found += wanted
    recent = head.added[max(start - in_tree, 0) : max(end - in_tree, 0)]
    answer.add(recent)
    found += recent
    return found


class MemberReader:
    """The members of one set in ascending order.

    Args:
        members: The set.
    """

    def __init__(self, members: Members) -> None:
        self._leaves = Leaves(members) if isinstance(members, Head) else None
        self._removed = set(members.removed) if isinstance(members, Head) else set()
        self._recent = list(members.added) if isinstance(members, Head) else sorted(members)

    def next_members(self) -> Operation[list[str] | None]:
        """Return the members that come next, perhaps without any among them; `None` behind the last."""
        leaf = None
        if self._leaves is not None:
            leaf = yield from self._leaves.next_elements()
        if leaf is None:
            rest, self._recent = self._recent, []
            return rest or None
        index = bisect_right(self._recent, leaf[-1])
        recent, self._recent = self._recent[:index], self._recent[index:]
        if self._removed:
            leaf = [member for member in leaf if member not in self._removed]
        return sorted(leaf + recent) if recent else leaf


def members_of(head: Head, answer: AnswerSize) -> Operation[list[str]]:
    """Return all members of a set."""
    answer.check(head.size)
    reader = MemberReader(head)
    found: list[str] = []
    while (members := (yield from reader.next_members())) is not None:
        answer.add(members)
        found += members
    return found


def union_of(sets: Sequence[Members], answer: AnswerSize) -> Operation[list[str]]:
    """Return the members of any of several sets, in ascending order."""
    merge = _Merge(sets)
    found: list[str] = []
    while (parts := (yield from merge.next_parts())) is not None:
        members = sorted(set().union(*parts))
        answer.add(members)
        found += members
    return found


def intersection_of(sets: Sequence[Members], answer: AnswerSize) -> Operation[list[str]]:
    """Return the members that several sets have in common, in ascending order."""
    merge = _Merge(sets)
    found: list[str] = []
    while (parts := (yield from merge.next_parts())) is not None:
        # Behind the end of one set there is nothing in common.
        if merge.has_ended:
            break
        members = sorted(set(parts[0]).intersection(*parts[1:]))
        answer.add(members)
        found += members
    return found


class _Merge:
    """The members of several sets, side by side in ascending order.

    Args:
        sets: The sets.

    Attributes:
        has_ended: Whether one of the sets had no members left for the last parts.
    """

    def __init__(self, sets: Sequence[Members]) -> None:
        self._readers = [MemberReader(members) for members in sets]
        self._chunks: list[list[str] | None] = [[] for _ in sets]
        self.has_ended = False

    def next_parts(self) -> Operation[list[list[str]] | None]:
        """Return the next members of each set up to the same bound; `None` when all sets have ended."""
        for index, reader in enumerate(self._readers):
            while self._chunks[index] == []:
                self._chunks[index] = yield from reader.next_members()
        self.has_ended = None in self._chunks
        there = [chunk for chunk in self._chunks if chunk]
        if not there:
            return None
        bound = min(chunk[-1] for chunk in there)
        parts: list[list[str]] = []
        for index, chunk in enumerate(self._chunks):
            cut = bisect_right(chunk or [], bound)
            parts.append((chunk or [])[:cut])
            if chunk:
                self._chunks[index] = chunk[cut:]
        return parts
