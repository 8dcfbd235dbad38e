"""The import of nats-py without things that it loads and nothing here uses. They take up to a third of a start, and 2 MiB.

nats-py reads its own version when it is imported, and works without it; for that it loads modules for zip, CSV and e-mail. Its
own JetStream client takes headers apart with a parser of e-mail. Its websockets, which no URL here may ask for, load aiohttp
where that is installed.
"""

from __future__ import annotations

import sys

_PARSER = "email.parser"
_MISSING = ("importlib.metadata", "aiohttp")


def complete_nats() -> None:
    """Give nats-py the parser of headers that its own JetStream client needs."""
    from email.parser import BytesParser

    import nats.js.client
    import nats.js.manager

    for module in (nats.js.client, nats.js.manager):
        module.BytesParser = BytesParser  # type: ignore[attr-defined]


def import_nats() -> None:
    """Import nats-py, unless it or what it would load is there already."""
    if not sys.modules.keys().isdisjoint(("nats", _PARSER, *_MISSING)):
        return
    unused = type(sys)(_PARSER)
    unused.BytesParser = None  # type: ignore[attr-defined]
    sys.modules[_PARSER] = unused
    for name in _MISSING:
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import nats.aio.client  # noqa: F401  (kept in sys.modules)
    finally:
        for name in (_PARSER, *_MISSING):
            del sys.modules[name]
