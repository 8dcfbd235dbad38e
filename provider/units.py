"""Durations and sizes: texts that operators write and read. Pure.

There is one grammar for all settings and options. A duration is a number of seconds, or numbers with units one behind the
other: `90`, `90s`, `1h30m`. A size is a number of bytes, or a number with a unit in powers of 1024: `512`, `512K`, `64MiB`.
"""

from __future__ import annotations

import re

from provider.nats.buckets import NANOSECONDS

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

MAX_SECONDS = (2**63 - 1) // NANOSECONDS
"""292 years: nats-server counts nanoseconds in 64 bits with a sign."""

# Patterns are texts: the first use compiles them, so that a provider's start does not pay for those of the commands.
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_PART = rf"({_NUMBER})(ms|[smhdwy])"
_SIZE = r"([0-9]{1,19})(?:\.([0-9]{1,9}))?\s*(?:([KMGT])I?)?B?"


def parse_seconds(text: str) -> float:
    """Return a duration in seconds: `90`, `90s`, `1h30m`, `1.5d`, with units ms s m h d w y.

    Raises:
        ValueError: The text is not a duration; the message gives examples.
    """
    lowered = text.strip().lower()
    if re.fullmatch(_NUMBER, lowered):
        seconds = float(lowered)
    elif lowered and not re.sub(_PART, "", lowered):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, lowered))
    else:
        raise ValueError("expected a duration, as 90, 90s or 1h30m (units ms s m h d w y)")
    if seconds > MAX_SECONDS:
        raise ValueError("expected a duration of less than 292 years")
    return seconds


def parse_whole_seconds(text: str, minimum: int = 0, maximum: int = MAX_SECONDS) -> int:
    """Return a duration in whole seconds.

    Raises:
        ValueError: The text is not a duration, has a fraction of a second, which servers do not count, or is not within
            the limits.
    """
    seconds = parse_seconds(text)
    if seconds != int(seconds):
        raise ValueError("expected whole seconds")
    if seconds < minimum:
        raise ValueError(f"expected at least {format_seconds(minimum)}")
    if seconds > maximum:
        raise ValueError(f"expected at most {maximum} seconds, which is {format_seconds(maximum)}")
    return int(seconds)


def parse_size(text: str, maximum: int) -> int:
    """Return a size in bytes: `512`, `512K`, `1.5MiB`, `1GB`, all in powers of 1024, without the fraction of a byte.

    -1 and 0 mean no limit; the result is -1.

    Raises:
        ValueError: The text is not a size, or over `maximum`; the message gives examples.
    """
    stripped = text.strip().upper()
    if stripped == "-1":
        return -1
    match = re.fullmatch(_SIZE, stripped)
    if match is None:
        raise ValueError("expected a size in bytes, as 4096, 512K or 64MiB (units K M G T)")
    whole, fraction = match[1], match[2] or ""
    size = int(whole + fraction) * _BYTES[match[3] or ""] // 10 ** len(fraction)
    if size > maximum:
        raise ValueError(f"expected at most {maximum} bytes")
    return size or -1


def format_seconds(seconds: float) -> str:
    """Return a duration to the millisecond, in the form that `parse_seconds` reads: `1d2h`, `1m30s`, `250ms`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_bytes(size: int) -> str:
    """Return a size with two to four digits: `12 B`, `1.5 KiB`, `10 MiB`."""
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.1f} {unit}" if unit != "B" and number < 10 else f"{number:.0f} {unit}"
