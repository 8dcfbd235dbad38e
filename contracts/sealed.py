"""Secrets as hosts of wasmCloud 1.x give them to a provider: in clear at the start, sealed in links. Pure.

A sealed text is `xkv1`, 24 random bytes, and the NaCl box of the text for the receiver's curve key.

Source: nkeys 0.4 xkeys.rs; wasmCloud v1.9.2 crates/core/src/secrets.rs (SecretValue).
"""

from __future__ import annotations

from typing import Any

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from contracts import codec
from contracts.codec import MalformedError
from contracts.nkeys import KeyKind, decode_public_key, parse_seed
from contracts.secret import Secret

SecretValues = dict[str, Secret | None]
"""Secrets by name. None stands for bytes that are not text, which no setting of this provider takes."""

NONCE_BYTES = 24
"""The nonce of XSalsa20."""

_VERSION = b"xkv1"
_WHAT = "secrets"


class SecretBox:
    """The keys between a host and its provider; either side can open what the other one seals.

    Args:
        own_seed: Seed of the own curve key, `SX...`.
        other_key: Public curve key of the other side, `X...`.

    Attributes:
        public_key: The own public key, `X...`.

    Raises:
        ValueError: A text is not a curve key of that form. It does not appear in the error.
    """

    def __init__(self, own_seed: Secret, other_key: str) -> None:
        seed = parse_seed(own_seed.reveal())
        kind, raw = decode_public_key(other_key)
        if seed.kind is not KeyKind.CURVE or kind != KeyKind.CURVE:
            raise ValueError("not a curve key")
        self.public_key = seed.public_key
        self._box = Box(PrivateKey(seed.raw()), PublicKey(raw))

    def __repr__(self) -> str:
        return f"SecretBox({self.public_key!r})"

    def seal(self, plain: bytes, nonce: bytes) -> bytes:
        """Seal bytes for the other side with 24 random bytes that are never used again."""
        return _VERSION + nonce + self._box.encrypt(plain, nonce).ciphertext

    def open(self, sealed: bytes) -> bytes:
        """Open what the other side has sealed.

        Raises:
            MalformedError: The bytes are of another version, or were not sealed for this key by that other side.
        """
        nonce_end = len(_VERSION) + NONCE_BYTES
        if sealed[: len(_VERSION)] != _VERSION or len(sealed) <= nonce_end:
            raise MalformedError(_WHAT, "not sealed in the form xkv1")
        try:
            return self._box.decrypt(sealed[nonce_end:], sealed[len(_VERSION) : nonce_end])
        except CryptoError:
            raise MalformedError(_WHAT, "not sealed by this host for this provider") from None


def decode_secrets(data: bytes) -> SecretValues:
    """Decode the JSON object inside a sealed text.

    Raises:
        MalformedError: The bytes are not secrets. The error never shows one.
    """
    try:
        return secrets_from(codec.unpack_json(data, _WHAT))
    except MalformedError:
        raise MalformedError(_WHAT, "expected an object of name -> kind and value") from None


def encode_secrets(secrets: dict[str, Secret]) -> bytes:
    """Encode secrets as a host does before it seals them."""
    return codec.pack_json(plain_secrets(secrets))


def plain_secrets(secrets: dict[str, Secret]) -> dict[str, Any]:
    """Return secrets as the plain values of host data. They are revealed, so the result may only be encoded and sent."""
    return {name: {"kind": "String", "value": secret.reveal()} for name, secret in secrets.items()}


def secrets_from(value: Any) -> SecretValues:
    """Check plain values against the form of secrets.

    Raises:
        MalformedError: A secret is neither a text nor bytes. The error names it and never shows it.
    """
    if not isinstance(value, dict):
        raise MalformedError(_WHAT, "expected an object")
    return {name: _secret(name, secret) for name, secret in value.items()}


def _secret(name: str, secret: Any) -> Secret | None:
    match secret:
        case {"kind": "String", "value": str(text)}:
            return Secret(text)
        case {"kind": "Bytes", "value": list(numbers)}:
            try:
                return Secret(bytes(numbers).decode())
            except UnicodeDecodeError:
                return None
            except (ValueError, TypeError):
                pass
    raise MalformedError(_WHAT, f"{name[:60]!r} is neither a text nor bytes")
