"""A command that a test runs as a child process. Imports nothing of the project."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.blackbox.proc import resident_bytes

EXIT_SECONDS = 10.0
"""Longest time for an orderly end."""


class ChildProcess:
    """A started process.

    Args:
        command: Program and arguments.
        folder: Folder for the file that standard error goes to.
        environment: All variables of the process.
        stdin: Standard input, as for `subprocess.Popen`.
        stdout: Standard output, as for `subprocess.Popen`; `None`: to the same file as standard error.
        working_folder: Folder that the process runs in; `None`: that of the tests.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        stdin: int,
        stdout: int | None = None,
        working_folder: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stderr = folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stderr if stdout is None else stdout,
                stderr=stderr,
                env=dict(environment),
                cwd=working_folder,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; `None` while the process runs."""
        return self._process.poll()

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
