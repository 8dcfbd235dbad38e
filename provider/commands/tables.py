"""Tables of text: aligned columns, shortened only where a terminal is too narrow."""

from __future__ import annotations

import shutil
import sys

from provider.commands.printing import print_line
from provider.plain_text import printable

_GAP = "  "
"""Between two columns."""

_LEAST_COLUMNS = 12
"""A cell that is shortened to less tells nothing. On a terminal narrower than that, lines are wrapped."""


def print_table(rows: list[list[str]]) -> None:
    """Print rows. At a terminal they fit its width; a pipe gets every cell whole."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in aligned(rows, columns):
        print_line(line)


def aligned(rows: list[list[str]], columns: int | None = None) -> list[str]:
    """Return rows as lines with aligned columns. Lines are never wrapped, and no cell can add one.

    Args:
        rows: The cells.
        columns: Columns of the terminal. The widest cells are shortened until a line fits, each to no less than
            `_LEAST_COLUMNS`. `None`: nothing is shortened, for pipes.
    """
    from rich.cells import cell_len

    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if columns is not None:
        _fit(widths, columns - len(_GAP) * (len(widths) - 1))
    return [_GAP.join(map(_cell, row, widths)).rstrip() for row in rows]


def _fit(widths: list[int], columns: int) -> None:
    """Take from the widest column, until all of them fit or none can be shortened."""
    while sum(widths) > columns and max(widths) > _LEAST_COLUMNS:
        widths[widths.index(max(widths))] -= 1


def _cell(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
