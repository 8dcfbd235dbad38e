"""Decode and verify the claims of invocations. Pure: the time is an argument.

The order of the checks and their reasons are the reference's (wasmbus-rpc v0.15 rpc_client.rs and provider.rs); what
this provider checks beyond it comes after.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
import nkeys
from ed25519_zebra import ed_verify
from msgspec import Meta, Struct
from nacl.bindings import crypto_core_ed25519_is_valid_point

from contracts.lattice import Invocation, WasmCloudEntity, entity_url, target_url
from provider import errors

_SIGNATURE_BYTES = 64
_URL_CACHE_ENTRIES = 1024


class Wascap(Struct, frozen=True, gc=False):
    """What a token says about its invocation."""

    target_url: str
    origin_url: str
    hash: str


_Seconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""Whole seconds since 1970, as many as a float counts exactly."""


class Claims(Struct, frozen=True, gc=False):
    """The claims of one invocation."""

    jti: str
    iat: _Seconds
    iss: str
    sub: str
    exp: _Seconds | None = None
    nbf: _Seconds | None = None
    wascap: Wascap | None = None


class _Header(Struct, frozen=True):
    typ: str
    alg: str


class Token(Struct, frozen=True, gc=False):
    """A token taken apart; nothing in it has been verified."""

    claims: Claims
    signing_input: bytes
    signature: bytes


_KNOWN_HEADER = base64.urlsafe_b64encode(b'{"typ":"jwt","alg":"Ed25519"}').rstrip(b"=")
_claims_decoder = msgspec.json.Decoder(Claims)
_header_decoder = msgspec.json.Decoder(_Header)
_binary_decoder = msgspec.json.Decoder(bytes)


def decode_token(encoded: str) -> Token:
    """Take a token apart.

    Raises:
        errors.ClaimsMalformedError: Not three segments of base64url, not JSON, another algorithm, a claim missing.

    Source: wasmCloud v0.82.0 crates/wascap/src/jwt.rs.
    """
    try:
        data = encoded.encode("ascii")
        header, claims, signature = data.split(b".")
    except ValueError:
        raise errors.ClaimsMalformedError("not three segments separated by dots") from None
    if header != _KNOWN_HEADER:
        _check_header(header)
    raw_signature = _decode_segment(signature)
    if len(raw_signature) != _SIGNATURE_BYTES:
        raise errors.ClaimsMalformedError("signature is not 64 bytes long")
    try:
        decoded = _claims_decoder.decode(_decode_segment(claims))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.ClaimsMalformedError(str(error)) from None
    return Token(decoded, data[: len(header) + 1 + len(claims)], raw_signature)


def public_key_bytes(nkey: str) -> bytes:
    """Decode a public nkey of any kind to its 32 bytes.

    Raises:
        errors.ClaimsMalformedError: Not an nkey: alphabet, length or checksum.

    Source: nkeys v0.4 src/lib.rs.
    """
    try:
        raw = base64.b32decode(nkey + "=" * (-len(nkey) % 8))
    except (binascii.Error, ValueError):
        raise errors.ClaimsMalformedError("issuer is not an nkey") from None
    if len(raw) != 35 or nkeys.crc16_checksum(raw[:-2]) != raw[-2:]:
        raise errors.ClaimsMalformedError("issuer is not an nkey")
    return raw[1:-2]


def is_public_key(nkey: str) -> bool:
    """Tell whether somebody can have the private key, and only they can sign.

    Some points of the curve are no public keys: with those of small order, anybody makes signatures that the check of
    signatures (ZIP 215) takes.
    """
    try:
        return crypto_core_ed25519_is_valid_point(public_key_bytes(nkey))
    except errors.ClaimsMalformedError:
        return False


class ClaimsVerifier:
    """Verify that invocations were signed by the cluster and are what was signed.

    The keys of the cluster's issuers are decoded once.
    """

    def __init__(self, cluster_issuers: Iterable[str]) -> None:
        self._keys = {issuer: public_key_bytes(issuer) for issuer in cluster_issuers}
        self._urls: dict[tuple[WasmCloudEntity, WasmCloudEntity, str], _Urls] = {}

    def verify(self, invocation: Invocation, now: float) -> Claims:
        """Check everything about an invocation that its token can tell, and the hash unless it is chunked.

        Raises:
            errors.InvocationDeniedError: The subclass is the reason.
        """
        token = decode_token(invocation.encoded_claims)
        return self.judge(invocation, token, self.is_signed(token), now)

    def is_signed(self, token: Token) -> bool:
        """Check the signature against the key that the token names as its issuer.

        Raises:
            errors.ClaimsMalformedError: The issuer is not a key.
        """
        key = self._keys.get(token.claims.iss) or public_key_bytes(token.claims.iss)
        return bool(ed_verify(token.signature, token.signing_input, key))

    def judge(self, invocation: Invocation, token: Token, is_signed: bool, now: float) -> Claims:
        """Do the same as `verify`, with the token taken apart and its signature checked already.

        Raises:
            errors.InvocationDeniedError: The subclass is the reason.
        """
        wascap = _check_token(token.claims, is_signed, now)
        key = (invocation.origin, invocation.target, invocation.operation)
        known_urls = self._urls.get(key)
        urls = known_urls or _Urls(*key)
        if not invocation.is_chunked and urls.hash(invocation.msg) != wascap.hash:
            raise errors.HashMismatchError
        if invocation.host_id[:1] != "N" and len(invocation.host_id) != 56:
            raise errors.HostIdInvalidError(invocation.host_id)
        if wascap.target_url != urls.target_url:
            raise errors.TargetUrlMismatchError
        if wascap.origin_url != urls.origin_url:
            raise errors.OriginUrlMismatchError
        if token.claims.iss not in self._keys:
            raise errors.IssuerUnknownError
        if known_urls is None:
            self._remember_urls(key, urls)
        return token.claims

    def verify_hash(self, invocation: Invocation, claims: Claims, payload: bytes) -> None:
        """Check the payload of a chunked invocation, once it has been fetched.

        Raises:
            errors.HashMismatchError: It is not the one that was signed.
        """
        urls = _Urls(invocation.origin, invocation.target, invocation.operation)
        if claims.wascap is None or urls.hash(payload) != claims.wascap.hash:
            raise errors.HashMismatchError

    def _remember_urls(self, key: tuple[WasmCloudEntity, WasmCloudEntity, str], urls: _Urls) -> None:
        """Keep the URLs of a verified invocation: the next one of the same actor and operation has the same."""
        if len(self._urls) >= _URL_CACHE_ENTRIES:
            self._urls.clear()
        self._urls[key] = urls


class _Urls:
    """The URLs of an invocation and the state of SHA-256 after them and the operation."""

    __slots__ = ("_digest", "origin_url", "target_url")

    def __init__(self, origin: WasmCloudEntity, target: WasmCloudEntity, operation: str) -> None:
        self.origin_url = entity_url(origin)
        self.target_url = target_url(target, operation)
        self._digest = hashlib.sha256(f"{self.origin_url}{self.target_url}{operation}".encode())

    def hash(self, payload: bytes) -> str:
        digest = self._digest.copy()
        digest.update(payload)
        return digest.hexdigest().upper()


def _check_token(claims: Claims, is_signed: bool, now: float) -> Wascap:
    """Check what a token says without its invocation; returns what it says about that."""
    if claims.exp is not None and claims.exp < now:
        raise errors.ClaimsExpiredError
    if not is_signed:
        raise errors.SignatureInvalidError
    if claims.nbf is not None and now < claims.nbf:
        raise errors.ClaimsNotYetValidError
    if claims.wascap is None:
        raise errors.WascapMissingError
    return claims.wascap


def _check_header(segment: bytes) -> None:
    try:
        header = _header_decoder.decode(_decode_segment(segment))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.ClaimsMalformedError("token header is not that of a token") from None
    if header.typ != "jwt" or header.alg != "Ed25519":
        raise errors.ClaimsMalformedError("token header names another type or algorithm than jwt and Ed25519")


def _decode_segment(segment: bytes) -> bytes:
    """Decode base64url without padding, by the strict decoder of binary values in JSON, which is the quickest."""
    try:
        return _binary_decoder.decode(
            b'"%b%b"' % (segment.translate(_TO_STANDARD_ALPHABET), b"==="[: -len(segment) % 4])
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.ClaimsMalformedError("a segment is not base64url without padding") from None


_TO_STANDARD_ALPHABET = bytes.maketrans(b'-_+/=\\"', b"+/!!!!!")
"""What only the standard alphabet or JSON has becomes a character that neither has."""
