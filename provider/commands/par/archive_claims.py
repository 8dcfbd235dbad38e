"""The claims of a provider archive: signed, decoded, and compared with the archive. The time is an argument.

Hosts only decode the claims and compare the hash of their own target. `wash`, policy servers and people check more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from msgspec import structs

from contracts.archive import REVISION_MAX, ArchiveClaims
from contracts.nkeys import KeyKind, Seed, decode_public_key, is_usable
from contracts.tokens import HEADER, Token, TokenMalformedError, decode_segment, decode_token
from provider.commands.errors import MalformedArchiveError
from provider.commands.minting import TokenMinter, is_signed
from provider.commands.par.archive_file import Contents

_TARGET = re.compile(r"[a-z0-9_]+-[a-z0-9]+")
_decode_claims = msgspec.json.Decoder(ArchiveClaims).decode
_decode_header = msgspec.json.Decoder(dict[str, object]).decode


def sign_claims(claims: ArchiveClaims, issuer: Seed) -> str:
    """Return the token of the claims, whose issuer must be the public key of the seed."""
    return TokenMinter(issuer).mint(msgspec.to_builtins(claims))


def decode_claims(encoded: str) -> Token[ArchiveClaims]:
    """Decode the token of an archive. Nothing in it is verified here.

    Raises:
        MalformedArchiveError: The token is not three segments of base64url and JSON, or a claim is missing or of the wrong
            type.
    """
    try:
        token = decode_token(encoded, _decode_claims)
        _decode_header(decode_segment(token.header))
    except (TokenMalformedError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedArchiveError(f"its claims cannot be read: {error}") from None
    return token


def problems(contents: Contents, token: Token[ArchiveClaims], now: float) -> list[str]:
    """Return all problems of an archive, one sentence each. A valid archive has none."""
    return [*_token_problems(token), *_claims_problems(token.claims, now), *_hash_problems(contents, token.claims)]


def _token_problems(token: Token[ArchiveClaims]) -> Iterator[str]:
    if _decode_header(decode_segment(token.header)) != HEADER:
        yield "the claims' header is not that of an Ed25519 token"
    issuer = token.claims.iss
    problem = _key_problem(issuer, KeyKind.ACCOUNT)
    if problem:
        yield f"the issuer is {problem}"
    elif not (is_usable(issuer) and is_signed(token, decode_public_key(issuer)[1])):
        yield "the claims were not signed by their issuer, or changed since"
    problem = _key_problem(token.claims.sub, KeyKind.SERVICE)
    if problem:
        yield f"the subject is {problem}"


def _key_problem(public_key: str, kind: KeyKind) -> str:
    """Return the reason a text is not a public key of a kind, "" if it is one."""
    try:
        found, _ = decode_public_key(public_key)
    except ValueError:
        return "not a public key"
    return "" if found == kind else f"not a key of kind {kind.name.lower()}"


def _claims_problems(claims: ArchiveClaims, now: float) -> Iterator[str]:
    if claims.exp is not None and claims.exp < now:
        yield "the claims have expired"
    if claims.nbf is not None and claims.nbf > now:
        yield "the claims are not valid yet"
    revision = claims.wascap.revision
    if revision is not None and not 1 <= revision <= REVISION_MAX:
        yield f"the revision is {revision}, outside of 1 to {REVISION_MAX}: hosts use the time of signing instead"
    for name, text in structs.asdict(claims.wascap).items():
        if text == "" and name in ("contract_id", "vendor"):
            yield f"{name} is empty"


def _hash_problems(contents: Contents, claims: ArchiveClaims) -> Iterator[str]:
    hashes = claims.wascap.target_hashes
    found = {executable.target: executable.sha256 for executable in contents.executables}
    if not found:
        yield "the archive contains no executable"
    for target in sorted(hashes.keys() | found.keys()):
        shown = target if _TARGET.fullmatch(target) else repr(target[:60])
        if target not in found:
            yield f"the executable for {shown} is missing"
        elif target not in hashes:
            yield f"the claims hold no hash of {shown}: hosts crash on it"
        elif hashes[target] != found[target]:
            yield f"the executable for {shown} is not the one that was signed"
