"""Tokens: JWTs signed with Ed25519, as hosts write them. Their parts, their encoding, and the claims of an invocation.

The caller checks signatures and judges claims. Pure: the time and the key are arguments.

Source: wasmCloud v0.82.0 crates/wascap/src/jwt.rs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.lattice import Invocation, entity_url, invocation_hash, target_url

C = TypeVar("C")

ALGORITHM = "Ed25519"
HEADER = {"typ": "jwt", "alg": ALGORITHM}
SIGNATURE_BYTES = 64
WASCAP_REVISION = 3
"""The revision of the claims' layout that every supported host writes."""


class TokenMalformedError(ValueError):
    """A text that is not a token, or whose claims cannot be read."""


class Token(Struct, Generic[C], frozen=True, gc=False):
    """A token taken apart. Nothing in it has been verified.

    Attributes:
        header: The header as received, in base64url.
        claims: The decoded claims.
        signature: The signature, of any length.
        signing_input: The bytes that were signed.
    """

    header: bytes
    claims: C
    signature: bytes
    signing_input: bytes


class Wascap(Struct, frozen=True, gc=False):
    """The part of the claims that binds a token to its invocation. The hash is SHA-256 in upper-case hexadecimal."""

    target_url: str
    origin_url: str
    hash: str


Seconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""Whole seconds since 1970, within the integers that a float represents exactly."""


class InvocationClaims(Struct, frozen=True, gc=False):
    """The claims of one invocation. `sub` is the id of the invocation, `iss` the public key of the cluster."""

    jti: str
    iat: Seconds
    iss: str
    sub: str
    exp: Seconds | None = None
    nbf: Seconds | None = None
    wascap: Wascap | None = None


def invocation_claims(invocation: Invocation, issuer: str, issued_at: int) -> dict[str, Any]:
    """Return the claims of an invocation whose `msg` is the whole payload, in the order in which hosts write them.

    No host sets `exp` or `nbf`. Hosts put a random text into `jti`, which no reader uses; here it is the invocation's
    id.

    Args:
        invocation: The invocation, with or without a token.
        issuer: Public key of the signer.
        issued_at: Whole seconds since 1970.
    """
    origin_url, url_of_target = entity_url(invocation.origin), target_url(invocation.target, invocation.operation)
    return {
        "jti": invocation.id,
        "iat": issued_at,
        "iss": issuer,
        "sub": invocation.id,
        "wascap": {
            "target_url": url_of_target,
            "origin_url": origin_url,
            "hash": invocation_hash(origin_url, url_of_target, invocation.operation, invocation.msg),
        },
        "wascap_revision": WASCAP_REVISION,
    }


def encode_token(claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Put a token together.

    Args:
        claims: The claims, in the order of the encoded text.
        sign: Function that returns the 64 bytes of a signature.
    """
    signing_input = ENCODED_HEADER + b"." + encode_segment(msgspec.json.encode(claims))
    return (signing_input + b"." + encode_segment(sign(signing_input))).decode("ascii")


def decode_token(encoded: str, decode_claims: Callable[[bytes], C]) -> Token[C]:
    """Take a token apart. The header stays encoded.

    Args:
        encoded: The token as received.
        decode_claims: Decoder of the JSON of the claims, with the errors of msgspec.

    Raises:
        TokenMalformedError: There are not three segments, one is not base64url, or the claims are not those expected.
    """
    try:
        signing_input, _, signature = encoded.encode("ascii").rpartition(b".")
        header, claims = signing_input.split(b".", 1)
    except ValueError:
        raise TokenMalformedError("not three segments separated by dots") from None
    try:
        decoded = decode_claims(decode_segment(claims))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TokenMalformedError(str(error)) from None
    return Token(header, decoded, decode_segment(signature), signing_input)


def encode_segment(data: bytes) -> bytes:
    """Encode base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode_segment(segment: bytes) -> bytes:
    """Decode base64url without padding, by msgspec's strict decoder of binary values in JSON: the fastest one here.

    Raises:
        TokenMalformedError: A character is outside the alphabet, or the length is impossible.
    """
    if not segment.isalnum():  # as most claims are; the other characters stand for few texts
        segment = segment.translate(_TO_STANDARD_ALPHABET)
    try:
        return _decode_binary(b'"' + segment + _ENDS[len(segment) & 3])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TokenMalformedError("a segment is not base64url without padding") from None


_decode_binary = msgspec.json.Decoder(bytes).decode
_ENDS = (b'"', b'==="', b'=="', b'="')
"""The padding and the closing quote of a segment, by the remainder of its length."""

_TO_STANDARD_ALPHABET = bytes.maketrans(b'-_+/=\\"', b"+/!!!!!")
"""Maps the two characters of the URL alphabet, and makes those invalid that only the standard alphabet or JSON allows."""

ENCODED_HEADER = encode_segment(msgspec.json.encode(HEADER))
"""The header as every host writes it. Other software may write other white space or another order of keys."""
