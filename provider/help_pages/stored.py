"""The printing of a stored help page."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from provider.help_pages.style import has_colors, styled

_COLUMNS = 80
"""The width for which the pages are laid out. None is wider, so that a wider terminal shows the same."""


def print_page(words: Sequence[str]) -> bool:
    """Print the help page of a command, unless it is not stored, or the terminal is narrower than it.

    Args:
        words: The words of the command line before `--help`.

    Returns:
        Whether it was printed.
    """
    if words[:1] == ["kv"]:
        from provider.help_pages.kv_pages import PAGES
    else:
        from provider.help_pages.pages import PAGES
    page = PAGES.get(" ".join(words))
    if page is None or _columns() < _COLUMNS:
        return False
    try:
        sys.stdout.write(styled(page) if has_colors(sys.stdout) else page)
        sys.stdout.flush()
    except (OSError, UnicodeEncodeError):  # the command line knows what to do about it
        return False
    return True


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    except OSError:  # a pipe or a file
        return _COLUMNS
