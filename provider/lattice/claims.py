"""The rules by which the claims of an invocation are believed. Pure: the time is an argument.

The order of the checks and their reasons are those of the reference (wasmbus-rpc v0.15 rpc_client.rs and provider.rs).
Checks that the reference does not make come after, in the protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from ed25519_zebra import ed_verify
from msgspec import Struct

from contracts.lattice import Invocation, WasmCloudEntity, entity_url, target_url
from contracts.long_values import Buffer
from contracts.nkeys import decode_public_key
from contracts.tokens import (
    ALGORITHM,
    ENCODED_HEADER,
    SIGNATURE_BYTES,
    InvocationClaims,
    Token,
    TokenMalformedError,
    Wascap,
    decode_segment,
)
from contracts.tokens import decode_token as take_apart
from provider import errors

_URL_CACHE_ENTRIES = 1024
"""One entry per actor and operation. Each takes less than 1 KiB. Beyond this number the cache starts over."""


class _Header(Struct, frozen=True):
    typ: str
    alg: str


_decode_claims = msgspec.json.Decoder(InvocationClaims).decode
_decode_header = msgspec.json.Decoder(_Header).decode


def decode_token(encoded: str) -> Token[InvocationClaims]:
    """Take the token of an invocation apart.

    Raises:
        errors.ClaimsMalformedError: It is not a token signed with Ed25519, or a claim is missing or of the wrong type.
    """
    try:
        token = take_apart(encoded, _decode_claims)
        if token.header != ENCODED_HEADER:
            _check_header(token.header)
    except TokenMalformedError as error:
        raise errors.ClaimsMalformedError(str(error)) from None
    if len(token.signature) != SIGNATURE_BYTES:
        raise errors.ClaimsMalformedError("signature is not 64 bytes long")
    return token


class ClaimsVerifier:
    """The check that an invocation was signed by the cluster and was not altered since.

    The keys of the cluster's issuers are decoded once.

    Raises:
        errors.ClaimsMalformedError: An issuer is not a public nkey.
    """

    def __init__(self, cluster_issuers: Iterable[str]) -> None:
        self._keys = {issuer: _issuer_key(issuer) for issuer in cluster_issuers}
        self._urls: dict[tuple[WasmCloudEntity, WasmCloudEntity, str], _Urls] = {}

    def verify(self, invocation: Invocation, now: float) -> InvocationClaims:
        """Check an invocation against its token: everything, except the hash of a chunked payload.

        Raises:
            errors.InvocationDeniedError: The subclass is the reason.
        """
        token = decode_token(invocation.encoded_claims)
        return self.judge(invocation, token, self.is_signed(token), now)

    def is_signed(self, token: Token[InvocationClaims]) -> bool:
        """Check the signature against the key that the token names as its issuer.

        Raises:
            errors.ClaimsMalformedError: The issuer is not a public nkey.
        """
        return bool(ed_verify(token.signature, token.signing_input, self.key_of(token)))

    def key_of(self, token: Token[InvocationClaims]) -> bytes:
        """Return the 32 bytes of the key that a token names as its issuer.

        Raises:
            errors.ClaimsMalformedError: The issuer is not a public nkey.
        """
        return self._keys.get(token.claims.iss) or _issuer_key(token.claims.iss)

    def is_issuer(self, public_key: str) -> bool:
        """Tell whether a key is one of the cluster's issuers."""
        return public_key in self._keys

    def judge(
        self, invocation: Invocation, token: Token[InvocationClaims], is_signed: bool, now: float
    ) -> InvocationClaims:
        """Check everything that `verify` does, given the token taken apart and the result of `is_signed`.

        Raises:
            errors.InvocationDeniedError: The subclass is the reason.
        """
        wascap = _check_token(token.claims, is_signed, now)
        key = (invocation.origin, invocation.target, invocation.operation)
        known_urls = self._urls.get(key)
        urls = known_urls or _Urls(*key)
        if urls.hash(invocation.msg) != wascap.hash and not invocation.is_chunked:
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

    def verify_hash(self, invocation: Invocation, claims: InvocationClaims, payload: Buffer) -> None:
        """Check the payload of a chunked invocation, once it has been fetched.

        Raises:
            errors.HashMismatchError: Another payload was signed.
        """
        urls = _Urls(invocation.origin, invocation.target, invocation.operation)
        if claims.wascap is None or urls.hash(payload) != claims.wascap.hash:
            raise errors.HashMismatchError

    def _remember_urls(self, key: tuple[WasmCloudEntity, WasmCloudEntity, str], urls: _Urls) -> None:
        """Keep the URLs of a verified invocation: the next call of the same actor and operation has the same URLs."""
        if len(self._urls) >= _URL_CACHE_ENTRIES:
            self._urls.clear()
        self._urls[key] = urls


class _Urls:
    """The URLs of an invocation, and the state of SHA-256 after hashing them and the operation."""

    __slots__ = ("_digest", "origin_url", "target_url")

    def __init__(self, origin: WasmCloudEntity, target: WasmCloudEntity, operation: str) -> None:
        self.origin_url = entity_url(origin)
        self.target_url = target_url(target, operation)
        self._digest = hashlib.sha256(f"{self.origin_url}{self.target_url}{operation}".encode())

    def hash(self, payload: Buffer) -> str:
        digest = self._digest.copy()
        digest.update(payload)
        return digest.hexdigest().upper()


def _check_token(claims: InvocationClaims, is_signed: bool, now: float) -> Wascap:
    """Check the claims that do not depend on the invocation, and return those that do."""
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
    """Accept a header that other software wrote with other white space or keys, as long as the algorithm is Ed25519."""
    try:
        header = _decode_header(decode_segment(segment))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.ClaimsMalformedError("token header is not that of a token") from None
    if header.typ != "jwt" or header.alg != ALGORITHM:
        raise errors.ClaimsMalformedError("token header names another type or algorithm than jwt and Ed25519")


def _issuer_key(public_key: str) -> bytes:
    """Decode a public nkey of any kind: hosts check no kind here."""
    try:
        return decode_public_key(public_key)[1]
    except ValueError:
        raise errors.ClaimsMalformedError("issuer is not an nkey") from None
