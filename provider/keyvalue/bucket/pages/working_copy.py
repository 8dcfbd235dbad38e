"""A paged list or set while a batch of changes is planned, as `values` changes it. Pure.

A batch needs only the elements that it names: they are looked up in the tree first, and then the changes apply to the head's
buffer one after the other, as if the whole value were there.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from msgspec.structs import replace

from contracts import keyvalue as kv
from provider.keyvalue.bucket.pages.page_codec import utf8_size
from provider.keyvalue.bucket.pages.paged_value import Head, Operation, PageId
from provider.keyvalue.bucket.pages.tree_reads import members_found, position_of
from provider.keyvalue.kinds import Kind


class PagedSet:
    """The members of a paged set that a batch names.

    Args:
        head: The set before the batch.
        in_tree: Those of the members named that are in the tree.
    """

    def __init__(self, head: Head, in_tree: set[str]) -> None:
        self._head = head
        self._in_tree = in_tree
        # In ascending order, as in the head: a batch names few members, and there may be a thousand here.
        self._added = list(head.added)
        self._removed = list(head.removed)
        self._size = head.size

    def __contains__(self, member: str) -> bool:
        return _has(self._added, member) or (member in self._in_tree and not _has(self._removed, member))

    def __setitem__(self, member: str, nothing: None) -> None:
        """Add a text that is not a member, as to the `dict` of a set."""
        if member in self._in_tree:
            _discard(self._removed, member)
        else:
            insort(self._added, member)
        self._size += utf8_size(member)

    def __delitem__(self, member: str) -> None:
        if not _discard(self._added, member):
            insort(self._removed, member)
        self._size -= utf8_size(member)

    def __len__(self) -> int:
        head = self._head
        return head.count + len(self._added) - len(head.added) - len(self._removed) + len(head.removed)

    @property
    def head(self) -> Head:
        """The head after the changes."""
        added, removed = tuple(self._added), tuple(self._removed)
        return replace(self._head, count=len(self), size=self._size, added=added, removed=removed)


def _has(members: list[str], member: str) -> bool:
    index = bisect_left(members, member)
    return index < len(members) and members[index] == member


def _discard(members: list[str], member: str) -> bool:
    """Remove a text from members in ascending order; return whether it was one."""
    index = bisect_left(members, member)
    is_there = index < len(members) and members[index] == member
    if is_there:
        del members[index]
    return is_there


class PagedList:
    """The elements of a paged list that a batch names.

    Args:
        head: The list before the batch.
        found: The element that is to be deleted, with its first position in the tree, if it is there. Such a batch has one
            change only.

    Attributes:
        deleted: Position in the tree of the element that was deleted.
    """

    def __init__(self, head: Head, found: tuple[str, int | None] | None = None) -> None:
        self.deleted: int | None = None
        self._head = head
        self._found = found
        self._added = list(head.added)
        self._size = head.size

    def append(self, element: str) -> None:
        self._added.append(element)
        self._size += utf8_size(element)

    def __contains__(self, element: str) -> bool:
        return self._position(element) is not None or element in self._added

    def remove(self, element: str) -> None:
        """Remove the first element that equals a text, of which there is one."""
        self.deleted = self._position(element)
        if self.deleted is None:
            self._added.remove(element)
        self._size -= utf8_size(element)

    def __len__(self) -> int:
        head = self._head
        return head.count + len(self._added) - len(head.added) - (self.deleted is not None)

    @property
    def head(self) -> Head:
        """The head after the changes of the buffer; an element that was deleted is still in its tree and in its count."""
        count = len(self) + (self.deleted is not None)
        return replace(self._head, count=count, size=self._size, added=tuple(self._added))

    def _position(self, element: str) -> int | None:
        assert self._found is not None, "no element was looked up"
        assert self._found[0] == element, "another element was looked up"
        return self._found[1]


def working_copy(
    head: Head, requests: Iterable[kv.Request], skipped: set[PageId]
) -> Operation[Head | PagedSet | PagedList]:
    """Look up what a batch names, and return the value for it to change.

    Args:
        head: The value.
        requests: The changes. If a ListDel is one of them, it is the only one.
        skipped: See `tree_reads.position_of`.
    """
    if head.kind is Kind.SET:
        named = {request.value for request in requests if isinstance(request, (kv.SetAdd, kv.SetDel))}
        # A text in the buffer's additions is not in the tree.
        return PagedSet(head, (yield from members_found(head, named.difference(head.added))))
    if head.kind is Kind.LIST:
        for request in requests:
            if isinstance(request, kv.ListDel):
                position = yield from position_of(head, request.value, skipped)
                return PagedList(head, (request.value, position))
        return PagedList(head)
    return head
