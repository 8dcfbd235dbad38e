"""Rules for link values, since a link definition is not signed: which defaults a link is given, and what it may name. Pure.

Whoever may publish link definitions could otherwise have the operator's credentials sent to a server of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provider import errors
from provider.keyvalue import link_forms as form
from provider.nats.settings import ConnectionSettings

_KINDS = (
    frozenset({"CREDS_FILE"}),
    frozenset({"CLIENT_JWT", "CLIENT_SEED"}),
    frozenset({"NKEY_SEED"}),
    frozenset({"TOKEN"}),
    frozenset({"USER", "PASSWORD"}),
)
"""The ways to prove an identity. A link that uses one of them does not use another one of the defaults."""

_CREDENTIALS = frozenset().union(*_KINDS)
_CLIENT_CERTIFICATE = frozenset({"TLS_CERT_FILE", "TLS_KEY_FILE"})
_AUTHORITIES = ("TLS_CA", "TLS_CA_FILE")
_FILES = ("CREDS_FILE", "TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE")


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """Restrictions of the operator on what links may name.

    Attributes:
        folders: The folders that files of links must be in; `None`: anywhere.
        allows_urls: Whether a link may name servers.
    """

    folders: tuple[str, ...] | None = None
    allows_urls: bool = True

    def check(self, given: Mapping[str, str]) -> None:
        """Check the values that a link itself gives, under their canonical names.

        Raises:
            errors.LinkError: A value is not allowed.
        """
        if "URL" in given and not self.allows_urls:
            raise errors.LinkError("URL", "not allowed in a link, as the operator's link_urls is deny")
        for name in files_named(given) if self.folders is not None else ():
            if not any(_is_within(given[name], folder) for folder in self.folders or ()):
                raise errors.LinkError(name, "not a file in one of the folders that the operator's link_files lists")


def files_named(given: Mapping[str, str]) -> list[str]:
    """Return the names of the values that are paths of files."""
    return [name for name in _FILES if name in given]


def join_values(
    defaults: Mapping[str, str], given: Mapping[str, str], lattice: ConnectionSettings
) -> Mapping[str, str]:
    """Return a link's values over the operator's defaults, both under canonical names.

    The operator's credentials stay away from servers, and from authorities that vouch for servers, of the link's choice.

    Raises:
        errors.LinkError: The link chooses the authority that vouches for a server which gets the operator's credentials.
    """
    is_elsewhere = "URL" in given and not _servers(given) <= (_servers(defaults) or set(lattice.servers))
    unused = (
        set().union(*(kind for kind in _KINDS if not kind & given.keys())) if given.keys() & _CREDENTIALS else set()
    )
    if is_elsewhere:
        unused |= _CREDENTIALS | _CLIENT_CERTIFICATE
    kept = {name: text for name, text in defaults.items() if name not in unused}
    authority = next((name for name in _AUTHORITIES if name in given), "")
    if authority and _lends_credentials(kept, given, lattice):
        raise errors.LinkError(
            authority, "needs credentials in the same link, as those of the provider go to servers that it knows"
        )
    return {**kept, **given}


def _lends_credentials(kept: Mapping[str, str], given: Mapping[str, str], lattice: ConnectionSettings) -> bool:
    """Tell whether a link is given credentials that it does not bring itself."""
    if kept.keys() & _CREDENTIALS - given.keys():
        return True
    if given.keys() & (_CREDENTIALS | {"URL"}):
        return False
    if "URL" in kept:
        return "@" in kept["URL"]
    return lattice.has_credentials


def _servers(values: Mapping[str, str]) -> set[str]:
    """Return the servers of a URL value; without any if there is no valid one."""
    try:
        return set(form.servers(values["URL"])) if "URL" in values else set()
    except ValueError:
        return set()


def _is_within(path: str, folder: str) -> bool:
    """Tell whether a path is below a folder. A path with `..` is not: behind a symbolic link, that is elsewhere."""
    return ".." not in path.split("/") and path.startswith(folder.rstrip("/") + "/")
