"""The import of nats-py without two things that it loads and nothing here uses. They take a tenth of a start, and 2 MiB.

nats-py reads its own version when it is imported, and works without it; for that it loads modules for zip, CSV and e-mail. Its
own JetStream client takes headers apart with a parser of e-mail.
"""

from __future__ import annotations

import sys

_PARSER, _METADATA = "email.parser", "importlib.metadata"


def import_nats() -> None:
    """Import nats-py, unless it or what it would load is there already."""
    if not sys.modules.keys().isdisjoint(("nats", _PARSER, _METADATA)):
        return
    unused = type(sys)(_PARSER)
    unused.BytesParser = None  # type: ignore[attr-defined]
    sys.modules[_PARSER] = unused
    sys.modules[_METADATA] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import nats.aio.client  # noqa: F401  (kept in sys.modules)
    finally:
        del sys.modules[_METADATA], sys.modules[_PARSER]
