"""The link values of `keyvalue-nats dev`. A wrong name is refused here; a host passes on every name that it is given."""

from __future__ import annotations

import difflib

import typer

from provider.commands.options import check_text
from provider.keyvalue.link_config import canonical_values
from provider.keyvalue.link_values import LINK_VALUES

_OPTION = "--link-value"


def parse_link_values(given: list[str], backend: str | None) -> dict[str, str]:
    """Return the values by their names, which stay as they were typed.

    Args:
        given: Texts of the form `NAME=VALUE`.
        backend: Value of `BACKEND` that another option gives; `None`: not given.

    Raises:
        typer.BadParameter: A text has another form or an unknown name, or a value is given twice.
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
            raise typer.BadParameter(_unknown(name), param_hint=_OPTION)
        if taken & set(known):
            raise typer.BadParameter(f"{next(iter(known))} is given twice", param_hint=_OPTION)
        taken |= set(known)
        values[name] = value
    return values


def _unknown(name: str) -> str:
    """Return the text for a name that is not in the table, with the nearest one that is."""
    close = difflib.get_close_matches(name.upper().replace("-", "_"), LINK_VALUES, n=1)
    return f"no setting is named {name!r}; " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(LINK_VALUES))}"
    )
