"""Interrupts while a command starts: modules are imported, which takes up to half a second, and an event loop is made."""

from __future__ import annotations

import contextlib
import gc
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Let an interrupt end the process at once, without an exception in the middle of an import.

    Garbage is not collected meanwhile: imports leave none, and the search would take a twentieth of their time.
    """
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_collecting:
            gc.enable()
        signal.signal(signal.SIGINT, interrupted)
