"""The stored help pages: `python -m tests.docs.help_pages` writes them into modules of the program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from provider.commands.app import app

FOLDER = Path(__file__).parents[2] / "provider" / "help_pages"
ROOT: Any = get_command(app)
Context: Any = typer.Context


def commands(words: tuple[str, ...] = (), command: Any = ROOT) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group that a help page lists."""
    yield words
    for name, listed in getattr(command, "commands", {}).items():
        if not listed.hidden:
            yield from commands((*words, name), command.named(name))


def page(words: tuple[str, ...]) -> str:
    """Return the help page of a command for 80 columns, as where the output is no terminal."""
    os.environ["COLUMNS"] = "80"
    context, command = Context(ROOT, info_name="keyvalue-nats", help_option_names=["-h", "--help"]), ROOT
    for word in words:
        command = command.named(word)
        context = Context(command, info_name=word, parent=context)
    return str(command.get_help(context)) + "\n"


def modules() -> dict[Path, str]:
    """Return the texts of the modules."""
    pages = {" ".join(words): page(words) for words in commands()}
    of_kv = {name: text for name, text in pages.items() if name.split()[:1] == ["kv"]}
    others = {name: text for name, text in pages.items() if name not in of_kv}
    return {FOLDER / "pages.py": _module(others), FOLDER / "kv_pages.py": _module(of_kv)}


def _module(pages: dict[str, str]) -> str:
    lines = ['"""Help pages by the words of their commands. Written by `make docs`."""', "", "PAGES = {"]
    for name, text in pages.items():
        escaped = text.replace("\\", "\\\\").replace('"""', '\\"""')
        lines += [f'    "{name}": """\\', f'{escaped}""",']
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    for path, text in modules().items():
        path.write_text(text, encoding="utf-8")
