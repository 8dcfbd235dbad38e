"""Public keys and seeds of the lattice: their kinds, and their form as text. Pure: randomness is an argument.

The text is base32 without padding. It covers the kind, 32 bytes of key, and a CRC-16 in little-endian order. The
package nkeys computes the checksum and signs, but refuses the kinds of modules and services, so the text is encoded
and decoded here.

Source: wasmCloud nkeys v0.4 src/lib.rs.
"""

from __future__ import annotations

import base64
import enum
from dataclasses import dataclass

import nkeys
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from contracts.secret import Secret

_RAW_BYTES = 32
_SEED_PREFIX = 18 << 3
"""The first five bits of a seed, which make its first letter `S`. The kind follows in the next eight bits."""


class KeyKind(enum.IntEnum):
    """The prefix byte of a key. It decides the first letter of a public key and the second letter of a seed."""

    ACCOUNT = 0
    """`A...`: the issuer of archives and actors."""

    CLUSTER = 2 << 3
    """`C...`: the issuer of invocations."""

    MODULE = 12 << 3
    """`M...`: an actor."""

    SERVER = 13 << 3
    """`N...`: a host."""

    OPERATOR = 14 << 3
    """`O...`: the operator of a NATS system."""

    USER = 20 << 3
    """`U...`: a user of NATS."""

    SERVICE = 21 << 3
    """`V...`: a provider."""

    CURVE = 23 << 3
    """`X...`: a key for sealed boxes, on Curve25519. Its seed holds the private key itself."""


@dataclass(frozen=True)
class Seed:
    """A private key of one kind, and the public key that belongs to it."""

    kind: KeyKind
    text: Secret

    def raw(self) -> bytes:
        """Return the 32 bytes of the private key."""
        return _decode_seed(self.text.reveal())[1]

    @property
    def public_key(self) -> str:
        private = self.raw()
        public = PrivateKey(private).public_key if self.kind is KeyKind.CURVE else SigningKey(private).verify_key
        return encode_public_key(self.kind, bytes(public))


def encode_seed(kind: KeyKind, raw: bytes) -> Seed:
    """Encode 32 bytes as a seed."""
    return Seed(kind, Secret(_encode(bytes([_SEED_PREFIX | kind >> 5, (kind & 0b11111) << 3]) + raw)))


def parse_seed(text: str) -> Seed:
    """Read a seed of any kind, with or without white space around it.

    Raises:
        ValueError: The text is not a seed, or of an unknown kind. The text does not appear in the error.
    """
    stripped = text.strip()
    kind, _ = _decode_seed(stripped)
    return Seed(KeyKind(kind), Secret(stripped))


def key_pair(seed: str) -> nkeys.KeyPair:
    """Return the key pair that signs for a seed of a kind that NATS knows: any but those of modules and services.

    Raises:
        ValueError: The text is not a seed, or of another kind. The text does not appear in the error.
    """
    try:
        return nkeys.from_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError, AttributeError):
        raise ValueError("expected the seed of an nkey") from None


def encode_public_key(kind: KeyKind, raw: bytes) -> str:
    """Encode 32 bytes as a public key."""
    return _encode(bytes([kind]) + raw)


def decode_public_key(public_key: str) -> tuple[int, bytes]:
    """Return the prefix byte of a public key of any kind, and its 32 bytes.

    Raises:
        ValueError: The alphabet, the length or the checksum is wrong.
    """
    body = _decode(public_key)
    if len(body) != 1 + _RAW_BYTES:
        raise ValueError("not a public nkey")
    return body[0], body[1:]


def is_usable(public_key: str) -> bool:
    """Return whether a text is a public key for which only the owner of the private key can sign.

    Points of small order are not usable: signatures for them can be made without a private key, and a check by the
    rules of ZIP 215 accepts those.
    """
    try:
        return crypto_core_ed25519_is_valid_point(decode_public_key(public_key)[1])
    except ValueError:
        return False


def _decode_seed(text: str) -> tuple[int, bytes]:
    """Return the prefix byte and the 32 bytes of a seed.

    Raises:
        ValueError: The alphabet, the length, the prefix or the checksum is wrong.
    """
    try:
        body = _decode(text)
    except ValueError:
        raise ValueError("not the seed of an nkey") from None
    if len(body) != 2 + _RAW_BYTES or body[0] & 0b11111000 != _SEED_PREFIX:
        raise ValueError("not the seed of an nkey")
    return (body[0] & 0b111) << 5 | body[1] >> 3, body[2:]


def _encode(body: bytes) -> str:
    return base64.b32encode(body + nkeys.crc16_checksum(body)).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    body, checksum = data[:-2], data[-2:]
    if nkeys.crc16_checksum(body) != checksum:
        raise ValueError("not an nkey")
    return body
