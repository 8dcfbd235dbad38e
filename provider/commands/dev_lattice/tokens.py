"""Mint the claims of invocations as a lattice host does, and sign any others, with PyJWT over cryptography.

The provider checks them with another library (ed25519-zebra) and its own parser, so each proves the other.
"""

from __future__ import annotations

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from contracts.secret import Secret
from provider.commands.dev_lattice.keys import cluster_public_key, raw_seed

ALGORITHM = "Ed25519"
HEADER = {"typ": "jwt", "alg": ALGORITHM}
WASCAP_REVISION = 3


class TokenSigner:
    """Sign tokens with one key.

    Attributes:
        public_key: The issuer that the tokens name.
    """

    def __init__(self, public_key: str, raw_key: bytes) -> None:
        self.public_key = public_key
        self._key = Ed25519PrivateKey.from_private_bytes(raw_key)
        self._jws = jwt.PyJWS()
        if ALGORITHM not in self._jws.get_algorithms():
            self._jws.register_algorithm(ALGORITHM, OKPAlgorithm())

    def sign(self, claims: dict[str, Any]) -> str:
        """Sign any claims, also wrong ones: forging is part of the job."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._key, algorithm=ALGORITHM, headers=HEADER, sort_headers=False)


class TokenIssuer(TokenSigner):
    """Sign the tokens of invocations with one cluster key, `C...`."""

    def __init__(self, seed: Secret) -> None:
        super().__init__(cluster_public_key(seed), raw_seed(seed))

    def claims(self, invocation_id: str, issued_at: int, wascap: dict[str, str]) -> dict[str, Any]:
        """Return the claims of one invocation in the order in which hosts write them.

        Args:
            invocation_id: Becomes `sub`, and `jti` too: hosts put a random text there that nobody reads.
            issued_at: Whole seconds since 1970.
            wascap: `target_url`, `origin_url` and `hash`.

        Source: wasmCloud v0.82.0 crates/wascap/src/jwt.rs. No host sets `exp` or `nbf`.
        """
        return {
            "jti": invocation_id,
            "iat": issued_at,
            "iss": self.public_key,
            "sub": invocation_id,
            "wascap": wascap,
            "wascap_revision": WASCAP_REVISION,
        }
