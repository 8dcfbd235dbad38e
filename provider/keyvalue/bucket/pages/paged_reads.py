"""Reads of whole paged values, and of ranges of them, with the recent changes in their heads. Pure.

An answer that would be larger than a limit is an error, before more than the limit is in memory.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Collection, Sequence

from contracts.encoded_texts import EncodedGet, EncodedTexts
from contracts.long_values import LONG_BYTES, LongBytes, LongText, are_utf8, utf8_outline
from provider.keyvalue.bucket.pages.paged_value import DamagedPageError, Head, Operation
from provider.keyvalue.bucket.pages.tree_reads import Leaves, members_found, tree_count
from provider.keyvalue.kinds import Kind
from provider.keyvalue.values import Answer, range_bounds

Members = Head | Collection[str]
"""The members of a set: paged, or of a set that is one message."""

Part = tuple[list[str], bytes | None]
"""Elements, and the page that has these and no others, if there is one."""

_LEAVES_TOGETHER = 32
"""Leaves of one set to look up members in together: half a megabyte, which hides most round trips."""

_LEAF_BYTES = 12 * 1024
"""Size of a leaf that changes have split and merged, about."""


def text_of(head: Head, answer: Answer) -> Operation[str | LongText]:
    """Return a text; a long one in parts, of which each is checked when it is read."""
    outlines, pieces = [], []
    answer.check(head.count)
    leaves = Leaves(head)
    while (piece := (yield from leaves.next_piece())) is not None:
        outlines.append(utf8_outline(piece))
        pieces.append(piece)
    if not are_utf8(outlines):
        raise DamagedPageError(head.root, "it is not UTF-8")
    return LongText(pieces) if head.count >= LONG_BYTES else b"".join(pieces).decode()


def get_response(head: Head, answer: Answer) -> Operation[EncodedGet]:
    """Return the answer of a `Get`. The pieces are checked to be a text, which is never in memory as a whole beside the answer."""
    answer.check(head.count)
    leaves, decoder = Leaves(head), codecs.getincrementaldecoder("utf-8")()
    encoded = EncodedGet(head.count)
    try:
        while (piece := (yield from leaves.next_piece())) is not None:
            decoder.decode(piece)
            encoded.add(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DamagedPageError(head.root, str(error)) from None
    return encoded


def bytes_of(head: Head, answer: Answer) -> Operation[bytes | LongBytes]:
    """Return a binary value; a long one in parts."""
    answer.check(head.count)
    leaves, pieces = Leaves(head), []
    while (piece := (yield from leaves.next_piece())) is not None:
        pieces.append(piece)
    return LongBytes(pieces) if head.count >= LONG_BYTES else b"".join(pieces)


class RangeReader:
    """The elements of a list between two positions, in order.

    Args:
        head: The list.
        start: Position of the first element; negative: from the end.
        stop: Position of the last element, likewise.

    Attributes:
        length: Number of these elements.
    """

    def __init__(self, head: Head, start: int = 0, stop: int = -1) -> None:
        self._start, end = range_bounds(start, stop, head.count)
        self._end = min(end, head.count)
        self.length = max(0, self._end - self._start)
        in_tree = tree_count(head)
        self._leaves = Leaves(head, self._start, min(self._end, in_tree) if self.length else 0)
        self._recent: list[str] | None = list(head.added[max(self._start - in_tree, 0) : max(self._end - in_tree, 0)])

    def next_part(self) -> Operation[Part | None]:
        """Return the elements that come next; `None` behind the last."""
        found = yield from self._leaves.next_child()
        if found is None:
            recent, self._recent = self._recent, None
            return (recent, None) if recent else None
        _, elements, leaf = found
        first = self._leaves.position - len(elements)
        if first >= self._start and first + len(elements) <= self._end:
            return elements, leaf
        return elements[max(self._start - first, 0) : self._end - first], None


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
        part = yield from self.next_part()
        return None if part is None else part[0]

    def next_part(self) -> Operation[Part | None]:
        """Do the same, with the page that has them if it has no others."""
        found = None
        if self._leaves is not None:
            found = yield from self._leaves.next_child()
        if found is None:
            rest, self._recent = self._recent, []
            return (rest, None) if rest else None
        _, members, leaf = found
        index = bisect_right(self._recent, members[-1])
        recent, self._recent = self._recent[:index], self._recent[index:]
        if self._removed.isdisjoint(members) and not recent:
            return members, leaf
        return sorted([member for member in members if member not in self._removed] + recent), None


def collected(reader: RangeReader | MemberReader, answer: Answer) -> Operation[EncodedTexts]:
    """Return all elements of a reader."""
    while (part := (yield from reader.next_part())) is not None:
        answer.add(*part)
    return answer.texts


def reader_of(head: Head) -> RangeReader | MemberReader:
    """Return the reader of all elements of a list or a set."""
    return RangeReader(head) if head.kind is Kind.LIST else MemberReader(head)


def elements_of(head: Head) -> Operation[list[str]]:
    """Return all elements of a list or a set, as texts."""
    reader = reader_of(head)
    found: list[str] = []
    while (part := (yield from reader.next_part())) is not None:
        found += part[0]
    return found


def union_of(sets: Sequence[Members], answer: Answer) -> Operation[EncodedTexts]:
    """Return the members of any of several sets, in ascending order."""
    merge = _Merge(sets)
    while (parts := (yield from merge.next_parts())) is not None:
        there = [part for part in parts if part[0]]
        if len(there) == 1:
            answer.add(*there[0])
        else:
            answer.add(sorted(set().union(*(members for members, _ in there))))
    return answer.texts


def intersection_of(sets: Sequence[Members], answer: Answer) -> Operation[EncodedTexts]:
    """Return the members that several sets have in common, in ascending order.

    Those of the smallest set are looked up in the others, so that of a huge one only the leaves are read that may have some.
    """
    smallest, *others = sorted(sets, key=_length)
    reader = MemberReader(smallest)
    most = _most_together(smallest, others)
    members: list[str] | None = []
    while members is not None:
        together: list[str] = []
        while len(together) < most and (members := (yield from reader.next_members())) is not None:
            together += members
        for start in range(0, len(together), most):
            answer.add((yield from _common(together[start : start + most], others)))
    return answer.texts


def _common(members: list[str], others: Sequence[Members]) -> Operation[list[str]]:
    """Return those of some members that are in all other sets."""
    for other in others:
        if not members:
            break
        if isinstance(other, Head):
            added = set(other.added)
            in_tree = yield from members_found(other, [member for member in members if member not in added])
            found = in_tree.difference(other.removed) | added
        else:
            found = set(other)
        members = [member for member in members if member in found]
    return members


def _length(members: Members) -> int:
    return members.count if isinstance(members, Head) else len(members)


def _most_together(smallest: Members, others: Sequence[Members]) -> int:
    """Return the number of members to look up together, so that some `_LEAVES_TOGETHER` of the largest set are read for them."""
    leaves = max((other.size // _LEAF_BYTES for other in others if isinstance(other, Head)), default=0)
    return max(_LEAVES_TOGETHER, _LEAVES_TOGETHER * _length(smallest) // max(leaves, 1))


class _Merge:
    """The members of several sets, side by side in ascending order.

    Args:
        sets: The sets.
    """

    def __init__(self, sets: Sequence[Members]) -> None:
        self._readers = [MemberReader(members) for members in sets]
        self._parts: list[Part | None] = [([], None) for _ in sets]

    def next_parts(self) -> Operation[list[Part] | None]:
        """Return the next members of each set up to the same bound; `None` when all sets have ended."""
        for index, reader in enumerate(self._readers):
            while (part := self._parts[index]) is not None and not part[0]:
                self._parts[index] = yield from reader.next_part()
        there = [part for part in self._parts if part is not None]
        if not there:
            return None
        bound = min(members[-1] for members, _ in there)
        parts: list[Part] = []
        for index, part in enumerate(self._parts):
            if part is None:
                continue
            members, leaf = part
            cut = bisect_right(members, bound)
            is_whole = cut == len(members)
            parts.append(part if is_whole else (members[:cut], None))
            self._parts[index] = ([], None) if is_whole else (members[cut:], leaf if not cut else None)
        return parts
