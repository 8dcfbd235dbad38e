"""A value after a batch of changes -> its stored form: one message, or a head with new pages. Pure."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from provider.keyvalue.bucket.pages.head import encode_head
from provider.keyvalue.bucket.pages.page_codec import utf8_size
from provider.keyvalue.bucket.pages.paged_reads import elements_of
from provider.keyvalue.bucket.pages.paged_value import Edit, Head, Operation
from provider.keyvalue.bucket.pages.tree_changes import Append, DeleteAt, TreeChange, UpdateSet
from provider.keyvalue.bucket.pages.tree_edits import NewPages, Tree, build_pieces, build_tree, change_tree
from provider.keyvalue.bucket.pages.tree_reads import root_of
from provider.keyvalue.bucket.pages.working_copy import PagedList, PagedSet
from provider.keyvalue.kinds import Kind, Value

MOST_INLINE_BYTES = 64 * 1024
"""Largest payload of a list or a set that is one message: below it, writing all of it costs less than a page."""

_JSON_BYTES = 3
"""Bytes of an element in an array of JSON beside its text: two quotes and a comma."""

_PIECE_BYTES = 512 * 1024
"""Largest leaf of a text: large enough that its cost is that of its bytes, and small beside the memory of a call."""

_PAGE_BYTES = 16 * 1024
"""Size of a page of a list or a set: larger ones cost more for each change, smaller ones more for each read of all."""

_BUFFER_BYTES = 32 * 1024
"""Largest payload of a head with recent changes. It is written with each batch, as a value of one message is."""

_MERGED_CHANGES = 256
"""Most changes of a full buffer that are merged into a set together. Random ones touch as many pages: some four megabytes, for
which the callers of the set wait. The others stay in the buffer until it is full again."""

_LEAST_PARTS = 2
"""Parts of a buffer below which all of it is merged."""

_MESSAGE_RESERVE_BYTES = 4 * 1024
"""Room in a message for the headers of a page, which name its key."""


class PageSizes(NamedTuple):
    """The sizes by which values are divided into pages, in bytes.

    Attributes:
        page: Largest page of a list or a set, but for a single element.
        piece: Largest piece of a text.
        inline: Largest payload of a list or a set that is one message.
        buffer: Largest payload of a head with recent changes.
        merged: Most changes that are merged into a set together, if the others fit into its head.
    """

    page: int = _PAGE_BYTES
    piece: int = _PIECE_BYTES
    inline: int = MOST_INLINE_BYTES
    buffer: int = _BUFFER_BYTES
    merged: int = _MERGED_CHANGES


@functools.cache
def page_sizes(max_payload_bytes: int) -> PageSizes:
    """Return the sizes for a server that takes messages up to a size."""
    # Below 8 KiB, half is left for the headers of keys of usual length; a page whose headers are longer is refused.
    most = max(max_payload_bytes - _MESSAGE_RESERVE_BYTES, max_payload_bytes // 2)
    return PageSizes(
        min(_PAGE_BYTES, most),
        min(_PIECE_BYTES, most),
        min(MOST_INLINE_BYTES, most),
        min(_BUFFER_BYTES, most),
    )


def settle(value: Value, sizes: PageSizes, prefix: str) -> Operation[Edit]:
    """Return the stored form of a value that needs pages, or that has a head now.

    Args:
        value: The value as planned: its data is a `Head`, a `PagedSet`, a `PagedList`, or what does not fit into one message.
        sizes: The sizes of pages.
        prefix: Beginning of the ids of new pages; see `paged_value.page_prefix`.
    """
    match value.data:
        case Head():
            return Edit(value, {})
        case PagedSet() | PagedList():
            return (yield from _settle_copy(value, value.data, sizes, prefix))
    return (yield from _first_pages(value, sizes, prefix))


def _first_pages(value: Value, sizes: PageSizes, prefix: str) -> Operation[Edit]:
    if value.kind not in (Kind.LIST, Kind.SET):
        pages = NewPages(prefix, sizes.piece)
        tree = yield from build_pieces(value.data, pages)
        count = size = tree.root.length
    else:
        elements = sorted(value.data) if value.kind is Kind.SET else value.data
        pages = NewPages(prefix, sizes.page)
        tree = yield from build_tree(elements, value.kind, pages)
        count, size = len(elements), sum(map(utf8_size, elements))
    head = Head(kind=value.kind, root=tree.root.page_id, height=tree.height, count=count, size=size)
    return Edit(Value(value.kind, head, value.expires_at_ms), pages.made, replaces_all=True)


def _settle_copy(value: Value, copy: PagedSet | PagedList, sizes: PageSizes, prefix: str) -> Operation[Edit]:
    head = copy.head
    deleted = copy.deleted if isinstance(copy, PagedList) else None
    if head.size + _JSON_BYTES * len(copy) < sizes.inline // 4:
        inline = yield from _inline(head, deleted)
        # Many characters take more room in JSON. A value that would have pages again at once keeps them.
        if len(msgspec.json.encode(list(inline))) <= sizes.inline:
            return Edit(Value(value.kind, inline, value.expires_at_ms), {}, replaces_all=True)
    base = Tree(root_of(head), head.height)
    changes: list[TreeChange] = [] if deleted is None else [DeleteAt(deleted)]
    if len(encode_head(head)) > sizes.buffer or len(copy) == len(head.added):
        # An element must be left in the tree, so where all others are in the buffer, all of it is merged.
        left = _head_with_room(head, sizes, prefix) if len(copy) > len(head.added) else None
        left = left or replace(head, added=(), removed=())
        changes += _buffered_changes(head, left)
        head = left
    pages = NewPages(prefix, sizes.page)
    tree = yield from _change(base, changes, head.kind, pages)
    head = replace(head, root=tree.root.page_id, height=tree.height, count=len(copy))
    return Edit(
        Value(value.kind, head, value.expires_at_ms), pages.made, tuple(pages.replaced), False, pages.replaced_bytes
    )


def _head_with_room(head: Head, sizes: PageSizes, seed: str) -> Head | None:
    """Return the head of a set without a part of its changes; `None` if all of them have to go.

    The part is one of several of equal length, in the order of the set, since neighbours share inner nodes. A seed chooses it.
    """
    changed = sorted((*head.added, *head.removed))
    parts = -(-len(changed) // sizes.merged)
    if head.kind is not Kind.SET or parts < _LEAST_PARTS:
        return None
    part = zlib.crc32(seed.encode()) % parts
    merged = set(changed[len(changed) * part // parts : len(changed) * (part + 1) // parts])
    left = replace(
        head,
        added=tuple(member for member in head.added if member not in merged),
        removed=tuple(member for member in head.removed if member not in merged),
    )
    return left if len(encode_head(left)) <= sizes.buffer else None


def _buffered_changes(head: Head, left: Head) -> list[TreeChange]:
    """Return the changes in the buffer of a head that are not in that of another one any more."""
    if head.kind is Kind.LIST:
        return [Append(head.added)] if head.added else []
    added, removed = set(left.added), set(left.removed)
    merged = UpdateSet(
        [member for member in head.added if member not in added],
        [member for member in head.removed if member not in removed],
    )
    return [merged] if head.added or head.removed else []


def _change(tree: Tree, changes: Sequence[TreeChange], kind: Kind, pages: NewPages) -> Operation[Tree]:
    left: Tree | None = tree
    for change in changes:
        if left is None:  # the tree's last element was deleted, and the others are in the buffer
            assert isinstance(change, Append)
            left = yield from build_tree(list(change.elements), kind, pages)
        else:
            left = yield from change_tree(left, change, kind, pages)
    assert left is not None, "a value without elements has no head"
    return left


def _inline(head: Head, deleted: int | None) -> Operation[list[str] | dict[str, None]]:
    """Return all elements, but for the one at a position of the tree."""
    elements = yield from elements_of(head)
    if head.kind is Kind.SET:
        return dict.fromkeys(elements)
    if deleted is not None:
        del elements[deleted]
    return elements
