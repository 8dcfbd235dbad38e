"""The help page that a pipe gets: `python -m tests.docs.help_page` writes it into a module of the program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from provider.commands.app import app

MODULE = Path(__file__).parents[2] / "provider" / "help_page.py"

_HEAD = '''"""The first help page as a pipe gets it. Written by `make docs`: typer takes four times as long to load as Python itself."""

PAGE = """\\
'''


def module() -> str:
    """Return the text of the module."""
    os.environ["COLUMNS"] = "80"  # as where the output is no terminal
    root: Any = get_command(app)
    root.rich_markup_mode = None
    context: Any = typer.Context(root, info_name="keyvalue-nats", help_option_names=["-h", "--help"])
    return f'{_HEAD}{root.get_help(context)}\n"""\n'


if __name__ == "__main__":
    MODULE.write_text(module(), encoding="utf-8")
