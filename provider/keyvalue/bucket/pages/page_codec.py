"""A page <-> its bytes. Pure.

A leaf of a list or a set is a MessagePack array of its elements, a leaf of a text is a piece of its UTF-8 form. An inner node
is an array of four arrays: the ids of its children, the number of elements below each, the size of each child's page, and,
for a set, the separators between neighbours.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec
from msgspec import Struct

from provider.keyvalue.bucket.pages.paged_value import DamagedPageError, PageId
from provider.keyvalue.kinds import Kind

CHILD_OVERHEAD_BYTES = 24
"""Most bytes of a child in its parent beside the id and the separator: two numbers, and the lengths of the two texts."""

NODE_OVERHEAD_BYTES = 21
"""Most bytes of a node beside its children: the lengths of its arrays."""


class Child(NamedTuple):
    """A node as its parent knows it.

    Attributes:
        page_id: The page of the node.
        length: Number of elements below the node; for a text, their bytes.
        size: Bytes of the page; 0 for a root, whose size is not stored.
        low: A text, in a set, that is greater than every member before the node and not greater than any member below it.
    """

    page_id: PageId
    length: int
    size: int = 0
    low: str = ""


class Node(Struct, frozen=True, array_like=True, gc=False):
    """An inner node as stored.

    Attributes:
        ids: The ids of the children without the hash of the key, which they share with the node.
        counts: Number of elements below each child.
        sizes: Bytes of each child's page.
        lows: Separators between neighbours, in a set: one less than there are children.
    """

    ids: list[str]
    counts: list[int]
    sizes: list[int]
    lows: list[str]

    def children(self, prefix: str, low: str) -> list[Child]:
        """Return the children.

        Args:
            prefix: Beginning of the ids, with the dot.
            low: The separator before the node, which the first child shares.
        """
        lows = [low, *self.lows] if self.lows else itertools.repeat(low)
        return [
            Child(PageId(prefix + page_id), count, size, child_low)
            for page_id, count, size, child_low in zip(self.ids, self.counts, self.sizes, lows, strict=False)
        ]


_encoder = msgspec.msgpack.Encoder()
_elements_decoder = msgspec.msgpack.Decoder(list[str])
_node_decoder = msgspec.msgpack.Decoder(Node)


def hash_prefix(page_id: PageId) -> str:
    """Return the hash of the key in a page id, with the dot: all pages of a value begin with it."""
    return page_id[: page_id.index(".") + 1]


def encode_elements(elements: list[str]) -> bytes:
    return _encoder.encode(elements)


def encode_node(children: list[Child], prefix: str, *, is_set: bool) -> bytes:
    """Encode an inner node.

    Args:
        children: Its children.
        prefix: Beginning of their ids, which is left out.
        is_set: Whether there are separators.
    """
    start = len(prefix)
    return _encoder.encode(
        Node(
            [child.page_id[start:] for child in children],
            [child.length for child in children],
            [child.size for child in children],
            [child.low for child in children[1:]] if is_set else [],
        )
    )


def decode_elements(child: Child, payload: bytes) -> list[str]:
    """Decode a leaf of a list or a set.

    Raises:
        DamagedPageError: The payload is not a leaf with this number of elements.
    """
    try:
        elements = _elements_decoder.decode(payload)
    except (ValueError, msgspec.DecodeError) as error:
        raise DamagedPageError(child.page_id, str(error)) from None
    if len(elements) != child.length:
        raise DamagedPageError(child.page_id, f"has {len(elements)} elements instead of {child.length}")
    return elements


def check_piece(child: Child, payload: bytes) -> bytes:
    """Return a leaf of a text.

    Raises:
        DamagedPageError: The payload has another length.
    """
    if len(payload) != child.length:
        raise DamagedPageError(child.page_id, f"has {len(payload)} bytes instead of {child.length}")
    return payload


def decode_node(child: Child, payload: bytes, kind: Kind) -> Node:
    """Decode an inner node.

    Raises:
        DamagedPageError: The payload is not an inner node for this number of elements.
    """
    try:
        node = _node_decoder.decode(payload)
    except (ValueError, msgspec.DecodeError) as error:
        raise DamagedPageError(child.page_id, str(error)) from None
    length = len(node.ids)
    lows = length - 1 if kind is Kind.SET else 0
    if not length or len(node.counts) != length or len(node.sizes) != length or len(node.lows) != lows:
        raise DamagedPageError(child.page_id, "has columns of different length")
    if len(set(node.ids)) != length:
        raise DamagedPageError(child.page_id, "names a page twice")
    if min(node.counts) < 1 or sum(node.counts) != child.length:
        raise DamagedPageError(child.page_id, f"does not add up to {child.length} elements")
    return node


def encoded_size(element: str) -> int:
    """Return an upper bound of the bytes that an element takes in a leaf."""
    size = utf8_size(element)
    return size + (1 if size < 32 else 2 if size < 256 else 3 if size < 65_536 else 5)


def utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
