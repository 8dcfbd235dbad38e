"""The command `keyvalue-nats`: a host starts it without arguments, an operator types it with some.

Each mode imports only its own modules: a host waits for the first answer, and a sidecar has 32 MiB of memory.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

_STATE_PROXY = "state-proxy"
"""Recognized here, before typer and rich are imported: they would take a third of the sidecar's memory."""

_COMPLETION = "_KEYVALUE_NATS_COMPLETE"
"""The variable with which the completion script of a shell calls the command line, without arguments."""


def main() -> int:
    """Run the mode that the arguments ask for and return the exit code."""
    _fill_descriptors()
    if sys.argv[1:] == [_STATE_PROXY]:
        from provider.state_proxy.launch import start

        return start()
    if len(sys.argv) > 1 or _COMPLETION in os.environ:
        return _run_command()
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("keyvalue-nats is started by a lattice host, which writes to its standard input.\n")
        sys.stderr.write("Try 'keyvalue-nats dev' for a lattice on this machine, or 'keyvalue-nats --help'.\n")
        return 2
    _exit_on_signals()
    gc.disable()  # `host_mode` enables it: amid the imports it would find nothing, and take a twelfth of the start
    from provider.nats.light_import import import_nats

    import_nats()
    from provider.host_mode import run

    return run()


def _has_printed_help() -> bool:
    """Print the help page of a command without the libraries of the command line."""
    *words, last = sys.argv[1:]
    if last not in ("--help", "-h"):
        return False
    from provider.help_pages.stored import print_page

    return print_page(words)


def _run_command() -> int:
    from provider.interrupts import starting

    with starting():
        code = _short_code() if _COMPLETION not in os.environ else None
        if code is not None:
            return code
        from provider.commands.app import main as run_command
    return run_command()


def _short_code() -> int | None:
    """Return the exit code of a command that needs no library of the command line; `None` if it was not carried out."""
    if _has_printed_help():
        return 0
    if sys.argv[1:3] != ["kv", "get"]:
        return None
    from provider.commands.kv.short_read import short_get

    return short_get(sys.argv[3:], os.environ)


def _fill_descriptors() -> None:
    """Open the null device for each closed standard stream: uvloop aborts if one of its sockets gets their number.

    `sys.stdin` stays None, which means no input. Output to the other two is lost.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _exit_on_signals() -> None:
    """Exit with code 0 on a signal before anything is started, and in the first process of a container at all.

    The kernel ignores signals to that process unless it has a handler. The exit is immediate: an exception amid the import of
    an extension module can crash the interpreter.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # for the first, Python's own handler raises KeyboardInterrupt
        signal.signal(number, _exit_at_once)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
