"""One helper process: started, spoken to without ever blocking, and ended.

It is a bare Python that runs the code of `helper`. Its standard streams are /dev/null, since a host waits for the end of
the provider's pipes, and it inherits no descriptor but its socket. The socket keeps messages apart, so a message is sent
whole or not at all, and its end is the end of either process: a helper does not outlive its provider.
"""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
from typing import Any

import ed25519_zebra

from provider.lattice.signature_processes import helper
from provider.lattice.signature_processes.helper import LARGEST_PACKET_BYTES

_RUN = "import marshal,os,sys;exec(marshal.loads(os.read(int(sys.argv[1]),1<<20)))"
"""The first message to a helper is its program."""

_OPTIONS = ("-I", "-S", "-B")
"""Ignore the environment and site-packages, which would take memory, and write no files beside the standard library."""

_LABEL = "keyvalue-nats-signatures"
"""The last argument, which tells an operator the purpose of the process."""

_INHERITED_VARIABLES = ("LD_LIBRARY_PATH",)
"""The interpreter of a bundled archive finds its libraries by it. Nothing else of the environment is passed on."""


class HelperStartError(Exception):
    """A helper cannot be started, for the reason in the text."""


class HelperProgram:
    """The parts of a helper, read and opened once: an archive's files may be gone when a helper is started again.

    Raises:
        HelperStartError: This Python, or this system, cannot start helpers.
    """

    def __init__(self) -> None:
        self._interpreter = interpreter()
        if not self._interpreter or not sys.platform.startswith("linux"):
            raise HelperStartError("helper processes need Linux and a Python that knows its own path")
        # Of a folder or of a zip archive. Its type is in a module that loads `importlib.resources`, zipfile and others.
        loader: Any = helper.__loader__
        self.code = marshal.dumps(loader.get_code(helper.__name__))
        try:
            self._library = os.open(_library_path(), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HelperStartError(f"the signature library cannot be read: {error.strerror}") from None

    def start(self, end: socket.socket) -> subprocess.Popen[bytes]:
        """Start a process that has this end of a pair of sockets.

        Raises:
            OSError: The system is out of processes or memory, or the interpreter is gone.
        """
        descriptors = (end.fileno(), self._library)
        return subprocess.Popen(
            [self._interpreter, *_OPTIONS, "-c", _RUN, *map(str, descriptors), _LABEL],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=descriptors,
            env={name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            cwd="/",
            # A group of its own: Ctrl-C at a terminal is for the provider, and when the provider dies, the kernel ends
            # a helper even if it was stopped.
            process_group=0,
        )

    def close(self) -> None:
        os.close(self._library)


class HelperProcess:
    """A running helper, and the provider's end of the socket.

    Raises:
        HelperStartError: It cannot be started, for now.
    """

    def __init__(self, program: HelperProgram) -> None:
        self.is_ready = False
        try:
            self.socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise HelperStartError(error.strerror or str(error)) from None
        with end:
            self.socket.setblocking(False)
            try:
                self.socket.send(program.code)
                self._process = program.start(end)
            except OSError as error:
                self.socket.close()
                raise HelperStartError(error.strerror or str(error)) from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, packet: bytes) -> bool:
        """Send a message; return false if the socket does not take it now, or never will."""
        try:
            self.socket.send(packet)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return the next message, b"" at the end of the helper, or None if there is no message yet."""
        try:
            return self.socket.recv(LARGEST_PACKET_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def end(self) -> None:
        """Kill the process, whatever state it is in. `is_reaped` tells when it is gone."""
        self.socket.close()
        self._process.kill()

    def is_reaped(self) -> bool:
        """Collect the exit code of a process that was ended; return false if it has not ended yet."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Wait for the end of a process that was killed; return silently after this time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.returncode = -1  # the system collects it when the provider has ended


def interpreter() -> str:
    """Return the path of the Python that runs this program; "" if it is not known.

    In an archive `sys.executable` is the archive, and the bootstrap has remembered its Python.
    """
    return str(getattr(sys, "frozen_by", sys.executable) or "")


def _library_path() -> str:
    """Return the path of the compiled module that checks signatures in this process."""
    return str(ed25519_zebra.ed25519_zebra.__file__)
