"""The programs that `par` runs, and the reason for which one has failed."""

from __future__ import annotations

import subprocess


def failure_of(ended: subprocess.CompletedProcess[str], otherwise: str = "") -> str:
    """Return the last line that a failed program has written to standard error.

    Args:
        ended: The program, whose output was captured.
        otherwise: The result for a program that has written nothing; "": its exit code.
    """
    lines = ended.stderr.strip().splitlines()
    return lines[-1] if lines else otherwise or f"exit code {ended.returncode}"
