"""The messages between the replicas of a cache, as typed structs, as bodies, and as unsigned bytes. Pure.

A body is in msgpack. The structs are encoded as arrays, so the order of their fields is part of the format and their names
are not. A body that does not fit the types is refused as a whole.

Replicas sign their messages: `trust.signed` has that format. The unsigned one, of earlier releases and of
`REPLICATION_AUTH=off`, has version 1: four bytes of magic, one of version, one that tells whether the body is compressed,
four of a checksum (CRC-32 of everything after it), twelve of the sender's id, and the body.

A message with a binary value has a version of its own, 3 unsigned and 4 signed, and a piece of a text that does not fit into
one message, or the removal of a large set or list, has 5 and 6. So replicas of releases that do not know them go on with all others, and tell the reason for refusing
these.
"""

from __future__ import annotations

import re
import secrets
import zlib
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from contracts.long_values import plain
from provider.keyvalue.cache.causality import Context
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal

MAGIC = b"kvrc"
UNSIGNED_VERSIONS = (1, 3, 5)
"""Versions of the unsigned format by the release that a message is for; see `release_of`."""
_PLAIN, _COMPRESSED = 0, 1
_COMPRESS_FROM_BYTES = 16_384
_COMPRESS_TO_BYTES = 256 * 1024
"""Smaller messages are sent as they are: compressing them would take longer than sending the bytes that it saves. Larger ones are
too, since a megabyte would take ten milliseconds, in which no call is served: they have a single large element or text."""

MAX_EVENTS = 10_000
"""Events in one message. Those of one turn fill a message of 128 KiB long before; each costs a receiver 300 bytes more
than it has on the wire."""

MAX_REPLICAS = 20_000
"""Replicas in a context: one for each process that ever wrote to the cache. Their counters fit into half a message."""

MAX_ALIVE = 2000
"""Replicas in a heartbeat: twice as many as a replica remembers."""

MAX_CLOUD_DOTS = 10_000
"""Size of a replica's dot cloud up to which it adds events, so that contexts fit into messages."""

_MAX_CELLS = 200
"""Cells on a page: more than a sender puts on one."""

_FORM_AT = len(MAGIC) + 1
_CHECKSUM_AT = _FORM_AT + 1
_ID_AT = _CHECKSUM_AT + 4
ID_LENGTH = 12
_BODY_AT = _ID_AT + ID_LENGTH
ID = re.compile(rb"[A-Za-z0-9_-]{12}\Z")

ReplicaId = Annotated[str, Meta(min_length=ID_LENGTH, max_length=ID_LENGTH)]
Count = Annotated[int, Meta(ge=1, lt=2**62)]
Clock = Annotated[int, Meta(ge=0, lt=2**62)]
Expiry = Annotated[int, Meta(ge=0, lt=2**53)]
Key = Annotated[str, Meta(min_length=1)]
Alive = Annotated[dict[ReplicaId, Annotated[int, Meta(ge=0, lt=2**62)]], Meta(max_length=MAX_ALIVE)]
Vector = Annotated[dict[ReplicaId, Count], Meta(max_length=MAX_REPLICAS)]
CloudCounts = Annotated[list[Count], Meta(max_length=10 * MAX_CLOUD_DOTS)]
"""Merging contexts adds up their clouds, so there may be more events than one replica adds."""

Dots = dict[ReplicaId, list[Count]]
TransferId = Annotated[str, Meta(max_length=64)]

TEXT, MEMBER, ELEMENT, COUNT, OCTETS, CLEAR = 1, 2, 3, 4, 5, 6
"""Tags of what an event adds; the first three are also the kinds of items."""


# --- deltas


class AddText(Struct, array_like=True, tag=TEXT, frozen=True, gc=False):
    """The setting of a text."""

    value: str
    expires_at_ms: Expiry


class AddBytes(Struct, array_like=True, tag=OCTETS, frozen=True, gc=False):
    """The setting of a binary value. It takes the place of a text in every respect."""

    value: bytes
    expires_at_ms: Expiry


class AddMember(Struct, array_like=True, tag=MEMBER, frozen=True, gc=False):
    """The addition of a member to a set."""

    value: str


class AddElement(Struct, array_like=True, tag=ELEMENT, frozen=True, gc=False):
    """The addition of an element to a list."""

    value: str


class AddCount(Struct, array_like=True, tag=COUNT, frozen=True, gc=False):
    """The new total of a tally of the event's replica; see `cells.Tally`."""

    start: Count
    base: tuple[ReplicaId, Count] | None
    total: int
    expires_at_ms: Expiry


class Clear(Struct, array_like=True, tag=CLEAR, frozen=True, gc=False):
    """No addition: the removal of the members and elements under the key whose events a version vector has.

    It takes the place of their dots where there are many of them. All events of the vector must have been applied before.
    """

    vector: Vector


Addition = AddText | AddBytes | AddMember | AddElement | AddCount | Clear


class CounterRemoval(Struct, array_like=True, frozen=True, gc=False):
    """The removal of the total that a tally had at one of its events; see `cells.Tally`."""

    replica: ReplicaId
    start: Count
    count: Count
    total: int


class Event(Struct, array_like=True, frozen=True, gc=False):
    """One change of one key. Its dot follows from the message that carries it.

    Attributes:
        clock: Hybrid time of the event.
        key: Key, with the prefix of the link.
        add: The addition, or None if the event only removes.
        removes: By replica, the counters of the dots of removed items, and of the starts of removed tallies.
        counter_removals: Removals of parts of tallies.
    """

    clock: Clock
    key: Key
    add: Addition | None
    removes: Dots
    counter_removals: list[CounterRemoval]


class Deltas(Struct, array_like=True, tag=1, frozen=True):
    """Consecutive events of the sender, from the counter of the first."""

    first: Count
    events: Annotated[list[Event], Meta(max_length=MAX_EVENTS)]


# --- anti-entropy


class Heartbeat(Struct, array_like=True, tag=2, frozen=True):
    """The context of the sender, in short.

    Attributes:
        vector: Version vector, restricted to the replicas that the sender knows to be alive. 0: it has applied no event
            of that one. Releases that do not sign leave such replicas out.
        rest: Digest of the rest of the context; see `peers`.
        wants_answer: Whether the others answer with theirs at once.
        is_leaving: Whether the sender is about to end.
        takes_pieces: Whether it understands pieces. Releases without them end the heartbeat before this field.
    """

    vector: Alive
    rest: int
    wants_answer: bool
    is_leaving: bool
    takes_pieces: bool = False


# --- transfer


class ContextState(Struct, array_like=True, frozen=True):
    """A context as sent."""

    vector: Vector
    cloud: Annotated[dict[ReplicaId, CloudCounts], Meta(max_length=MAX_REPLICAS)]


class _ItemState(Struct, array_like=True, frozen=True, gc=False):
    """An item as sent. The value is None if the receiver has already had the item."""

    replica: ReplicaId
    count: Count
    clock: Clock
    value: str | None
    expires_at_ms: Expiry
    kind: ClassVar[int]


class TextState(_ItemState, tag=TEXT, frozen=True, gc=False):
    kind = TEXT


class MemberState(_ItemState, tag=MEMBER, frozen=True, gc=False):
    kind = MEMBER


class ElementState(_ItemState, tag=ELEMENT, frozen=True, gc=False):
    kind = ELEMENT


class BytesState(Struct, array_like=True, tag=OCTETS, frozen=True, gc=False):
    """A binary value as sent to a receiver that has not had it. It is an item of the kind of a text."""

    replica: ReplicaId
    count: Count
    clock: Clock
    value: bytes
    expires_at_ms: Expiry
    kind: ClassVar[int] = TEXT


ItemState = TextState | MemberState | ElementState | BytesState


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


class CellState(Struct, array_like=True, frozen=True, gc=False):
    """A cell as sent, or a part of one that is too large for a page.

    Attributes:
        key: Key of the cell.
        vector: Version vector of the key: by replica, its last event that changed the key.
        deferred: Dots of items that were removed before they reached the sender; only in the first part.
        items: Items with dots after `after` and up to `until`. An item in that range that is missing has been removed.
        tallies: All tallies of the cell; only in the first part.
        after: Last dot of the part before; None: this is the first part.
        until: Last dot of this part; None: this is the last part.
    """

    key: Key
    vector: Vector
    deferred: list[tuple[ReplicaId, Count]]
    items: list[ItemState]
    tallies: list[TallyState]
    after: tuple[ReplicaId, Count] | None
    until: tuple[ReplicaId, Count] | None


class TransferRequest(Struct, array_like=True, tag=3, frozen=True):
    """The request for a page of what the receiver lacks.

    Attributes:
        transfer: Id of the transfer to continue; "" begins one.
        page: Number of the page, from 0. The same number again repeats the page.
        context: Context of the receiver; only with page 0.
    """

    transfer: TransferId
    page: Annotated[int, Meta(ge=0)]
    context: ContextState | None


class TransferPage(Struct, array_like=True, tag=4, frozen=True):
    """A page of what the receiver lacks.

    Attributes:
        transfer: Id of the transfer; "": it is unknown, or cannot be served now.
        page: Number of the page.
        is_last: Whether it is the last page.
        is_full: Whether all keys are sent. An item that is in the context and on no page has then been removed.
        context: Context of the sender when the transfer began; only on page 0.
        discarded: By replica, the last event whose tombstones the sender has discarded; only on the last page.
        cells: Cells and parts of cells.
    """

    transfer: TransferId
    page: int
    is_last: bool
    is_full: bool
    context: ContextState | None
    discarded: Vector
    cells: Annotated[list[CellState], Meta(max_length=_MAX_CELLS)]


# --- pieces


class Piece(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """A piece of a message whose text, or binary value, does not fit into one; see `pieces`.

    Attributes:
        whole: Number of the message: of the event in it, or of the page.
        number: Number of the piece, from 0.
        count: Number of pieces.
        total_bytes: Size of the text in UTF-8.
        frame: Body of the message with an empty text in place of the long one; b"" but in piece 0.
        data: Part of the text; b"" in piece 0.
    """

    whole: Annotated[int, Meta(ge=0, lt=2**62)]
    number: Annotated[int, Meta(ge=0)]
    count: Annotated[int, Meta(ge=2)]
    total_bytes: Annotated[int, Meta(ge=1)]
    frame: bytes
    data: bytes


class PieceRequest(Struct, array_like=True, tag=6, frozen=True):
    """The request for a further piece of a page that does not fit into a message."""

    transfer: TransferId
    page: Annotated[int, Meta(ge=0)]
    number: Annotated[int, Meta(ge=1)]


Message = Deltas | Heartbeat | TransferRequest | TransferPage | Piece | PieceRequest

_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode
"""A long text, which may stand in the place of any text, is encoded as one where it fits into a message all the same."""

_decode = msgspec.msgpack.Decoder(Message).decode


def new_replica_id() -> str:
    """Return an id that no other replica has: 72 random bits in base64."""
    return secrets.token_urlsafe(9)


# --- bodies


def pack(message: Message) -> bytes:
    """Return the body of a message."""
    return _encode(message)


def release_of(message: Message) -> int:
    """Return the first release that understands a message: 0 the first, 1 that with binary values, 2 that with pieces."""
    if isinstance(message, Deltas):
        return max((_RELEASES.get(type(event.add), 0) for event in message.events), default=0)
    if isinstance(message, TransferPage):
        return int(any(type(item) is BytesState for cell in message.cells for item in cell.items))
    return _RELEASES.get(type(message), 0)


_RELEASES: dict[type, int] = {AddBytes: 1, Clear: 2, Piece: 2, PieceRequest: 2}


def compress(body: bytes, *, is_piece: bool = False) -> tuple[int, bytes]:
    """Return the form of a body and its bytes, compressed if it is neither small nor huge, no piece, and that makes it smaller."""
    if _COMPRESS_FROM_BYTES <= len(body) <= _COMPRESS_TO_BYTES and not is_piece:
        compressed = zlib.compress(body, 1)
        if len(compressed) < len(body):
            return _COMPRESSED, compressed
    return _PLAIN, body


def unpack(form: int, body: memoryview, max_bytes: int) -> Message:
    """Return the message of a body.

    Args:
        form: Form that `compress` returned.
        body: Bytes that it returned.
        max_bytes: Greatest size of the body after decompression.

    Raises:
        ForeignMessageError: The body is damaged or too large, or does not fit the types.
    """
    return unpack_plain(_decompress(body, max_bytes) if form == _COMPRESSED else body)


def unpack_plain(body: bytes | memoryview) -> Message:
    """Return the message of a body that is not compressed.

    Raises:
        ForeignMessageError: It does not fit the types.
    """
    try:
        message: Message = _decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ForeignMessageError(str(error)) from None
    return message


def _decompress(body: memoryview, max_bytes: int) -> bytes:
    """Return the decompressed body; stop at the limit, whatever size the body claims."""
    decompressor = zlib.decompressobj()
    try:
        decompressed = decompressor.decompress(body, max_bytes)
    except zlib.error as error:
        raise ForeignMessageError(str(error), Refusal.DAMAGED) from None
    if not decompressor.eof:
        raise ForeignMessageError("a compressed message that is cut off or too large", Refusal.LIMIT)
    return decompressed


def context_state(context: Context) -> ContextState:
    return ContextState(context.vector, {replica: sorted(counts) for replica, counts in context.cloud.items()})


def context_of(state: ContextState) -> Context:
    return Context(state.vector, {replica: set(counts) for replica, counts in state.cloud.items()})


# --- the unsigned format


def encode_message(sender: str, message: Message) -> bytes:
    """Return the bytes of an unsigned message."""
    return frame(sender, message, pack(message))


def frame(sender: str, message: Message, body: bytes) -> bytes:
    """Return the bytes of an unsigned message, of which the body is encoded already."""
    form, body = compress(body, is_piece=isinstance(message, Piece))
    version = UNSIGNED_VERSIONS[release_of(message)]
    checked = sender.encode() + body
    return b"%b%c%c%b%b" % (MAGIC, version, form, zlib.crc32(checked).to_bytes(4, "big"), checked)


def version_of(data: bytes) -> int:
    """Return the version of the format that a message claims to have.

    Raises:
        ForeignMessageError: It is not a message of a replica.
    """
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC):
        raise ForeignMessageError("not a message of a replica", Refusal.FOREIGN)
    return data[len(MAGIC)]


def decode_message(data: bytes, max_bytes: int) -> tuple[str, Message]:
    """Return the sender's id and the message of unsigned bytes.

    Args:
        data: Message as received.
        max_bytes: Greatest size of the body after decompression.

    Raises:
        ForeignMessageError: The bytes are damaged, of another version, or not a message of a replica at all.
    """
    version = version_of(data)
    if version not in UNSIGNED_VERSIONS:
        raise ForeignMessageError("a message of another version of the format", Refusal.VERSION, version=version)
    view = memoryview(data)
    if zlib.crc32(view[_ID_AT:]).to_bytes(4, "big") != data[_CHECKSUM_AT:_ID_AT]:
        raise ForeignMessageError("a damaged message", Refusal.DAMAGED)
    if not ID.match(data[_ID_AT:_BODY_AT]):
        raise ForeignMessageError("not a message of a replica", Refusal.FOREIGN)
    return data[_ID_AT:_BODY_AT].decode(), unpack(data[_FORM_AT], view[_BODY_AT:], max_bytes)
