"""Numbers as short texts. Pure."""

from __future__ import annotations

import itertools

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def rate(value: float) -> str:
    """Return a rate per second with as many digits as tell something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def latency(seconds: float | None) -> str:
    """Return a latency in milliseconds; "-" for none."""
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    digits = 0 if milliseconds >= 10 else 1 if milliseconds >= 1 else 2
    return f"{milliseconds:.{digits}f} ms"


def size(value: int) -> str:
    """Return a size in the largest unit of which there is one, in powers of 1024."""
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    rest = int(seconds)
    if rest < 60:
        return f"{rest}s"
    for (large, seconds_of_large), (small, seconds_of_small) in itertools.pairwise(_UNITS):
        if rest >= seconds_of_large:
            return f"{rest // seconds_of_large}{large}{rest % seconds_of_large // seconds_of_small:02}{small}"
    return f"{rest}s"


def share(value: int, limit: int) -> str:
    """Return a part of a limit in percent; "" without a limit."""
    return f"{100 * value / limit:.0f} %" if limit else ""
