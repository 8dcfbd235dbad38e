"""Make the nkeys of a development lattice. Knows encodings and randomness, not what the keys are for."""

from __future__ import annotations

import base64
import enum
import os

import nkeys
from nacl.signing import SigningKey

from contracts.secret import Secret

_PUBLIC_KEY_BYTES = 35


class KeyKind(enum.IntEnum):
    """The prefix byte of a public key, which decides its first letter.

    Source: wasmCloud nkeys v0.4 src/lib.rs.
    """

    ACCOUNT = 0
    """`A...`: answers for archives and actors."""

    CLUSTER = 2 << 3
    """`C...`: signs invocations."""

    SERVER = 13 << 3
    """`N...`: a host."""

    MODULE = 12 << 3
    """`M...`: an actor."""

    SERVICE = 21 << 3
    """`V...`: a provider."""


def encode_public_key(kind: KeyKind, raw: bytes) -> str:
    """Encode 32 bytes as a public nkey.

    Written here because nkeys refuses the prefixes of modules and services.
    """
    body = bytes([kind]) + raw
    return base64.b32encode(body + nkeys.crc16_checksum(body)).rstrip(b"=").decode("ascii")


def decode_public_key(public_key: str) -> tuple[int, bytes]:
    """Return the prefix byte of a public nkey, and its 32 bytes.

    Raises:
        ValueError: Not an nkey: alphabet, length or checksum.
    """
    data = base64.b32decode(public_key + "=" * (-len(public_key) % 8))
    if len(data) != _PUBLIC_KEY_BYTES or nkeys.crc16_checksum(data[:-2]) != data[-2:]:
        raise ValueError("not an nkey")
    return data[0], data[1:-2]


def make_public_key(kind: KeyKind) -> str:
    """Make a public nkey whose private half nobody keeps: an identity that never signs."""
    return encode_public_key(kind, bytes(SigningKey.generate().verify_key))


def make_cluster_seed() -> Secret:
    return Secret(bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_CLUSTER)).decode("ascii"))


def raw_seed(seed: Secret) -> bytes:
    """Return the 32 bytes inside a seed.

    Raises:
        nkeys.ErrInvalidSeed: Not a seed.
    """
    _, raw = nkeys.decode_seed(seed.reveal().encode("ascii"))
    return bytes(raw)


def cluster_public_key(seed: Secret) -> str:
    return encode_public_key(KeyKind.CLUSTER, bytes(SigningKey(raw_seed(seed)).verify_key))
