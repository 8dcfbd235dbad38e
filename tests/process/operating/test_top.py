"""`top` shows the instances of a lattice live on a terminal, and as plain lines in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
import time

from tests.blackbox.host_families import RUST
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.process.conftest import Hosts
from tests.process.operating.exporter_process import COMMAND, SECONDS, environment, run


class Screen:
    """A command on a pseudo-terminal of 120 columns and 40 lines."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._slave = slave
        self.before = termios.tcgetattr(slave)
        self.text = ""
        variables = environment() | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        self.process = subprocess.Popen([COMMAND, *arguments], env=variables, stdin=slave, stdout=slave, stderr=slave)

    def press(self, keys: str) -> None:
        self.text = ""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text has been shown since the last key."""
        os.set_blocking(self._master, False)
        deadline = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                self.text += os.read(self._master, 65536).decode(errors="replace")
            if text in self.text:
                return
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)

    def end(self) -> int:
        """Return the exit code; the terminal must be as it was."""
        while self.process.poll() is None:  # it cannot end before its last picture has been read
            self.wait_for("")
        code = self.process.returncode
        assert termios.tcgetattr(self._slave) == self.before
        for descriptor in (self._master, self._slave):
            os.close(descriptor)
        return code


def look(url: str, lattice: str, actor: str) -> None:
    """Look at the lattice, at one link, and leave by a key; then again, and leave by a signal."""
    screen = Screen("top", "--nats", url, "--lattice", lattice, "--interval", "0.2s", "--wait", "0.3s")
    screen.wait_for("1 instance")
    screen.wait_for("bucket ")
    screen.press("s")
    screen.wait_for("by errors")
    screen.press("\r")
    screen.wait_for(actor)
    screen.wait_for("KeyValue.Get")
    screen.press("\x1b")
    screen.wait_for("Stores (1)")
    screen.press("q")
    assert screen.end() == 0
    screen = Screen("top", "--nats", url, "--lattice", lattice)
    screen.wait_for("1 instance")
    screen.process.terminate()
    assert screen.end() == 0


async def test_it_shows_a_lattice_on_a_terminal_and_in_a_pipe(nats_server: NatsServer, hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "secret-key", "secret-value")
    await host.get(actor, "secret-key")
    lattice, common = host.who.lattice, ("--nats", nats_server.url, "--wait", "0.3s")
    _, piped, nowhere, away = await asyncio.gather(
        asyncio.to_thread(look, nats_server.url, lattice, actor),
        asyncio.to_thread(run, "top", *common, "--lattice", lattice, "--count", "2", "--interval", "0.1s"),
        asyncio.to_thread(run, "top", *common, "--lattice", "none", "--count", "1"),
        asyncio.to_thread(run, "top", "--nats", f"nats://127.0.0.1:{free_port()}", "--timeout", "1s"),
    )
    assert (piped.returncode, piped.stderr) == (0, "")
    kinds = [line.split()[1] for line in piped.stdout.splitlines()]
    assert kinds == ["instance", "link", "bucket"] * 2
    assert f"id={host.who.instance_id} lattice={lattice} healthy=yes" in piped.stdout
    assert f"actor={actor}" in piped.stdout
    assert "secret" not in piped.stdout
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert "no provider instance has answered" in nowhere.stderr
    assert away.returncode == 1
    assert "cannot connect to NATS" in away.stderr
