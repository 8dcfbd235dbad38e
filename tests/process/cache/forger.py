"""The signed messages between replicas, written from their description, by a program that shares no code with a provider."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import struct
import time
from typing import Any

import msgpack
from nacl.signing import SigningKey

DELTAS, HEARTBEAT, REQUEST, PAGE, PIECE = 1, 2, 3, 4, 5
_VERSION, _PIECE_VERSION = 2, 6


def new_id() -> str:
    return secrets.token_urlsafe(9)


def deltas(first: int, *events: Any) -> bytes:
    return bytes(msgpack.packb([DELTAS, first, list(events)]))


def heartbeat(vector: dict[str, int], rest: int = 0, *, wants_answer: bool = False, is_leaving: bool = False) -> bytes:
    return bytes(msgpack.packb([HEARTBEAT, vector, rest, wants_answer, is_leaving]))


def text(key: str, value: str, ahead_seconds: float = 0) -> list[Any]:
    """Return an event that sets a text."""
    return [int((time.time() + ahead_seconds) * 1000) << 16, key, [1, value, 0], {}, []]


class Forger:
    """A sender that signs with any key in any name.

    Args:
        lattice: Lattice that its signatures cover.
        key: Key that it signs with.
        names: Public key that it claims to have signed with; None: its own.
        sender: Id of the replica in whose name it sends; None: a new one.
    """

    def __init__(
        self, lattice: str, key: SigningKey, names: bytes | None = None, sender: str | None = None, first: int = 1
    ) -> None:
        self.sender = sender or new_id()
        self._lattice = lattice
        self._key = key
        self._issuer = names or bytes(key.verify_key)
        self._sequence = itertools.count(first)

    def message(self, subject: str, kind: int, body: bytes, answers: int = 0) -> bytes:
        """Return a message for a subject."""
        head = struct.pack(
            ">4sBBB32s12sQQQ",
            b"kvrc",
            _PIECE_VERSION if kind == PIECE else _VERSION,
            0,
            kind,
            self._issuer,
            self.sender.encode(),
            next(self._sequence),
            int(time.time() * 1000),
            answers,
        )
        names = b"".join(struct.pack(">H", len(name)) + name.encode() for name in (self._lattice, subject))
        covered = b"\0kvrc2\0" + head + names + hashlib.sha256(body).digest()
        signature = self._key.sign(covered).signature
        tag_key = hashlib.blake2b(bytes(self._key), digest_size=32, person=b"kvrc2 tag key").digest()
        tag = hashlib.blake2b(covered + signature, digest_size=16, key=tag_key).digest()
        return head + signature + tag + body


def parse(message: bytes) -> tuple[str, int, Any]:
    """Return the sender, the sequence and the body of a signed message that is not compressed; None for one that is."""
    sender, sequence = message[39:51].decode(), int.from_bytes(message[51:59], "big")
    return sender, sequence, None if message[5] else msgpack.unpackb(message[155:], strict_map_key=False)
