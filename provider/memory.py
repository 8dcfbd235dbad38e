"""Memory that large payloads have left, returned to the system.

glibc keeps it where a small object that is still in use lies above: up to the size of a whole payload, until the next one.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable


def return_freed() -> None:
    """Return all free memory. It takes some milliseconds after a payload of 60 MB, and nothing with other C libraries."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Load the function when a first large payload has come: most processes have none."""
    try:
        library = importlib.import_module("ctypes").CDLL(None)
    except (ImportError, OSError):
        return None
    found: Callable[[int], int] | None = getattr(library, "malloc_trim", None)
    return found
