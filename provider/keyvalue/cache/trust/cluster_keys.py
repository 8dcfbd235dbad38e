"""The keys by which replicas know each other: that of the cluster, which every member of the lattice is given. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from ed25519_zebra import ed_verify
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from contracts.nkeys import KeyKind, decode_public_key, encode_seed, is_usable, parse_seed
from contracts.secret import Secret

SIGNATURE_BYTES = 64
TAG_BYTES = 16
"""Size of a tag: guessing one takes more messages than can ever be sent."""


_TEXT_CONTEXT = b"\0keyvalue-nats replication key\0"
"""Begins the hashed bytes, so that the seed made from a text is not that of another program."""

_ANY_LATTICE = ""
"""Replicas that share a text need no common lattice: their hosts may be in several, and the text says who belongs to them."""


def keys_of_text(text: Secret) -> ClusterKeys:
    """Return the keys of the replicas that share a text, as they have no seed of a cluster."""
    raw = hashlib.sha256(_TEXT_CONTEXT + text.reveal().encode()).digest()
    return ClusterKeys(_ANY_LATTICE, encode_seed(KeyKind.CLUSTER, raw).text, [])


class ClusterKeys:
    """The key that signs for this replica, and those that are believed. The own one always is.

    Args:
        lattice: Name of the lattice, which every signature covers.
        seed: Seed of the cluster's key.
        issuers: Public keys of the cluster's issuers. Unusable ones are left out.

    Attributes:
        issuer: The 32 bytes of the own public key.

    Raises:
        ValueError: The text is not a seed. It does not appear in the error.
    """

    def __init__(self, lattice: str, seed: Secret, issuers: Iterable[str]) -> None:
        self.lattice = lattice
        raw = parse_seed(seed.reveal()).raw()
        self.issuer, self._key = crypto_sign_seed_keypair(raw)
        self._tag_key = hashlib.blake2b(raw, digest_size=32, person=b"kvrc2 tag key").digest()
        self._issuers = {self.issuer, *(decode_public_key(issuer)[1] for issuer in issuers if is_usable(issuer))}

    def __repr__(self) -> str:
        return f"ClusterKeys(lattice={self.lattice!r}, {len(self._issuers)} issuers)"

    def sign(self, data: bytes) -> bytes:
        return crypto_sign(data, self._key)[:SIGNATURE_BYTES]

    def tag(self, data: bytes) -> bytes:
        """Return a keyed hash that only those can make who have the same seed. It takes a fiftieth of a signature's time."""
        return hashlib.blake2b(data, digest_size=TAG_BYTES, key=self._tag_key).digest()

    def is_tagged(self, data: bytes, tag: bytes) -> bool:
        """Tell whether a tag was made with the own seed."""
        return hmac.compare_digest(self.tag(data), tag)

    def is_believed(self, issuer: bytes) -> bool:
        return issuer in self._issuers

    @staticmethod
    def is_signed(data: bytes, signature: bytes, issuer: bytes) -> bool:
        """Tell whether a signature is that of an issuer."""
        return bool(ed_verify(signature, data, issuer))
