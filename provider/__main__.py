"""The command `keyvalue-nats`: without arguments as a lattice host starts it, with some as a person types it.

Each way imports only what it needs: a host waits for the first answer, a sidecar has 32 MiB.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_STATE_PROXY = "state-proxy"
"""The sidecar has little memory: typer and rich would be a third of it."""


def main() -> int:
    """Run, and return the exit code."""
    _fill_descriptors()
    if sys.argv[1:] == [_STATE_PROXY]:
        _end_in_order()
        return _run_connector()
    if len(sys.argv) > 1:
        from provider.commands.app import main as run_command

        return run_command()
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("keyvalue-nats is started by a lattice host, which writes to its standard input.\n")
        sys.stderr.write("Try 'keyvalue-nats dev' for a lattice on this machine, or 'keyvalue-nats --help'.\n")
        return 2
    _end_in_order()
    from provider.host_mode import run

    return run()


def _run_connector() -> int:
    """Run the state-proxy connector, which has 32 MiB for everything.

    nats-py asks for its own version when it is imported and can do without: what that loads (zip, CSV and e-mail) would
    take 1.6 MiB for good.
    """
    sys.modules["importlib.metadata"] = None  # type: ignore[assignment]  # Python's way to say: not to be had
    try:
        from provider.state_proxy.run import run
    finally:
        del sys.modules["importlib.metadata"]
    return run()


def _fill_descriptors() -> None:
    """Put something in the place of closed standard streams: uvloop aborts when a socket of its own comes to stand there.

    `sys.stdin` stays `None`, no input; what is written to the others goes nowhere.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _end_in_order() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # Python has a handler of its own for the first
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """End in order before there is anything to stop: the first process of a container ignores signals without a handler."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
