"""The start of a development lattice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from provider.commands.dev_lattice import start
from provider.commands.dev_lattice.start import LatticeSettings, running


async def test_an_interrupt_that_the_start_swallows_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun = asyncio.Event()

    async def swallowing(*_: object) -> object:
        has_begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return object()

    monkeypatch.setattr(start, "_started", swallowing)

    async def run() -> None:
        async with running(LatticeSettings()):
            pytest.fail("the lattice runs")

    task = asyncio.create_task(run())
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
