"""The signed format of messages between replicas: version 2, 4 with a binary value, and 6 of pieces. Pure.

Layout: four bytes of magic, one of version, one of the body's form, one of the kind of message, 32 of the issuer's public
key, twelve of the sender's id, eight each of the sequence, the time and the sequence that is answered, 64 of a signature, 16
of a tag, and the body. The signature covers all of them but itself and the tag, and beyond them the names of the lattice and
of the subject as it is configured: a server may rewrite the one on the wire. The tag covers the same and the signature. It
proves nothing that the signature does not, but it is cheap to check for those who have the same seed.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from provider.keyvalue.cache.messages import (
    ID,
    MAGIC,
    Deltas,
    Heartbeat,
    Message,
    Piece,
    PieceRequest,
    TransferPage,
    TransferRequest,
    compress,
    unpack,
)
from provider.keyvalue.cache.trust.cluster_keys import SIGNATURE_BYTES, TAG_BYTES, ClusterKeys
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal

VERSIONS = (2, 4, 6)
"""Versions of the format by the release that a message is for; see `messages.release_of`."""

DELTAS, HEARTBEAT, REQUEST, PAGE, PIECE, PIECE_REQUEST = 1, 2, 3, 4, 5, 6
"""Kinds of messages. They are those of the bodies, so a body cannot pass for another kind."""

KINDS: dict[type[Message], int] = {
    Deltas: DELTAS,
    Heartbeat: HEARTBEAT,
    TransferRequest: REQUEST,
    TransferPage: PAGE,
    Piece: PIECE,
    PieceRequest: PIECE_REQUEST,
}

_CONTEXT = b"\0kvrc2\0"
"""The first signed bytes. No other text that the cluster's key signs begins with a zero byte: tokens are base64."""

_HEAD = struct.Struct(">4sBBB32s12sQQQ")
_TAG_AT = _HEAD.size + SIGNATURE_BYTES
_BODY_AT = _TAG_AT + TAG_BYTES
_SENDER = slice(39, 51)
_TIME_MS = range(2**53)


class SignedHead(NamedTuple):
    """The part of a message before its signature.

    Attributes:
        kind: Kind of the message.
        sender: Id of the replica that sent it.
        sequence: Number of this message of that replica, from 1.
        time_ms: Time of its clock, in milliseconds since 1970.
        answers: Sequence of the request that a page answers; 0: the message answers no request.
        issuer: The 32 bytes of the public key that signed.
        form: Form of the body.
        release: First release that understands the body; see `messages.release_of`.
    """

    kind: int
    sender: str
    sequence: int
    time_ms: int
    answers: int
    issuer: bytes
    form: int = 0
    release: int = 0


def sign(keys: ClusterKeys, subject: str, head: SignedHead, body: bytes) -> bytes:
    """Return the bytes of a message.

    Args:
        keys: Keys of this replica.
        subject: Subject as configured, with the id of the receiver where there is one.
        head: Head of the message, but for its form.
        body: Body before it is compressed.
    """
    form, body = compress(body, is_piece=head.kind == PIECE)
    packed = _HEAD.pack(
        MAGIC,
        VERSIONS[head.release],
        form,
        head.kind,
        head.issuer,
        head.sender.encode(),
        head.sequence,
        head.time_ms,
        head.answers,
    )
    covered = _covered(keys, subject, packed, body)
    signature = keys.sign(covered)
    return b"".join((packed, signature, keys.tag(covered + signature), body))


def head_of(data: bytes) -> SignedHead:
    """Return the head of a message of this version. Nothing in it has been verified.

    Raises:
        ForeignMessageError: The message is cut off, or the head is not one that a replica writes.
    """
    if len(data) < _BODY_AT:
        raise ForeignMessageError("a message that is cut off", Refusal.DAMAGED)
    _, version, form, kind, issuer, sender, sequence, time_ms, answers = _HEAD.unpack_from(data)
    if not ID.match(sender) or time_ms not in _TIME_MS:
        raise ForeignMessageError("not a message of a replica", Refusal.DAMAGED)
    release = VERSIONS.index(version) if version in VERSIONS else 0
    return SignedHead(kind, sender.decode(), sequence, time_ms, answers, issuer, form, release)


def is_from(data: bytes, sender: str) -> bool:
    """Tell whether a message claims to be from a given sender."""
    return data[_SENDER] == sender.encode()


def is_signed(keys: ClusterKeys, subject: str, head: SignedHead, data: bytes, *, is_tagged: bool = False) -> bool:
    """Tell whether a message was signed by the issuer that it names, for this lattice and subject.

    Args:
        keys: Keys of this replica.
        subject: Subject as configured, on which it was to be sent.
        head: Head of the message.
        data: Message as received.
        is_tagged: Whether it must have the tag of the own seed as well, which is checked first.
    """
    covered = _covered(keys, subject, data[: _HEAD.size], memoryview(data)[_BODY_AT:])
    signature = data[_HEAD.size : _TAG_AT]
    if is_tagged and not keys.is_tagged(covered + signature, data[_TAG_AT:_BODY_AT]):
        return False
    return keys.is_signed(covered, signature, head.issuer)


def message_of(head: SignedHead, data: bytes, max_bytes: int) -> Message:
    """Return the message; it must have been verified.

    Raises:
        ForeignMessageError: The body is not one of the kind that the head names.
    """
    message = unpack(head.form, memoryview(data)[_BODY_AT:], max_bytes)
    if KINDS[type(message)] != head.kind:
        raise ForeignMessageError("a body of another kind than the head names")
    return message


def _covered(keys: ClusterKeys, subject: str, packed: bytes, body: bytes | memoryview) -> bytes:
    """Return the bytes that a signature covers. Each name is preceded by its length, so that no two can be confused."""
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (keys.lattice.encode(), subject.encode()))
    return b"".join((_CONTEXT, packed, names, hashlib.sha256(body).digest()))
