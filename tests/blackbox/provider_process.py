"""A provider as a child process of a host: one line on standard input, an exit code. Imports nothing of the project."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.blackbox.child_process import EXIT_SECONDS, ChildProcess
from tests.blackbox.proc import freeze
from tests.blackbox.waiting import eventually


class ProviderProcess(ChildProcess):
    """A started provider.

    Args:
        command: Program and arguments that the host executes.
        folder: Folder for the file that standard error goes to.
        environment: All variables of the process.
        line: Line that the host writes.
        keeps_stdin_open: Whether the host keeps its end of the pipe open.
        working_folder: Folder that the host runs in.
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
        super().__init__(
            command,
            folder,
            environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            working_folder=working_folder,
        )
        # In a thread: a line with many links is longer than a pipe holds.
        self._writer = threading.Thread(target=self._write, args=(line, keeps_stdin_open), daemon=True)
        self._writer.start()

    @property
    def is_stdout_open(self) -> bool:
        """True while the provider keeps its standard output open. An OTP host treats its closing as the provider's end."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 0)
        return not readable or bool(os.read(self._process.stdout.fileno(), 65536))

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._writer.join(EXIT_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def freeze(self) -> None:
        """Stop the process. SIGCONT continues it."""
        freeze(self.pid)

    async def exited(self, deadline_seconds: float = EXIT_SECONDS) -> int:
        """Wait for the end of the process and return the exit code."""
        await eventually(lambda: self._process.poll() is not None, "the end of the provider", deadline_seconds)
        return self._process.returncode

    def end(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        super().end()
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
