"""How results and events look: Rich on a terminal, plain when piped."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.keyvalue import INTERFACE, GetResponse
from provider.dev.host import LogEvent

_PLAIN_WIDTH = 200
_KEY_WIDTH = 24
_INVOCATION_STYLES = {"invocation_served": "green", "invocation_failed": "red", "invocation_denied": "bold red"}


def stdout_console() -> Console:
    return _console(is_stderr=False)


def stderr_console() -> Console:
    return _console(is_stderr=True)


def _console(*, is_stderr: bool) -> Console:
    """Return a console that never folds a line when its output is piped."""
    is_terminal = (sys.stderr if is_stderr else sys.stdout).isatty()
    return Console(stderr=is_stderr, highlight=False, markup=False, width=None if is_terminal else _PLAIN_WIDTH)


def say(console: Console, text: str | Text, style: str = "") -> None:
    console.print(text, style=style or None, soft_wrap=True)


def plain_result(result: Any) -> list[str]:
    """Return a result as lines for people and pipes; none for a value that does not exist."""
    match result:
        case None:
            return ["ok"]
        case GetResponse():
            return [result.value] if result.exists else []
        case bool():
            return ["true" if result else "false"]
        case list():
            return [str(item) for item in result]
    return [str(result)]


def short_result(result: Any) -> str:
    """Return a result on one line, for a table."""
    match result:
        case None:
            return "(nothing)"
        case GetResponse():
            return repr(result.value) if result.exists else "(no value)"
        case list():
            return "[" + ", ".join(result) + "]"
    return plain_result(result)[0]


def event_line(event: LogEvent, now: datetime) -> Text | None:
    """Return the line that the live view shows for an event; `None` for one that it does not show."""
    fields = event.fields
    if event.name in _INVOCATION_STYLES:
        line = Text(f"{now:%H:%M:%S}  ")
        operation = str(fields.get("operation", "")).removeprefix(f"{INTERFACE}.")
        line.append(f"{operation:<16}", style=_INVOCATION_STYLES[event.name])
        line.append(f"{_key(fields.get('key')):<{_KEY_WIDTH}}  ")
        size = f"{fields.get('result_bytes', 0)} B" if event.name == "invocation_served" else ""
        line.append(f"{size:>9}  ")
        if "microseconds" in fields:
            line.append(f"{fields['microseconds']:>7} µs", style="dim")
        if reason := fields.get("error") or fields.get("reason"):
            line.append(f"  {reason}", style="red")
        return line
    if event.name in ("link_opened", "link_failed") or event.level in ("warning", "error"):
        style = "red" if event.level in ("warning", "error") else "dim"
        shown = "  ".join(f"{name}={value}" for name, value in fields.items() if name not in ("time", "actor_id"))
        return Text(f"{now:%H:%M:%S}  {event.name or 'log':<16}{shown}", style=style)
    return None


def _key(key: Any) -> str:
    text = ", ".join(map(str, key)) if isinstance(key, list) else str(key or "")
    printable = "".join(char if char.isprintable() else "�" for char in text)
    return printable if len(printable) <= _KEY_WIDTH else printable[: _KEY_WIDTH - 1] + "…"


def table(title: str, *columns: str, right: frozenset[str] = frozenset()) -> Table:
    made = Table(title=title, title_justify="left", show_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
