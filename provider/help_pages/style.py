"""The colors of a help page at a terminal."""

from __future__ import annotations

import os
import re
import sys

_BOLD, _CYAN, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[0m"

_HEADING = re.compile(r"([A-Z][a-z]+:)( .*)?")
_ROW = re.compile(r"(  )(\S.*?)(  .*)?")
_LISTS = ("Arguments:", "Commands:", "Environment:", "Operations:", "Options:")
"""The headings above rows that begin with a name."""


def has_colors() -> bool:
    """Tell whether standard output is a terminal that shows colors. Source: no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(page: str) -> str:
    """Return a help page with its headings in bold, and the names of its lists in color."""
    heading, lines = "", []
    for line in page.split("\n"):
        if match := _HEADING.fullmatch(line):
            heading = match[1]
            lines.append(f"{_BOLD}{heading}{_PLAIN}{match[2] or ''}")
        elif heading in _LISTS and line[2:3] != " " and (match := _ROW.fullmatch(line)):
            lines.append(f"{match[1]}{_CYAN}{match[2]}{_PLAIN}{match[3] or ''}")
        else:
            lines.append(line)
    return "\n".join(lines)
