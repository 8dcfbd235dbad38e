"""The claims of a provider archive, in `claims.jwt`, and the file names that hosts derive from them.

Source: wasmCloud v0.82.0 and v1.9.2 crates/wascap/src/jwt.rs, crates/provider-archive/src/archive.rs; v0.82.0
crates/host/src/par.rs.
"""

from __future__ import annotations

from msgspec import Struct, field

CLAIMS_STEM = "claims"
"""Stem of the entry that holds the claims. The stem of every other entry is its target."""

CLAIMS_NAME = f"{CLAIMS_STEM}.jwt"
WORLD_NAME = "world.wasm"
"""The entry with the interfaces of a provider for 1.x. It is optional, and its hash stands under its whole name."""

CACHE_FOLDER = "wasmcloudcache"
REVISION_MAX = 2**31 - 1
"""Hosts read the revision as a signed 32-bit integer."""


class ProviderMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The description of the provider in its claims.

    Attributes:
        contract_id: Contract that the provider serves. Hosts of 0.x need it; those of 1.x ignore it, and so their archives
            may have none.
        target_hashes: SHA-256 of each executable in upper-case hexadecimal, by target, `{architecture}-{system}`.
        revision: Revision from 1. If it is absent, 0 or negative, hosts use the time of signing instead.
    """

    name: str | None = None
    contract_id: str | None = field(name="capid", default=None)
    vendor: str
    revision: int | None = field(name="rev", default=None)
    version: str | None = field(name="ver", default=None)
    target_hashes: dict[str, str]


class ArchiveClaims(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The claims of an archive. Times are in whole seconds since 1970.

    Attributes:
        iss: Public key of the account that issued the archive, `A...`.
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
    """Return the folder, under their temporary folder, in which hosts keep the executable. They never write it twice."""
    revision = claims.wascap.revision or 0
    return f"{CACHE_FOLDER}/{claims.sub}/{revision if revision > 0 else claims.iat}"


def cached_name(contract_id: str, link_name: str) -> str:
    """Return the name that hosts give the executable in `cached_folder`."""
    return f"{_normal(contract_id)}_{_normal(link_name)}"


def _normal(text: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in text.lower())
