"""Keys of the lattice, encoded by hand. Source: nats-io/nkeys README; nkeys (Rust) src/lib.rs."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from nacl.signing import SigningKey

_PREFIXES = {"N": 13 << 3, "C": 2 << 3, "M": 12 << 3, "A": 0, "U": 20 << 3, "V": 21 << 3}
_SEED_PREFIX = 18 << 3


@dataclass(frozen=True)
class KeyPair:
    """A key pair of one kind: N host, C cluster, M module (actor), V provider, A account, U user."""

    kind: str
    signing_key: SigningKey

    @classmethod
    def generate(cls, kind: str) -> KeyPair:
        return cls(kind, SigningKey.generate())

    @property
    def public(self) -> str:
        return _encode(bytes([_PREFIXES[self.kind]]) + bytes(self.signing_key.verify_key))

    @property
    def seed(self) -> str:
        prefix = _PREFIXES[self.kind]
        first = _SEED_PREFIX | (prefix >> 5)
        second = (prefix & 0b11111) << 3
        return _encode(bytes([first, second]) + bytes(self.signing_key))

    def sign(self, data: bytes) -> bytes:
        return self.signing_key.sign(data).signature


def crc16(data: bytes) -> int:
    """Return the CRC-16/XMODEM: polynomial 0x1021, initial value 0."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc


def _encode(data: bytes) -> str:
    return base64.b32encode(data + crc16(data).to_bytes(2, "little")).decode().rstrip("=")
