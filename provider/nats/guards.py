"""Limits for what a server sends besides messages: the rate of its control lines, and the values in its INFO. Pure.

The server behind a link's URL may be of anybody. It must not take the time or the memory of the other links.
"""

from __future__ import annotations

import re
from typing import Any

_WORK_PER_SECOND = 10_000.0
"""Control lines per second after which a connection is ended. A server sends a PING in two minutes, and an INFO when a server
joins its cluster; a tenth of the limit would take a tenth of one core."""

_LIGHT_WORK = 0.1
"""Share of a refused permission or a late message. A stranger may cause refusals at a healthy server, as fast as this
process answers; so many must not end the connection."""

_INFOS_PER_SECOND = 20
"""INFO lines that are read; decoding one costs fifty times as much as another line. The others are left out."""

_REFUSALS_PER_SECOND = 1000
"""Refused permissions that are read: they take a twentieth of a second. A request whose refusal is left out ends by its
deadline."""

_MAX_DISCOVERED = 64
"""Servers that one INFO may name. Trying a whole cluster once takes seconds already at this number."""

_ADDRESS = re.compile(r"(?:[\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):\d{1,5}")
"""The form of an address in INFO."""

_MOST_BYTES = 2**40
"""Largest limit for messages that is taken for a number of bytes."""

_TEXTS = ("nonce", "server_name", "version")


class LineBudget:
    """The control lines that a server may still send in this second."""

    def __init__(self) -> None:
        self._second = 0
        self._work = 0.0
        self._infos = self._refusals = 0

    def spend(self, now: float, *, is_light: bool) -> bool:
        """Note a line; return false if the server sends too many."""
        if int(now) != self._second:
            self._second, self._work = int(now), 0.0
            self._infos = self._refusals = 0
        self._work += _LIGHT_WORK if is_light else 1.0
        return self._work <= _WORK_PER_SECOND

    def allows_info(self) -> bool:
        """Note an INFO; return whether it should be read."""
        self._infos += 1
        return self._infos <= _INFOS_PER_SECOND

    def allows_refusal(self) -> bool:
        """Note a refused permission; return whether it should be read."""
        self._refusals += 1
        return self._refusals <= _REFUSALS_PER_SECOND


def checked_info(info: object) -> dict[str, Any]:
    """Return the INFO of a server without addresses that are not valid.

    Raises:
        TypeError, ValueError: A value is not of the kind that the protocol defines.
    """
    if not isinstance(info, dict):
        raise TypeError("it is not a JSON object")
    for name in _TEXTS:
        if not isinstance(info.get(name, ""), str):
            raise TypeError(f"{name} is not a text")
    limit = info.get("max_payload", 1)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit < _MOST_BYTES:
        raise ValueError("max_payload is not a number of bytes")
    urls = info.get("connect_urls") or []
    if not isinstance(urls, list):
        raise TypeError("connect_urls is not a list")
    info["connect_urls"] = [url for url in urls[:_MAX_DISCOVERED] if isinstance(url, str) and _ADDRESS.fullmatch(url)]
    return info
