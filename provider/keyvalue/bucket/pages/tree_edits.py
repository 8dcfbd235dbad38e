"""Changes of a copy-on-write tree of pages. Pure; see `paged_value.Operation`.

A change makes every page on the way to it anew and leaves the others as they are. All leaves have the same distance from the
root. A page that grows beyond its size is split. Two neighbours below one node become one page when they fit three quarters
of it, so that a tree from which elements are deleted shrinks, and a page that was just merged has room to grow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from contracts.long_values import LongBytes, LongText
from provider.keyvalue.bucket.pages.page_codec import (
    CHILD_OVERHEAD_BYTES,
    NODE_OVERHEAD_BYTES,
    Child,
    decode_elements,
    decode_node,
    encode_elements,
    encode_node,
    encoded_size,
    hash_prefix,
    utf8_size,
)
from provider.keyvalue.bucket.pages.paged_value import PAUSE, DamagedPageError, Operation, PageId, Wanted
from provider.keyvalue.bucket.pages.tree_changes import Append, TreeChange
from provider.keyvalue.kinds import Kind

_ARRAY_BYTES = 5
"""Most bytes by which a leaf is larger than its elements: the length of a MessagePack array."""

_LEAVES_PER_PAUSE = 32
"""Leaves that are changed before other calls are let go on: some three milliseconds."""

_Item = TypeVar("_Item")

_LEAST_CHILDREN = 2
"""Children of an inner node, even if their separators are longer than a page: otherwise a level would not be smaller than the
one below it."""


class Tree(NamedTuple):
    """A tree as its head knows it.

    Attributes:
        root: The root; its size is 0 if it was not made by this change.
        height: Number of levels; 1: the root is a leaf.
    """

    root: Child
    height: int


def change_tree(tree: Tree, change: TreeChange, kind: Kind, pages: NewPages) -> Operation[Tree | None]:
    """Change a tree of a list or a set; return the new one, `None` if no element is left.

    Args:
        tree: The tree before.
        change: The change.
        kind: List or set.
        pages: Receives the new pages and the ids of the replaced ones.
    """
    edit = _Edit(kind, pages, hash_prefix(tree.root.page_id))
    yield from edit.load_paths(tree, change)
    parts = yield from edit.change(tree.root, tree.height, change)
    return (yield from edit.finish(parts, tree.height))


def build_tree(elements: list[str], kind: Kind, pages: NewPages) -> Operation[Tree]:
    """Build a tree of a list or a set from all elements, of which there is at least one; members in ascending order."""
    edit = _Edit(kind, pages, hash_prefix(pages.next_id()))
    tree = yield from edit.finish(edit.leaves(elements, "", is_append=True), 1)
    assert tree is not None
    return tree


def build_pieces(data: str | bytes | LongBytes, pages: NewPages) -> Operation[Tree]:
    """Build the tree of a text or a binary value, which is not empty. The pages of a long one are views of it."""
    collected, leaves = bytearray(), []
    if isinstance(data, LongBytes):
        leaves = [pages.add(piece, len(piece)) for piece in data.cuts(pages.page_bytes)]  # type: ignore[arg-type]  # views
        return (yield from build_on_pieces(Kind.TEXT if isinstance(data, LongText) else Kind.BINARY, leaves, pages))
    for start in range(0, len(data), pages.page_bytes):
        part = data[start : start + pages.page_bytes]
        collected += part.encode() if isinstance(part, str) else part
        leaves += [pages.add(piece, len(piece)) for piece in full_pieces(collected, pages.page_bytes)]
    if collected:
        leaves.append(pages.add(bytes(collected), len(collected)))
    return (yield from build_on_pieces(Kind.TEXT if isinstance(data, str) else Kind.BINARY, leaves, pages))


def full_pieces(collected: bytearray, piece_bytes: int) -> Iterator[bytes]:
    """Remove all pieces of one size from the beginning of some bytes."""
    while len(collected) >= piece_bytes:
        yield bytes(memoryview(collected)[:piece_bytes])
        del collected[:piece_bytes]


def build_on_pieces(kind: Kind, leaves: list[Child], pages: NewPages) -> Operation[Tree]:
    """Build the same tree on its leaves, of which there is at least one. They may be stored already."""
    tree = yield from _Edit(kind, pages, hash_prefix(pages.next_id())).finish(leaves, 1)
    assert tree is not None
    return tree


class NewPages:
    """The pages that a change makes and replaces.

    Args:
        prefix: Beginning of the ids of the new pages; see `paged_value.page_prefix`.
        page_bytes: Size beyond which a page is split.

    Attributes:
        made: The new pages.
        replaced: The ids of the pages that are not part of the tree any more.
        replaced_bytes: Their size, without a root that this change did not make.
    """

    def __init__(self, prefix: str, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.made: dict[PageId, bytes] = {}
        self.replaced: list[PageId] = []
        self.replaced_bytes = 0
        self._prefix = prefix
        self._numbers = itertools.count()

    def next_id(self) -> PageId:
        return PageId(f"{self._prefix}{next(self._numbers)}")

    def add(self, payload: bytes, length: int, low: str = "") -> Child:
        page_id = self.next_id()
        self.made[page_id] = payload
        return Child(page_id, length, len(payload), low)

    def drop(self, child: Child) -> None:
        """Leave a page out of the tree: one that was made by this change is not written at all."""
        if self.made.pop(child.page_id, None) is None:
            self.replaced.append(child.page_id)
            self.replaced_bytes += child.size


class _Edit:
    """One change under way.

    Args:
        kind: Kind of the value.
        pages: Receives the pages.
        prefix: Beginning of the ids of all pages of the key.
    """

    def __init__(self, kind: Kind, pages: NewPages, prefix: str) -> None:
        self._kind = kind
        self._pages = pages
        self._prefix = prefix
        self._elements: dict[PageId, list[str]] = {}
        self._children: dict[PageId, list[Child]] = {}
        self._merged_bytes = pages.page_bytes * 3 // 4
        self._changed_leaves = 0

    # --- reading

    def load_paths(self, tree: Tree, change: TreeChange) -> Operation[None]:
        """Read all nodes that a change touches, level by level, so that it takes one round trip for each level."""
        touched = {tree.root: change}
        for level in range(tree.height, 0, -1):
            yield from self._load(touched, level)
            if level == 1:
                return
            below: dict[Child, TreeChange] = {}
            for node, share in touched.items():
                children = self._children[node.page_id]
                below.update((children[index], part) for index, part in share.route(children).items())
            touched = below

    def _load(self, nodes: Iterable[Child], level: int) -> Operation[None]:
        """Read and decode nodes of one level, unless they are known."""
        known = self._children if level > 1 else self._elements
        missing = [node for node in nodes if node.page_id not in known]
        if not missing:
            return
        # A change before this one, upon which this one builds, has made pages that are not stored yet.
        made = self._pages.made
        stored = tuple(node.page_id for node in missing if node.page_id not in made)
        payloads = (yield Wanted(stored)) if stored else {}
        for node in missing:
            payload = made.get(node.page_id) or payloads[node.page_id]
            if level > 1:
                decoded = decode_node(node, payload, self._kind)
                self._children[node.page_id] = decoded.children(self._prefix, node.low)
            else:
                self._elements[node.page_id] = decode_elements(node, payload)

    # --- changing

    def change(self, node: Child, level: int, change: TreeChange) -> Operation[list[Child]]:
        """Return the nodes of the same level that replace a node: none, one, or several if it was split."""
        self._pages.drop(node)
        if level == 1:
            self._changed_leaves += 1
            if not self._changed_leaves % _LEAVES_PER_PAUSE:
                yield PAUSE
            elements, is_append = change.apply(node, _take(self._elements, node))
            return self.leaves(elements, node.low, is_append=is_append)
        children = _take(self._children, node)
        shares = change.route(children)
        parts: list[Child] = []
        for index, child in enumerate(children):
            if index in shares:
                parts += yield from self.change(child, level - 1, shares[index])
            else:
                parts.append(child)
        parts = yield from self._merged(parts, level - 1)
        return self._nodes(parts, isinstance(change, Append))

    def finish(self, parts: list[Child], height: int) -> Operation[Tree | None]:
        """Put levels upon the nodes of one level until there is one root."""
        parts = yield from self._merged(parts, height)
        while len(parts) > 1:
            parts = yield from self._merged(self._nodes(parts, is_append=True), height + 1)
            height += 1
        if not parts:
            return None
        root = parts[0]
        # A root with one child is one level too many.
        while height > 1 and len(self._children[root.page_id]) == 1:
            self._pages.drop(root)
            root = self._children[root.page_id][0]
            height -= 1
            if height > 1:
                yield from self._load([root], height)
        return Tree(root, height)

    def leaves(self, elements: list[str], low: str, *, is_append: bool) -> list[Child]:
        """Return leaves for elements. Where all new ones stand at the end, more are likely to follow: leaves are filled."""
        if not elements:
            return []
        payload = encode_elements(elements)
        if len(payload) <= self._pages.page_bytes or len(elements) == 1:
            return [self._leaf(elements, payload, low)]
        leaves: list[Child] = []
        sizes = [encoded_size(element) for element in elements]
        for start, stop in _cuts(sizes, self._pages.page_bytes - _ARRAY_BYTES, is_filled=is_append):
            if start and self._kind is Kind.SET:
                low = separator(elements[start - 1], elements[start])
            part = elements[start:stop]
            leaves.append(self._leaf(part, encode_elements(part), low))
        return leaves

    def _leaf(self, elements: list[str], payload: bytes, low: str) -> Child:
        leaf = self._pages.add(payload, len(elements), low)
        self._elements[leaf.page_id] = elements
        return leaf

    def _nodes(self, children: list[Child], is_append: bool) -> list[Child]:
        """Return inner nodes for children, at least two in each but the last."""
        sizes = [
            len(child.page_id) - len(self._prefix) + utf8_size(child.low) + CHILD_OVERHEAD_BYTES for child in children
        ]
        most_bytes = self._pages.page_bytes - NODE_OVERHEAD_BYTES
        return [
            self._node(children[start:stop])
            for start, stop in _cuts(sizes, most_bytes, is_filled=is_append, least=_LEAST_CHILDREN)
        ]

    def _node(self, children: list[Child]) -> Child:
        payload = encode_node(children, self._prefix, is_set=self._kind is Kind.SET)
        node = self._pages.add(payload, sum(child.length for child in children), children[0].low)
        self._children[node.page_id] = children
        return node

    # --- merging

    def _merged(self, parts: list[Child], level: int) -> Operation[list[Child]]:
        """Merge neighbours of a level that fit three quarters of a page together."""
        if level == 1 and self._kind not in (Kind.LIST, Kind.SET):
            return parts
        merged = parts[:1]
        for part in parts[1:]:
            # The separator between two inner nodes becomes one between two of their children.
            low_bytes = encoded_size(part.low) if level > 1 and self._kind is Kind.SET else 0
            if merged[-1].size + low_bytes + part.size <= self._merged_bytes:
                merged[-1] = yield from self._merge(merged[-1], part, level)
            else:
                merged.append(part)
        return merged

    def _merge(self, left: Child, right: Child, level: int) -> Operation[Child]:
        yield from self._load([left, right], level)
        self._pages.drop(left)
        self._pages.drop(right)
        if level == 1:
            elements = _take(self._elements, left) + _take(self._elements, right)
            return self._leaf(elements, encode_elements(elements), left.low)
        # The children where the two nodes meet are neighbours now.
        children = _take(self._children, left) + _take(self._children, right)
        return self._node((yield from self._merged(children, level - 1)))


def _take(known: dict[PageId, list[_Item]], node: Child) -> list[_Item]:
    """Remove and return the decoded content of a node.

    Raises:
        DamagedPageError: It was taken before: a page that no provider wrote has two places in the tree.
    """
    content = known.pop(node.page_id, None)
    if content is None:
        raise DamagedPageError(node.page_id, "has two places in the tree")
    return content


def separator(below: str, above: str) -> str:
    """Return the shortest prefix of a text that is greater than another, smaller one."""
    common, most = 0, len(above) - 1
    while common < most:
        middle = (common + most + 1) // 2
        if below.startswith(above[:middle]):
            common = middle
        else:
            most = middle - 1
    return above[: common + 1]


def _cuts(sizes: list[int], most_bytes: int, *, is_filled: bool, least: int = 1) -> Iterator[tuple[int, int]]:
    """Cut a sequence into parts.

    Args:
        sizes: The size of each item.
        most_bytes: The largest size of a part with more than `least` items.
        is_filled: Whether to fill all parts but the last. If not, they are about equal.
        least: The number of items in a part, but for the last.

    Yields:
        The first index of each part and the index behind its last.
    """
    total = sum(sizes)
    wanted = most_bytes if is_filled else total / max(1, math.ceil(total / max(1, most_bytes)))
    start = size = 0
    for index, item in enumerate(sizes):
        if index - start >= least and (size + item > most_bytes or size + item / 2 > wanted):
            yield start, index
            start, size = index, 0
        size += item
    if start < len(sizes):
        yield start, len(sizes)
