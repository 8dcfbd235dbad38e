"""The import of nats-py and msgspec without things that they load and nothing here uses: up to a third of a start, and 3 MiB.

nats-py reads its own version when it is imported, and works without it; for that it loads modules for zip, CSV and e-mail. Its
own JetStream client takes headers apart with a parser of e-mail. Its websockets, which no URL here may ask for, load aiohttp
where that is installed. msgspec prefers typing_extensions to `typing`, which has all that it needs.
"""

from __future__ import annotations

import sys

_PARSER = "email.parser"
_MISSING = ("importlib.metadata", "aiohttp", "typing_extensions")


def complete_nats() -> None:
    """Give nats-py the parser of headers that its own JetStream client needs."""
    from email.parser import BytesParser

    import nats.js.client
    import nats.js.manager

    for module in (nats.js.client, nats.js.manager):
        module.BytesParser = BytesParser  # type: ignore[attr-defined]


def import_nats() -> None:
    """Import nats-py and msgspec, unless they are there already."""
    if not sys.modules.keys().isdisjoint(("nats", _PARSER)):
        return
    missing = [name for name in _MISSING if name not in sys.modules]
    unused = type(sys)(_PARSER)
    unused.BytesParser = None  # type: ignore[attr-defined]
    sys.modules[_PARSER] = unused
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import msgspec  # noqa: F401  (kept in sys.modules)
        import nats.aio.client  # noqa: F401
    finally:
        for name in (_PARSER, *missing):
            del sys.modules[name]
