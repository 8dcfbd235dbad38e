"""The link values that `keyvalue-nats dev` was given. A wrong name is refused here; hosts pass on whatever they are given."""

from __future__ import annotations

import difflib

import typer

from provider.commands.options import check_text
from provider.keyvalue.link_config import canonical_values

_OPTION = "--link-value"

NAMES = (
    *("BACKEND", "BUCKET", "CREATE", "REPLICAS", "STORAGE", "TTL", "EXPIRY_MARKERS", "MAX_BYTES", "MAX_VALUE_SIZE"),
    *("MAX_KEYS", "CONSISTENCY", "KEY_PREFIX", "WATCH", "WATCH_TRIES", "STATE_REPL_SUBJECT", "REPLAY_REQ_SUBJECT"),
    *("REPLAY_HEARTBEAT_SECS", "JOIN_WAIT_SECS", "FORGET_SECS", "URL", "CREDS_FILE", "CLIENT_JWT", "CLIENT_SEED"),
    *("NKEY_SEED", "TOKEN", "USER", "PASSWORD", "TLS_CA", "TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "JS_DOMAIN"),
)
"""What the link parser knows, for what is said of a name that it does not know."""


def parse_link_values(given: list[str], backend: str | None) -> dict[str, str]:
    """Return names, as they were typed, and values.

    Args:
        given: `NAME=VALUE` each.
        backend: What another option says of `BACKEND`; `None`: nothing.

    Raises:
        typer.BadParameter: One is none, has a name that no setting has, or is given twice.
    """
    values: dict[str, str] = {} if backend is None else {"BACKEND": backend}
    taken = set(values)
    for pair in given:
        check_text(pair, _OPTION)
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint=_OPTION)
        known, unknown = canonical_values({name: value or "-"})
        if unknown:
            raise typer.BadParameter(_not_known(name), param_hint=_OPTION)
        if taken & set(known):
            raise typer.BadParameter(f"{next(iter(known))} is given twice", param_hint=_OPTION)
        taken |= set(known)
        values[name] = value
    return values


def _not_known(name: str) -> str:
    close = difflib.get_close_matches(name.upper().replace("-", "_"), NAMES, n=1)
    return f"no setting is named {name!r}; " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(NAMES)}"
    )
