"""The colors of a help page at a terminal."""

from __future__ import annotations

import os
import re
from typing import TextIO

RED, PLAIN = "\x1b[31m", "\x1b[0m"
_BOLD, _CYAN = "\x1b[1m", "\x1b[36m"

_HEADING = r"([A-Z][a-z]+:)( .*)?"
_ROW = r"(  )(\S.*?)(  .*)?"
"""Compiled for a page alone: every error at a terminal looks here for its color."""
_LISTS = ("Arguments:", "Commands:", "Environment:", "Operations:", "Options:")
"""The headings above rows that begin with a name."""


def has_colors(stream: TextIO) -> bool:
    """Tell whether an output is a terminal that shows colors. Source: no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(page: str) -> str:
    """Return a help page with its headings in bold, and the names of its lists in color."""
    heading, lines = "", []
    for line in page.split("\n"):
        if match := re.fullmatch(_HEADING, line):
            heading = match[1]
            lines.append(f"{_BOLD}{heading}{PLAIN}{match[2] or ''}")
        elif heading in _LISTS and line[2:3] != " " and (match := re.fullmatch(_ROW, line)):
            lines.append(f"{match[1]}{_CYAN}{match[2]}{PLAIN}{match[3] or ''}")
        else:
            lines.append(line)
    return "\n".join(lines)
