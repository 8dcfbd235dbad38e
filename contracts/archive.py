"""What a provider archive says of itself: the claims in `claims.jwt`, and the names that hosts derive from them.

Source: wasmCloud v0.82.0 crates/wascap/src/jwt.rs, crates/provider-archive/src/archive.rs, crates/host/src/par.rs.
"""

from __future__ import annotations

from msgspec import Struct, field

CLAIMS_STEM = "claims"
"""Stem of the entry that holds the claims; every other entry's stem is its target."""

CLAIMS_NAME = f"{CLAIMS_STEM}.jwt"
CACHE_FOLDER = "wasmcloudcache"
REVISION_MAX = 2**31 - 1


class ProviderMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the archive holds.

    Attributes:
        target_hashes: Target, `{architecture}-{system}` -> SHA-256 of its executable in upper-case hexadecimal.
        revision: From 1. Absent, and for hosts also 0 and less: the time of signing stands in its place.
    """

    name: str | None = None
    contract_id: str = field(name="capid")
    vendor: str
    revision: int | None = field(name="rev", default=None)
    version: str | None = field(name="ver", default=None)
    target_hashes: dict[str, str]


class ArchiveClaims(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The claims. Times are in whole seconds since 1970.

    Attributes:
        iss: Public key of the account that answers for the archive, `A...`.
        sub: Public key of the provider, `V...`.
    """

    exp: int | None = None
    jti: str
    iat: int
    iss: str
    sub: str
    nbf: int | None = None
    wascap: ProviderMetadata
    wascap_revision: int | None = None


def entry_name(target: str) -> str:
    """Return the name of a target's executable in the archive."""
    return f"{target}.bin"


def cached_folder(claims: ArchiveClaims) -> str:
    """Return where, under their temporary folder, hosts keep the executable. They never write there twice."""
    revision = claims.wascap.revision or 0
    return f"{CACHE_FOLDER}/{claims.sub}/{revision if revision > 0 else claims.iat}"


def cached_name(contract_id: str, link_name: str) -> str:
    """Return the name that hosts give the executable in `cached_folder`."""
    return f"{_normal(contract_id)}_{_normal(link_name)}"


def _normal(text: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in text.lower())
