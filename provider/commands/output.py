"""Results and events as text: styled on a terminal, plain when piped."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, structs

from contracts import extensions
from contracts.extensions import HandleChange
from contracts.keyvalue import GetResponse
from contracts.wrpc import OnDelete, OnSet, WrpcCall
from provider.plain_text import printable

if TYPE_CHECKING:  # a command that prints no styled text loads no rich
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from provider.commands.dev_lattice.provider_process import LogEvent

_PLAIN_WIDTH = 200
"""Columns of a table when piped: wide enough for the longest row of the demonstration and the benchmark."""

_KEY_WIDTH = 24
_NAME_WIDTH = 16
"""Columns of the live view: 16 fits every operation name, and a line of 80 columns has 24 left for the key."""

_INVOCATION_STYLES = {
    "invocation_served": "green",
    "invocation_failed": "red",
    "invocation_denied": "bold red",
    "invocation_refused": "bold red",
}
_LEVELS = {"warning": "WARN", "error": "ERROR", "critical": "ERROR"}
_SHOWN_EVENTS = frozenset({"link_opened", "link_failed", "nats_reconnected"})


def stdout_console() -> Console:
    return _console(is_stderr=False)


def stderr_console() -> Console:
    return _console(is_stderr=True)


def _console(*, is_stderr: bool) -> Console:
    """Return a console. It never wraps lines when its output is piped."""
    from rich.console import Console

    is_terminal = (sys.stderr if is_stderr else sys.stdout).isatty()
    return Console(stderr=is_stderr, highlight=False, markup=False, width=None if is_terminal else _PLAIN_WIDTH)


def write_line(console: Console, text: str | Text, style: str = "") -> None:
    """Print a line. Control characters in a plain text are escaped, since an actor may have chosen them."""
    text = printable(text, "\n") if isinstance(text, str) else text
    console.print(text, style=style or None, soft_wrap=True)


def plain_result(result: Any) -> list[str]:
    """Return a result as lines for people and pipes. A value that does not exist has no lines."""
    match result:
        case None:
            return ["ok"]
        case GetResponse():
            return [result.value] if result.exists else []
        case bool():
            return ["true" if result else "false"]
        case list():
            return [item if isinstance(item, str) else _fields(item) for item in result]
        case extensions.ListKeysResponse():
            return result.keys
        case Struct():
            return [_fields(result)]
    return [str(result)]


def _fields(result: Struct) -> str:
    """Return a result with several fields as NAME=VALUE pairs."""
    shown = structs.asdict(result).items()
    return "  ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in shown if value is not UNSET)


def short_result(result: Any) -> str:
    """Return a result as one line, for a table."""
    match result:
        case None:
            return "(nothing)"
        case GetResponse():
            return repr(result.value) if result.exists else "(no value)"
        case list():
            return "[" + ", ".join(result) + "]"
    return plain_result(result)[0]


def event_line(event: LogEvent, now: datetime, *, has_instances: bool = False) -> Text | None:
    """Return the line of the live view for an event, or None if the view does not show the event.

    Args:
        event: The event.
        now: Time of the line.
        has_instances: Whether the line tells which of several provider processes it is from.
    """
    from rich.text import Text

    fields = dict(event.fields)
    instance = fields.pop("instance", 0)
    began = f"{now:%H:%M:%S}  " + (f"#{instance:<2}  " if has_instances else "")
    if event.name in _INVOCATION_STYLES:
        line = Text(began)
        operation = str(fields.get("operation", "")).rpartition(".")[2]
        line.append(_name(operation), style=_INVOCATION_STYLES[event.name])
        line.append(f"{_key(fields.get('key')):<{_KEY_WIDTH}}  ")
        size = f"{fields.get('result_bytes', 0)} B" if event.name == "invocation_served" else ""
        line.append(f"{size:>9}  ")
        if "microseconds" in fields:
            line.append(f"{fields['microseconds']:>7} µs", style="dim")
        if reason := fields.get("error") or fields.get("reason"):
            line.append(f"  {_LEVELS.get(event.level, 'ERROR')}  {printable(str(reason))}", style="red")
        return line
    level = _LEVELS.get(event.level, "")
    if event.name in _SHOWN_EVENTS or level:
        shown = "  ".join(
            f"{name}={printable(str(value))}" for name, value in fields.items() if name not in ("time", "actor_id")
        )
        level = f"{level}  " if level else ""
        return Text(f"{began}{_name(event.name or 'log')}{level}{shown}", style="red" if level else "dim")
    return None


def change_line(change: HandleChange | WrpcCall, now: datetime) -> Text:
    """Return the line of the live view for a change that the actor or component received."""
    from rich.text import Text

    line = Text(f"{now:%H:%M:%S}  ")
    if isinstance(change, OnSet | OnDelete):
        line.append(_name(change.function), style="magenta")
        line.append(f"{_key(change.key):<{_KEY_WIDTH}}")
        if isinstance(change, OnSet):
            line.append(f"  {_key(bytes(change.value).decode(errors='replace'))!r}")
        return line
    assert isinstance(change, HandleChange)
    line.append(_name("HandleChange"), style="magenta")
    line.append(f"{_key(change.key):<{_KEY_WIDTH}}  {change.operation}")
    if change.kind:
        line.append(f" {change.kind} {_key(change.value)!r}")
    line.append(f"  revision {change.revision}", style="dim")
    return line


def _name(name: str) -> str:
    """Return a name as a column, separated from the next one even if the name is too long."""
    return f"{printable(name):<{_NAME_WIDTH}}  "


def _key(key: Any) -> str:
    text = ", ".join(map(str, key)) if isinstance(key, list) else str(key or "")
    printable = "".join(char if char.isprintable() else "�" for char in text)
    return printable if len(printable) <= _KEY_WIDTH else printable[: _KEY_WIDTH - 1] + "…"


def table(title: str, *columns: str, right: frozenset[str] = frozenset()) -> Table:
    from rich.table import Table

    made = Table(title=title, title_justify="left", show_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
