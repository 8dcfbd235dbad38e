"""The head of a paged value <-> the payload of its message. Pure.

The payload is a small JSON object, which `nats kv get` shows. Every head that is decoded has been checked: another client may
write anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from provider.keyvalue.bucket.pages.paged_value import Head, PageId
from provider.keyvalue.kinds import Kind

MOST_ELEMENTS = 2**31
"""Most elements of a list or a set, as in Redis: the length of a list has to fit the contract's unsigned 32 bits."""

MOST_BYTES = 64 * 1024**3
"""Most bytes of the elements of one value together."""

MOST_LEVELS = 40
"""Most levels of a tree. Each level has at most half as many nodes as the one below it, so 33 are enough for all elements."""

_PAGE_ID = re.compile(r"[0-9a-f]{32}\.[-_a-zA-Z0-9]{1,64}\.[0-9]{1,9}\Z")

_COLLECTIONS = (Kind.LIST, Kind.SET)
_KINDS = {kind.value: kind for kind in (Kind.TEXT, Kind.BINARY, Kind.LIST, Kind.SET)}


class _StoredHead(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"size": "bytes"}):
    """The JSON object; see `paged_value.Head`."""

    kind: str
    root: str
    height: int
    count: int
    size: int
    sequence: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_StoredHead)


def is_page_id(text: str) -> bool:
    """Tell whether a text can be the id of a page, so that it can stand in a subject."""
    return _PAGE_ID.match(text) is not None


def encode_head(head: Head) -> bytes:
    return _encoder.encode(
        _StoredHead(
            head.kind.value, head.root, head.height, head.count, head.size, head.sequence, head.added, head.removed
        )
    )


def decode_head(payload: bytes) -> Head | None:
    """Decode a head; return `None` if no provider of this version could have written it."""
    try:
        stored = _decoder.decode(payload)
    except (ValueError, msgspec.DecodeError):
        return None
    kind = _KINDS.get(stored.kind)
    in_tree = stored.count - len(stored.added) + len(stored.removed)
    is_sound = (
        kind is not None
        and is_page_id(stored.root)
        and 1 <= stored.height <= MOST_LEVELS
        and 0 <= stored.count <= (MOST_ELEMENTS if kind in _COLLECTIONS else MOST_BYTES)
        and 0 <= stored.size <= MOST_BYTES
        and (kind in _COLLECTIONS or stored.size == stored.count)
        and 0 <= stored.sequence < 2**63
        and in_tree >= 1
        and _is_sound_buffer(kind, stored.added, stored.removed)
    )
    if not is_sound or kind is None:
        return None
    return Head(
        kind=kind,
        root=PageId(stored.root),
        height=stored.height,
        count=stored.count,
        size=stored.size,
        sequence=stored.sequence,
        added=stored.added,
        removed=stored.removed,
    )


def _is_sound_buffer(kind: Kind, added: Sequence[str], removed: Sequence[str]) -> bool:
    if kind not in _COLLECTIONS:
        return not added and not removed
    if kind is Kind.LIST:
        return not removed
    return _is_ascending(added) and _is_ascending(removed) and set(added).isdisjoint(removed)


def _is_ascending(texts: Sequence[str]) -> bool:
    return all(texts[index] < texts[index + 1] for index in range(len(texts) - 1))
