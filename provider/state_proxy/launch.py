"""The first step of the connector: it listens, then loads the rest, which takes ten times as long.

Clients that connect meanwhile wait. They have no time limit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping

from provider.state_proxy.socket_file import SocketFile
from provider.state_proxy.variables import NAME, REQUIRED, SOCKET, STOP_SIGNALS

TYPE_CHECKING = False
"""As in `typing`, which takes longer to load than all of the above."""

if TYPE_CHECKING:
    from provider.errors import StartupError


def start(environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal, and return the exit code.

    Signals are held back until the rest is loaded, so that an early one ends the connector like any other.
    """
    for name in REQUIRED:
        if not environment.get(name):
            return _refused(f"{name}: not set")
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with SocketFile(environment[SOCKET]) as socket_file:
            _load()(socket_file, environment)
    except _startup_error() as error:
        return _refused(str(error))
    return 0


def _refused(reason: str) -> int:
    sys.stderr.write(f"{NAME}: {reason}\n")
    return 1


def _startup_error() -> type[StartupError]:
    """Return the class, which is imported only when there is an exception to compare it with."""
    from provider.errors import StartupError

    return StartupError


def _load() -> Callable[[SocketFile, Mapping[str, str]], None]:
    """Import the connector, which has 32 MiB for everything."""
    from provider.nats.light_import import import_nats

    import_nats()
    from provider.state_proxy.run import run

    return run
