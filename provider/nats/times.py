"""Points in time as a server writes them. Pure."""

from __future__ import annotations

import datetime
import re

TIME_STAMP = b"Nats-Time-Stamp"
"""Header of a direct get's answer: when the message was stored."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$")


def time_ms(text: str) -> int:
    """Convert a server's time, e.g. 2026-01-02T03:04:05.123456789Z, to milliseconds since 1970; 0 if it is not one."""
    match = _TIME.match(text)
    if match is None:
        return 0
    fraction = (match[2] or "0")[:6]
    moment = datetime.datetime.fromisoformat(f"{match[1]}.{fraction:0<6}{match[3].replace('Z', '+00:00')}")
    return int(moment.timestamp() * 1000)
