"""Processes that measure, and the JSON objects, one per line, that they exchange with the benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import contracts
from provider.commands.errors import DevError

_PACKAGES = str(Path(contracts.__file__).resolve().parent.parent)
_LINE_LIMIT_BYTES = 1 << 20
"""Longest object, which has the samples of thousands of calls."""


class ChildError(DevError):
    """A measuring process has failed or ended early. Its own error is on standard error."""


class Child:
    """A measuring process, seen from the benchmark."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    async def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def receive(self) -> dict[str, Any]:
        """Return the next object.

        Raises:
            ChildError: The process has ended, or reports a failure.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ChildError(f"{self._name} ended early with code {await self._process.wait()}")
        message: dict[str, Any] = json.loads(line)
        if failed := message.get("failed"):
            raise ChildError(f"{self._name}: {failed}")
        return message


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """Run `python -m tests.bench.MODULE` for the length of the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.bench.{module}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": _PACKAGES},
        limit=_LINE_LIMIT_BYTES,
    )
    try:
        yield Child(" ".join((module, *arguments)), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask_once(module: str, *arguments: str) -> dict[str, Any]:
    """Run a measuring process that writes one object and ends, and return the object."""
    async with child(module, *arguments) as asked:
        return await asked.receive()
