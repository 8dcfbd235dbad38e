"""A step of the build of the connector's image, run with -OO: compile the modules of its start, without docstrings."""

from __future__ import annotations

from trim import compile_what_loads

STARTED = ("asyncio.unix_events", "encodings.idna", "provider.__main__", "provider.state_proxy.run")

if __name__ == "__main__":
    compile_what_loads(STARTED)
