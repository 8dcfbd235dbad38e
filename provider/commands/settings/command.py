"""`keyvalue-nats settings`: prints all settings, or explains one."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from provider.commands.errors import ArgumentsError
from provider.commands.printing import print_line, print_object
from provider.commands.settings.setting_table import Setting, settings
from provider.keyvalue.given_values import normal_name
from provider.suggestions import completions, suggestion

EXAMPLES = """\b
Examples:
  keyvalue-nats settings
  keyvalue-nats settings ttl
  keyvalue-nats settings max_in_flight --json
"""

_NAME_WIDTH = 32
"""Columns of the name in the table: the longest name has 27, the others a line of their own beyond it."""

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def _names(beginning: str) -> list[str]:
    """Return the names that begin with a text, for the completion of a shell."""
    return completions(beginning, (one.name for one in settings()), normal_name)


def settings_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a setting, in any letter case, with - or _.", autocompletion=_names
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List the settings of links and of the provider, or explain one."""
    chosen = [_named(name)] if name else list(settings())
    if json:
        for one in chosen:
            print_object(one._asdict() | {"meaning": plain(one.meaning)})
    elif name:
        for line in _explanation(chosen[0]):
            print_line(line)
    else:
        for line in _table(chosen):
            print_line(line)


def _named(name: str) -> Setting:
    """Return the setting of a name or alias.

    Raises:
        ArgumentsError: There is no such setting; the text has the one that resembles it.
    """
    by_name = {normal_name(known): one for one in settings() for known in (one.name, *one.aliases)}
    found = by_name.get(normal_name(name.strip()))
    if found is None:
        names = {known: one.name for known, one in by_name.items()}
        hint = suggestion(normal_name(name.strip()), names, "keyvalue-nats settings lists them")
        raise ArgumentsError(f"there is no setting {name!r}; {hint}")
    return found


def _table(chosen: list[Setting]) -> Iterator[str]:
    """Yield a line for each setting under the heading of its kind; at a terminal the line fits the window."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    kind = ""
    for one in chosen:
        if one.kind != kind:
            if kind:
                yield ""
            kind = one.kind
            yield f"{kind.capitalize()}s:"
        first = plain(one.meaning).partition(". ")[0].rstrip(".")
        default = f" [{one.default}]" if one.default else ""
        line = f"  {one.name:<{_NAME_WIDTH}} {first}{default}"
        yield line if not width or len(line) <= width else line[: width - 1] + "…"


def _explanation(one: Setting) -> Iterator[str]:
    yield f"{one.name}: {one.kind}, {one.place}"
    yield ""
    yield plain(one.meaning)
    yield ""
    for label, text in (("Default", one.default), ("Example", one.example), ("Also called", ", ".join(one.aliases))):
        if text:
            yield f"{label + ':':<13}{text}"


def plain(markdown: str) -> str:
    """Return a description without the marks of Markdown."""
    return _LINK.sub(r"\1", markdown).replace("`", "")
