"""New keys, and tokens that are signed and checked with cryptography.

The provider itself checks them with another library (ed25519-zebra), so each proves the other. A test reads them with PyJWT.
"""

from __future__ import annotations

import os
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contracts.nkeys import KeyKind, Seed, encode_seed
from contracts.tokens import Token, encode_token


def make_seed(kind: KeyKind) -> Seed:
    """Make a new private key."""
    return encode_seed(kind, os.urandom(32))


def make_public_key(kind: KeyKind) -> str:
    """Make a public key and forget its private half: an identity that never signs."""
    return make_seed(kind).public_key


class TokenMinter:
    """Sign tokens with one key.

    Attributes:
        public_key: The issuer that honest tokens name.
    """

    def __init__(self, seed: Seed) -> None:
        self.public_key = seed.public_key
        self._key = Ed25519PrivateKey.from_private_bytes(seed.raw())

    def mint(self, claims: dict[str, Any]) -> str:
        """Sign any claims, also wrong ones: the demonstration and the tests forge tokens."""
        return encode_token(claims, self._key.sign)


def is_signed(token: Token[Any], raw_key: bytes) -> bool:
    """Check the signature of a token against the 32 bytes of a public key."""
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(token.signature, token.signing_input)
    except InvalidSignature:
        return False
    return True
