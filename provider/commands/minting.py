"""New keys, and tokens that are signed and checked with PyJWT over cryptography.

The provider itself checks tokens with another library (ed25519-zebra) and its own parser, so each proves the other.
"""

from __future__ import annotations

import json
import os
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from contracts.nkeys import KeyKind, Seed, encode_seed
from contracts.tokens import ALGORITHM, HEADER, Token


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
        self._jws = jwt.PyJWS()
        if ALGORITHM not in self._jws.get_algorithms():  # PyJWT knows it as EdDSA (RFC 8037)
            self._jws.register_algorithm(ALGORITHM, OKPAlgorithm())

    def mint(self, claims: dict[str, Any]) -> str:
        """Sign any claims, also wrong ones: the demonstration and the tests forge tokens."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._key, algorithm=ALGORITHM, headers=HEADER, sort_headers=False)


def is_signed(token: Token[Any], raw_key: bytes) -> bool:
    """Check the signature of a token against the 32 bytes of a public key."""
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(token.signature, token.signing_input)
    except InvalidSignature:
        return False
    return True
