"""The link values that a command takes. A wrong name is refused here; a host passes on every name that it is given."""

from __future__ import annotations

import typer

from provider.commands.options import check_text
from provider.errors import LinkError
from provider.keyvalue.given_values import canonical_values, unknown_reason, wrong_forms
from provider.keyvalue.link_config import parse_link
from provider.keyvalue.link_values import LINK_VALUES
from provider.nats.settings import ConnectionSettings
from provider.suggestions import completions

_OPTION = "--link-value"

_PLACEHOLDER = ConnectionSettings(servers=("nats://127.0.0.1:4222",))
"""In place of the lattice's connection, which is not open yet."""


def link_value_names(beginning: str) -> list[str]:
    """Return `NAME=` for each name that begins with a text, for the completion of a shell."""
    return completions(beginning, (f"{name}=" for name in LINK_VALUES))


def parse_link_values(pairs: list[str], given: dict[str, str]) -> dict[str, str]:
    """Return the values by their names, which stay as they were typed.

    Args:
        pairs: Texts of the form `NAME=VALUE`.
        given: Values that other options give.

    Raises:
        typer.BadParameter: A text has another form or an unknown name, or a value is given twice.
    """
    values, taken = dict(given), set(given)
    for name_at_fault, reason in wrong_forms(given).items():
        raise typer.BadParameter(f"{name_at_fault}: {reason}", param_hint=f"--{name_at_fault.lower()}")
    for pair in pairs:
        check_text(pair, _OPTION)
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint=_OPTION)
        found = canonical_values({name: value or "-"})
        if found.remarks:
            (remark,) = found.remarks
            is_known = remark.setting in LINK_VALUES
            raise typer.BadParameter(str(remark) if is_known else _unknown(name), param_hint=_OPTION)
        known = found.known
        if taken & set(known):
            raise typer.BadParameter(f"{next(iter(known))} is given twice", param_hint=_OPTION)
        for name_at_fault, reason in wrong_forms(known if value else {}).items():
            raise typer.BadParameter(f"{name_at_fault}: {reason}", param_hint=_OPTION)
        taken |= set(known)
        values[name] = value
    _check_together(values)
    return values


def _check_together(values: dict[str, str]) -> None:
    """Refuse values that exclude one another, and those of the other kind of store, which a host only warns of."""
    known = canonical_values(values).known
    try:
        link = parse_link(known, lattice="dev", link_name="dev", lattice_connection=_PLACEHOLDER, own=known)
    except LinkError as error:
        raise typer.BadParameter(f"{error.setting}: {error.reason}", param_hint=_OPTION) from None
    for name in known:
        if LINK_VALUES[name].backend not in (None, link.backend):
            text = f"{name} has no effect on a {link.backend.value}"
            raise typer.BadParameter(text, param_hint=_OPTION)


def _unknown(name: str) -> str:
    return f"{name!r}: {unknown_reason(name, otherwise='there are ' + ', '.join(sorted(LINK_VALUES)))}"
