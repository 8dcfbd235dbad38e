"""Durations and sizes as a person types and reads them. Pure."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|[smhdwy])")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])I?)?B?")
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MAX_SECONDS = 2**63 / 1e9
"""A server counts nanoseconds in 64 bits: some 292 years."""


def parse_seconds(text: str) -> float:
    """Return a duration in seconds: `90`, `90s`, `1h30m`, `1.5d`, with units ms s m h d w y.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    lowered = text.strip().lower()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", lowered):
        seconds = float(lowered)
    elif lowered and not _PART.sub("", lowered):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(lowered))
    else:
        raise ValueError("expected a duration, as 90s or 1h30m (units ms s m h d w y)")
    if seconds >= _MAX_SECONDS:
        raise ValueError("expected a duration of less than 292 years")
    return seconds


def parse_whole_seconds(text: str) -> int:
    """Return a duration in whole seconds; 0 where it is none.

    Raises:
        ValueError: It is no duration, or has a part of a second: servers count seconds.
    """
    seconds = parse_seconds(text)
    if seconds != int(seconds):
        raise ValueError("expected whole seconds")
    return int(seconds)


def parse_bytes(text: str) -> int:
    """Return a size in bytes: `512`, `512K`, `1.5MiB`, `1GB`, all in powers of 1024; -1 and 0: no limit, which is -1.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    stripped = text.strip().upper()
    if stripped == "-1":
        return -1
    match = _SIZE.fullmatch(stripped)
    if match is None:
        raise ValueError("expected a size in bytes, as 4096 or 512K (units K M G T)")
    return int(float(match[1]) * _BYTES[match[2] or ""]) or -1


def format_seconds(seconds: float) -> str:
    """Return a duration that `parse_seconds` reads as the same, to the millisecond: `1d2h`, `1m30s`, `250ms`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_bytes(size: int) -> str:
    """Return a size with three digits or so: `12 B`, `1.5 KiB`, `10 MiB`."""
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.1f} {unit}" if unit != "B" and number < 10 else f"{number:.0f} {unit}"
