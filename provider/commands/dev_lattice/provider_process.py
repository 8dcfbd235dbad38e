"""The provider as a child process: its one line of host data, its log, its end. Knows nothing about NATS.

The process starts as under a Rust host (cleared environment, standard input closed after the line), because that is the
stricter of the two host families.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

import contracts
from contracts.host import HostData, encode_host_data
from provider.commands.dev_lattice.nats_server import die_with_parent
from provider.commands.errors import ProviderExitError

READY_TIMEOUT_SECONDS = 15.0
"""A start takes about half a second; a loaded machine with several instances takes many times that."""

_EVENTS_KEPT = 1000
"""Enough for everything but invocations that a provider logs between its start and the event that a caller awaits."""

_FREQUENT_EVENTS = frozenset({"invocation_served", "invocation_failed", "invocation_denied", "invocation_refused"})
"""One per invocation: they would push the events of the start out of the buffer."""

_EVENTS_SHOWN = 5
"""Lines of the log in an error: the reason for an exit is one of the last."""


class LogEvent(msgspec.Struct, frozen=True):
    """One line of the provider's log. A line that is not an event has the name "" and its text in the fields."""

    name: str
    level: str
    fields: dict[str, Any]


def parse_log_line(line: bytes) -> LogEvent:
    try:
        fields = json.loads(line)
        return LogEvent(fields.pop("event"), fields.pop("level"), fields)
    except (ValueError, KeyError, AttributeError):
        return LogEvent("", "info", {"text": line.decode(errors="replace").rstrip()})


class ProviderProcess:
    """One provider process and its log on standard error. An async context manager."""

    def __init__(self, host_data: HostData, on_event: Callable[[LogEvent], None] = lambda _: None) -> None:
        self._host_data = host_data
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.events: deque[LogEvent] = deque(maxlen=_EVENTS_KEPT)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start the process and write the host data to it. The provider is not ready yet on return."""
        self._process = await asyncio.create_subprocess_exec(
            *provider_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdin is not None
        self._reader = asyncio.ensure_future(self._read_log(self._process))
        self._process.stdin.write(encode_host_data(self._host_data))
        await self._process.stdin.drain()
        self._process.stdin.close()

    async def wait_for(self, *names: str, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> LogEvent:
        """Return the first event with one of the names, including events that were logged before the call.

        Raises:
            ProviderExitError: The process ended first, or the time is up. The text shows the end of the log.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    for event in self.events:
                        if event.name in names:
                            return event
                    if self._process is None or self._process.returncode is not None:
                        raise ProviderExitError(f"the provider ended before {' or '.join(names)}{self._end_of_log()}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log = self._end_of_log()
            raise ProviderExitError(
                f"no {' or '.join(names)} from the provider within {timeout_seconds:g} s{log}"
            ) from None

    async def kill(self) -> None:
        """End the process with SIGKILL, as a crash would, and discard its events."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.wait()
        self.events.clear()

    def terminate(self) -> None:
        """Ask the process to stop, with SIGTERM."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit code."""
        assert self._process is not None, "not started"
        code = await self._process.wait()
        if self._reader is not None:
            await self._reader
        return code

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            event = parse_log_line(line)
            if event.name not in _FREQUENT_EVENTS:
                self.events.append(event)
                self._changed.set()
            self._on_event(event)
        await process.wait()
        self._changed.set()  # wakes `wait_for`, which then finds the exit code

    def _end_of_log(self) -> str:
        lines = [f"\n  {event.name} {event.fields}" for event in list(self.events)[-_EVENTS_SHOWN:]]
        return ":" + "".join(lines) if lines else ""


def provider_command() -> tuple[str, ...]:
    """Return the command that starts the provider: this Python, or the archive's executable this code runs from."""
    return (sys.executable,) if getattr(sys, "frozen", False) else (sys.executable, "-m", "provider")


def _environment() -> dict[str, str]:
    """Return the environment of a Rust host's child, plus the path of this project's packages."""
    packages = str(Path(contracts.__file__).resolve().parent.parent)
    return {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": "", "PYTHONPATH": packages}
