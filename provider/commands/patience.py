"""A word to a person who waits: no command is silent for long."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

_SILENCE_SECONDS = 1.5
"""Time after which a person begins to wonder: two seconds, less the start of the command. An answer takes milliseconds."""


@contextlib.asynccontextmanager
async def patience(waiting_for: str) -> AsyncIterator[None]:
    """Tell a person at a terminal, after a while, what the command is waiting for. Scripts are told nothing.

    Args:
        waiting_for: Text after "still waiting for ".
    """
    if not sys.stderr.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    timer = loop.call_later(_SILENCE_SECONDS, _say, f"still waiting for {waiting_for}; Ctrl-C ends it")
    try:
        yield
    finally:
        timer.cancel()


def _say(text: str) -> None:
    from provider.commands.output import stderr_console, write_line

    write_line(stderr_console(), text, "dim")
