"""`keyvalue-nats dev` and `keyvalue-nats call`, as in two terminals."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")
READY = "Ctrl-C stops it."
DEADLINE_SECONDS = 20.0


class Dev:
    """`keyvalue-nats dev` in another terminal."""

    def __init__(self, process: subprocess.Popen[str], runtime_folder: Path) -> None:
        self.process = process
        self.runtime_folder = runtime_folder
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> str:
        """Return the first line with the text, past or to come."""
        for line in self.lines:
            if text in line:
                return line
        deadline = time.monotonic() + DEADLINE_SECONDS
        with contextlib.suppress(queue.Empty):
            while (line_or_end := self._arrived.get(timeout=max(deadline - time.monotonic(), 0))) is not None:
                self.lines.append(line_or_end)
                if text in line_or_end:
                    return line_or_end
        raise AssertionError(f"{text!r} never came; instead:\n{''.join(self.lines)}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        while (line := self._arrived.get_nowait()) is not None:
            self.lines.append(line)
        return code

    def children(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def child(self, name: str) -> int:
        """Return the process id of the child with this text in its command line."""
        return next(pid for pid in self.children() if name in Path(f"/proc/{pid}/cmdline").read_text())

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.runtime_folder, "call", *arguments)

    def output(self, *arguments: str) -> str:
        done = self.call(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(line)
        self._arrived.put(None)


def environment(runtime_folder: Path) -> dict[str, str]:
    return os.environ | {"XDG_RUNTIME_DIR": str(runtime_folder)}


def run(runtime_folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=environment(runtime_folder), capture_output=True, text=True, timeout=30, check=False
    )


@contextlib.contextmanager
def dev(runtime_folder: Path, *arguments: str) -> Iterator[Dev]:
    with subprocess.Popen(
        [COMMAND, "dev", *arguments],
        env=environment(runtime_folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        started = Dev(process, runtime_folder)
        try:
            started.wait_for(READY)
            yield started
        finally:
            if process.poll() is None:
                started.stop()
