"""The word to a person who waits."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest
from rich.console import Console

from provider.commands import output
from provider.commands import patience as module
from provider.commands.patience import patience


@pytest.mark.parametrize(("is_terminal", "printed"), [(True, "still waiting for a; Ctrl-C ends it\n"), (False, "")])
async def test_only_a_person_is_told(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, printed: str) -> None:
    stderr = io.StringIO()
    console = Console(file=stderr, force_terminal=is_terminal, no_color=True, color_system=None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setattr(output, "stderr_console", lambda: console)
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.0)
    async with patience("a"):
        await asyncio.sleep(0.01)
    assert stderr.getvalue() == printed


async def test_an_answer_in_time_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(output, "stderr_console", lambda: Console(file=stderr, force_terminal=True))
    async with patience("a"):
        pass
    await asyncio.sleep(0)
    assert stderr.getvalue() == ""
