"""What replicas of a cache tell each other: as typed structs, and as the bytes of messages. Pure.

A message is four bytes of name, one of version, one that says whether the rest is compressed, four of a checksum (CRC-32
of what follows), the id of the replica that sends it, and msgpack. Anything else, and anything that does not fit the
types, is refused as a whole.
"""

from __future__ import annotations

import re
import secrets
import zlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from provider.keyvalue.cache.cells import Context, Dot

_MAGIC = b"kvrc"
VERSION = 1
_PLAIN, _COMPRESSED = 0, 1
_COMPRESS_FROM_BYTES = 16_384
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_FORM_PLACE = len(_MAGIC) + 1
_CHECKSUM_PLACE = _FORM_PLACE + 1
_ID_PLACE = _CHECKSUM_PLACE + 4
_ID_LENGTH = 12
_BODY_PLACE = _ID_PLACE + _ID_LENGTH
_ID = re.compile(rb"[A-Za-z0-9_-]{12}\Z")

ReplicaId = Annotated[str, Meta(min_length=_ID_LENGTH, max_length=_ID_LENGTH)]
Count = Annotated[int, Meta(ge=1, lt=2**62)]
Clock = Annotated[int, Meta(ge=0, lt=2**62)]
Expiry = Annotated[int, Meta(ge=0, lt=2**53)]
Key = Annotated[str, Meta(min_length=1)]


class ForeignMessageError(ValueError):
    """Bytes that no replica of this version sends. `version` is set when another version may have sent them."""

    def __init__(self, reason: str, version: int | None = None) -> None:
        super().__init__(reason)
        self.version = version


class AddText(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The event sets a text."""

    value: str
    expires_at_ms: Expiry


class AddMember(Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The event adds a member to a set."""

    value: str


class AddElement(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """The event adds an element to a list."""

    value: str


class AddCount(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """The event brings a tally of its replica to a total; see `crdt.Tally`."""

    start: Count
    base: tuple[ReplicaId, Count] | None
    total: int
    expires_at_ms: Expiry


class Floor(Struct, array_like=True, frozen=True, gc=False):
    """The event removes what a tally had come to at one of its events; see `crdt.Tally`."""

    replica: ReplicaId
    start: Count
    count: Count
    total: int


class Event(Struct, array_like=True, frozen=True, gc=False):
    """One change of one key. Its dot follows from the message that carries it.

    Attributes:
        clock: When, as a hybrid time.
        key: The key, link's prefix included.
        add: What it adds; `None`: nothing.
        removes: By replica, the counts of the dots of the items that it removes.
        floors: What it removes of tallies.
    """

    clock: Clock
    key: Key
    add: AddText | AddMember | AddElement | AddCount | None
    removes: dict[ReplicaId, list[Count]]
    floors: list[Floor]


class ContextState(Struct, array_like=True, frozen=True):
    """A context as sent."""

    vector: dict[ReplicaId, Count]
    strays: dict[ReplicaId, list[Count]]


class ItemState(Struct, array_like=True, frozen=True, gc=False):
    """An item as sent. `kind` is the tag of what added it; `value` is `None` when the asker has had it."""

    kind: Annotated[int, Meta(ge=1, le=3)]
    replica: ReplicaId
    count: Count
    clock: Clock
    value: str | None
    expires_at_ms: Expiry


class TallyState(Struct, array_like=True, frozen=True, gc=False):
    """A tally as sent."""

    replica: ReplicaId
    start: Count
    base: tuple[ReplicaId, Count] | None
    count: Count
    clock: Clock
    total: int
    expires_at_ms: Expiry
    removed_count: Annotated[int, Meta(ge=0)]
    removed_total: int
    removed_by: tuple[ReplicaId, Count] | None


class Part(Struct, array_like=True, frozen=True, gc=False):
    """All or, of a key with very many items, some of what stands under a key at the sender.

    Attributes:
        key: Which.
        touched: By replica, its last event that changed the key.
        doomed: Items that were removed before they came to the sender; only in the first part.
        items: Those whose dots lie after `after` and up to `until`; what is there in that range and not here has been
            removed.
        tallies: All of the key; only in its first part.
        after: `None`: it is the first part.
        until: `None`: it is the last part.
    """

    key: Key
    touched: dict[ReplicaId, Count]
    doomed: list[tuple[ReplicaId, Count]]
    items: list[ItemState]
    tallies: list[TallyState]
    after: tuple[ReplicaId, Count] | None
    until: tuple[ReplicaId, Count] | None

    def spans(self, dot: Dot) -> bool:
        return (self.after is None or dot > self.after) and (self.until is None or dot <= self.until)


class Deltas(Struct, array_like=True, tag=1, frozen=True):
    """Events of the sender, one after the other from the count of the first."""

    first: Count
    events: list[Event]


class Heartbeat(Struct, array_like=True, tag=2, frozen=True):
    """Where a replica stands.

    Attributes:
        vector: The vector of its context, for the replicas that it knows to be alive.
        rest: Digest of the rest of the context.
        wants_answer: Whether the others are to answer with theirs at once.
        is_leaving: Whether it is about to end.
    """

    vector: dict[ReplicaId, Count]
    rest: int
    wants_answer: bool
    is_leaving: bool


class ReplayRequest(Struct, array_like=True, tag=3, frozen=True):
    """Asks one replica for what the asker lacks, page by page.

    Attributes:
        transfer: Of the transfer to go on with, "" to begin one.
        page: Which page is wanted, from 0; asking again for the same one repeats it.
        context: What the asker has; only with page 0.
    """

    transfer: str
    page: Annotated[int, Meta(ge=0)]
    context: ContextState | None


class ReplayPage(Struct, array_like=True, tag=4, frozen=True):
    """A page of what the asker lacks.

    Attributes:
        transfer: Its id; "": the transfer is not known, or cannot be served now.
        page: Which page.
        is_last: Whether it is the last.
        is_full: Whether all keys are sent: what is in none of the pages and in the context has been removed.
        context: What the sender had when the transfer began; only in page 0.
        pruned: Up to where the sender has forgotten deletions; only in the last page.
        parts: The keys.
    """

    transfer: str
    page: int
    is_last: bool
    is_full: bool
    context: ContextState | None
    pruned: dict[ReplicaId, Count]
    parts: list[Part]


Message = Deltas | Heartbeat | ReplayRequest | ReplayPage

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def new_replica_id() -> str:
    """Make up an id that no other replica has."""
    return secrets.token_urlsafe(9)


def encode_message(sender: str, message: Message) -> bytes:
    """Encode a message, compressed when it is large and that helps."""
    body = _encode(message)
    form = _PLAIN
    if len(body) >= _COMPRESS_FROM_BYTES:
        compressed = zlib.compress(body, 1)
        if len(compressed) < len(body):
            body, form = compressed, _COMPRESSED
    checked = sender.encode() + body
    return b"%b%c%c%b%b" % (_MAGIC, VERSION, form, zlib.crc32(checked).to_bytes(4, "big"), checked)


def is_from(data: bytes, sender: str) -> bool:
    """Tell whether a message is of one sender, without decoding it."""
    return data[_ID_PLACE:_BODY_PLACE] == sender.encode()


def decode_message(data: bytes) -> tuple[str, Message]:
    """Decode a message and its sender.

    Raises:
        ForeignMessageError: It is none, or of another version.
    """
    if not data.startswith(_MAGIC) or len(data) <= len(_MAGIC):
        raise ForeignMessageError("not a message of a replica")
    if data[len(_MAGIC)] != VERSION:
        raise ForeignMessageError("a message of another version of the format", data[len(_MAGIC)])
    view = memoryview(data)
    if zlib.crc32(view[_ID_PLACE:]).to_bytes(4, "big") != data[_CHECKSUM_PLACE:_ID_PLACE]:
        raise ForeignMessageError("a damaged message")
    if not _ID.match(data[_ID_PLACE:_BODY_PLACE]):
        raise ForeignMessageError("not a message of a replica")
    body: Any = view[_BODY_PLACE:]
    try:
        if data[_FORM_PLACE] == _COMPRESSED:
            decompressor = zlib.decompressobj()
            body = decompressor.decompress(body, _MAX_MESSAGE_BYTES)
            if not decompressor.eof:
                raise ForeignMessageError("a compressed message that is cut off or too large")
        message: Message = _decode(body)
    except (msgspec.MsgspecError, zlib.error, ValueError) as error:
        raise ForeignMessageError(str(error)) from None
    return data[_ID_PLACE:_BODY_PLACE].decode(), message


def context_state(context: Context) -> ContextState:
    return ContextState(context.vector, {replica: sorted(counts) for replica, counts in context.strays.items()})


def context_of(state: ContextState) -> Context:
    return Context(state.vector, {replica: set(counts) for replica, counts in state.strays.items()})
