"""The import of nats-py and msgspec without things that they load and nothing here uses: up to a third of a start, and 4 MiB.

nats-py loads its own JetStream client, which is needed by few commands, and of which its core needs three names of headers. It
reads its own version when it is imported, and works without it; for that it loads modules for zip, CSV and e-mail. Its
websockets, which no URL here may ask for, load aiohttp where that is installed. msgspec prefers typing_extensions to `typing`,
which has all that it needs.
"""

from __future__ import annotations

import sys
from enum import StrEnum

_JETSTREAM = "nats.js"
_MISSING = ("importlib.metadata", "aiohttp", "typing_extensions")


class Header(StrEnum):
    """The headers that the core of nats-py knows. Source: `nats.js.api`."""

    STATUS = "Status"
    DESCRIPTION = "Description"
    CONSUMER_STALLED = "Nats-Consumer-Stalled"


def import_nats() -> None:
    """Import nats-py and msgspec, unless they are there already. Who imports `nats.js` later gets the real one."""
    if "nats" in sys.modules:
        return
    missing = [name for name in _MISSING if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail
    module = type(sys)
    sys.modules[_JETSTREAM] = jetstream = module(_JETSTREAM)
    jetstream.api = module(f"{_JETSTREAM}.api")  # type: ignore[attr-defined]
    jetstream.api.Header = Header
    try:
        import msgspec  # noqa: F401  (kept in sys.modules)
        import nats.aio.client
    finally:
        for name in (_JETSTREAM, *missing):
            del sys.modules[name]
    nats.js = jetstream
