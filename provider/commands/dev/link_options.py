"""The link values of `keyvalue-nats dev`. A wrong name is refused here; a host passes on every name that it is given."""

from __future__ import annotations

import typer

from provider.commands.options import check_text
from provider.keyvalue.given_values import canonical_values, unknown_reason, wrong_forms
from provider.keyvalue.link_values import LINK_VALUES

_OPTION = "--link-value"


def link_value_names(beginning: str) -> list[str]:
    """Return `NAME=` for each name that begins with a text, for the completion of a shell."""
    return [f"{beginning}{name[len(beginning) :]}=" for name in LINK_VALUES if name.startswith(beginning.upper())]


def parse_link_values(pairs: list[str], backend: str | None) -> dict[str, str]:
    """Return the values by their names, which stay as they were typed.

    Args:
        pairs: Texts of the form `NAME=VALUE`.
        backend: Value of `BACKEND` that another option gives; `None`: not given.

    Raises:
        typer.BadParameter: A text has another form or an unknown name, or a value is given twice.
    """
    values: dict[str, str] = {} if backend is None else {"BACKEND": backend}
    taken = set(values)
    for pair in pairs:
        check_text(pair, _OPTION)
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint=_OPTION)
        given = canonical_values({name: value or "-"})
        if given.remarks:
            (remark,) = given.remarks
            is_known = remark.setting in LINK_VALUES
            raise typer.BadParameter(str(remark) if is_known else _unknown(name), param_hint=_OPTION)
        known = given.known
        if taken & set(known):
            raise typer.BadParameter(f"{next(iter(known))} is given twice", param_hint=_OPTION)
        for name_at_fault, reason in wrong_forms(known if value else {}).items():
            raise typer.BadParameter(f"{name_at_fault}: {reason}", param_hint=_OPTION)
        taken |= set(known)
        values[name] = value
    return values


def _unknown(name: str) -> str:
    return f"{name!r}: {unknown_reason(name, otherwise='there are ' + ', '.join(sorted(LINK_VALUES)))}"
