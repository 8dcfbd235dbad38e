"""The command `keyvalue-nats`: without arguments as a lattice host starts it, with some as a person types it.

Each way imports only what it needs: a host waits for the first answer.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run, and return the exit code."""
    if len(sys.argv) > 1:
        from provider.cli.app import main as run_command

        return run_command()
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("keyvalue-nats is started by a lattice host, which writes to its standard input.\n")
        sys.stderr.write("Try 'keyvalue-nats dev' for a lattice on this machine, or 'keyvalue-nats --help'.\n")
        return 2
    from provider.host_mode import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
