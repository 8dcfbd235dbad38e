"""Sign the claims of a provider archive, and check what an archive says of itself. Pure: the time is an argument.

Hosts only decode the claims and compare the hash of their own target. `wash`, policy servers and people look further.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import structs
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from contracts.archive import REVISION_MAX, ArchiveClaims
from provider.commands.dev_lattice.keys import KeyKind, decode_public_key
from provider.commands.dev_lattice.tokens import HEADER, TokenSigner
from provider.commands.errors import MalformedArchiveError
from provider.commands.par.archive_file import Contents
from provider.commands.par.key_files import SigningSeed

_SIGNATURE_BYTES = 64
_TARGET = re.compile(r"[a-z0-9_]+-[a-z0-9]+")


@dataclass(frozen=True)
class Token:
    """A token taken apart; nothing in it has been verified."""

    header: dict[str, object]
    claims: ArchiveClaims
    signing_input: bytes
    signature: bytes


def sign_claims(claims: ArchiveClaims, issuer: SigningSeed) -> str:
    """Return the token. The issuer that stands in the claims is to be this one."""
    return TokenSigner(issuer.public_key, issuer.raw()).sign(msgspec.to_builtins(claims))


def decode_claims(encoded: str) -> Token:
    """Take a token apart.

    Raises:
        MalformedArchiveError: Not three segments of base64url, not JSON, or a claim is missing or of the wrong type.
    """
    try:
        header, claims, signature = encoded.encode("ascii").split(b".")
    except ValueError:
        raise MalformedArchiveError("its claims are not three segments separated by dots") from None
    try:
        return Token(
            msgspec.json.decode(_decode_segment(header), type=dict[str, object]),
            msgspec.json.decode(_decode_segment(claims), type=ArchiveClaims),
            header + b"." + claims,
            _decode_segment(signature),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, RecursionError) as error:
        raise MalformedArchiveError(f"its claims cannot be read: {error}") from None


def problems(contents: Contents, token: Token, now: float) -> list[str]:
    """Say everything that is wrong with an archive, one sentence each; nothing when it is good."""
    return [*_token_problems(token), *_claims_problems(token.claims, now), *_hash_problems(contents, token.claims)]


def _token_problems(token: Token) -> Iterator[str]:
    if token.header != HEADER:
        yield "the claims' header is not that of an Ed25519 token"
    raw = _key_problem_or_raw(token.claims.iss, KeyKind.ACCOUNT)
    if isinstance(raw, str):
        yield f"the issuer is {raw}"
    elif not _is_signed(token, raw):
        yield "the claims were not signed by their issuer, or changed since"
    subject = _key_problem_or_raw(token.claims.sub, KeyKind.SERVICE)
    if isinstance(subject, str):
        yield f"the subject is {subject}"


def _key_problem_or_raw(public_key: str, kind: KeyKind) -> bytes | str:
    try:
        found, raw = decode_public_key(public_key)
    except ValueError:
        return "no public key"
    wanted = f"not a key of kind {kind.name.lower()}"
    return raw if found == kind else wanted


def _is_signed(token: Token, raw_key: bytes) -> bool:
    if len(token.signature) != _SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(raw_key).verify(token.signing_input, token.signature)
    except BadSignatureError:
        return False
    return True


def _claims_problems(claims: ArchiveClaims, now: float) -> Iterator[str]:
    if claims.exp is not None and claims.exp < now:
        yield "the claims have expired"
    if claims.nbf is not None and claims.nbf > now:
        yield "the claims are not valid yet"
    revision = claims.wascap.revision
    if revision is not None and not 1 <= revision <= REVISION_MAX:
        yield f"the revision is {revision}, outside of 1 to {REVISION_MAX}: hosts take the time of signing instead"
    for name, text in structs.asdict(claims.wascap).items():
        if text == "" and name in ("contract_id", "vendor"):
            yield f"{name} is empty"


def _hash_problems(contents: Contents, claims: ArchiveClaims) -> Iterator[str]:
    hashes = claims.wascap.target_hashes
    found = {entry.target: entry.sha256 for entry in contents.entries}
    if not found:
        yield "there is no executable in it"
    for target in sorted(hashes.keys() | found.keys()):
        shown = target if _TARGET.fullmatch(target) else repr(target[:60])
        if target not in found:
            yield f"the executable for {shown} is missing"
        elif target not in hashes:
            yield f"the claims hold no hash of {shown}: hosts crash on it"
        elif hashes[target] != found[target]:
            yield f"the executable for {shown} is not the one that was signed"


def _decode_segment(segment: bytes) -> bytes:
    return base64.b64decode(segment + b"=" * (-len(segment) % 4), altchars=b"-_", validate=True)
