"""A provider that never collects garbage, and on SIGUSR1 tells the objects that only the collector would have freed.

Its argument is a file. Each signal adds a line to the file: the objects, as JSON. The memory of a refused call must be free
at once, so there must be none.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType

from provider.__main__ import main

_OUTPUT = Path(sys.argv.pop())


def _tell(number: int, frame: FrameType | None) -> None:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = sorted(map(_described, gc.garbage))
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    with _OUTPUT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def _described(found: object) -> str:
    if isinstance(found, FrameType):
        return f"frame of {found.f_code.co_qualname}, line {found.f_lineno}"
    if isinstance(found, TracebackType):
        return f"traceback in {found.tb_frame.f_code.co_qualname}"
    return f"{type(found).__module__}.{type(found).__qualname__} {str(found)[:80]}"


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGUSR1, _tell)
    sys.exit(main())
