"""A provider as a child process of a host: one line on standard input, files for what it prints, an exit code."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.blackbox.nats_server import freeze
from tests.blackbox.waiting import eventually

EXIT_SECONDS = 10.0


def catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


class ProviderProcess:
    """A started provider.

    Args:
        command: What the host executes.
        folder: Where what it prints is kept.
        environment: All of it.
        line: What the host writes.
        keeps_stdin_open: Whether the host keeps its end of the pipe.
        working_folder: Where the host runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        line: bytes,
        *,
        keeps_stdin_open: bool,
        working_folder: Path,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stderr = folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(environment),
                cwd=working_folder,
            )
        # In a thread: a line with many links is longer than a pipe holds.
        self._writer = threading.Thread(target=self._write, args=(line, keeps_stdin_open), daemon=True)
        self._writer.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; `None` while it runs."""
        return self._process.poll()

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    @property
    def is_stdout_open(self) -> bool:
        """Whether the provider still holds its end: an OTP host takes its closing for the provider's death."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 0)
        return not readable or bool(os.read(self._process.stdout.fileno(), 65536))

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._writer.join(EXIT_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def freeze(self) -> None:
        """Stop its clock; SIGCONT lets it go on."""
        freeze(self.pid)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def exited(self, deadline_seconds: float = EXIT_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        await eventually(lambda: self._process.poll() is not None, "the end of the provider", deadline_seconds)
        return self._process.returncode

    def end(self) -> None:
        """Kill it if it still runs, and let go of its pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._writer.join(EXIT_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.close_stdin()

    def _write(self, line: bytes, keeps_stdin_open: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(line)
            stdin.flush()
        if not keeps_stdin_open:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024
