"""Patterns of bucket keys, as in subjects: `*` matches one token between dots, `>` at the end one or more. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest


def matches(pattern: str, bucket_key: str) -> bool:
    """Tell whether a pattern matches a bucket key, which has no wildcards."""
    for wanted, token in zip_longest(pattern.split("."), bucket_key.split(".")):
        if wanted == ">":
            return token is not None
        if wanted != token and (wanted != "*" or token is None):
            return False
    return True


def disjoint(patterns: Iterable[str]) -> list[str]:
    """Return patterns of which no two match the same key, and which match every key that the given ones do.

    A consumer takes no others (nats-server error 10138). Overlapping patterns become one, which may match more keys.
    """
    kept: list[str] = []
    for pattern in patterns:
        wide = pattern
        while (other := next((one for one in kept if _overlap(one, wide)), None)) is not None:
            kept.remove(other)
            wide = _common(other, wide)
        kept.append(wide)
    return kept


def _overlap(one: str, other: str) -> bool:
    """Tell whether there is a key that both match."""
    for token, other_token in zip_longest(one.split("."), other.split(".")):
        if token is None or other_token is None:
            return False
        if ">" in (token, other_token):
            return True
        if token != other_token and "*" not in (token, other_token):
            return False
    return True


def _common(one: str, other: str) -> str:
    """Return the narrowest pattern that matches every key that two overlapping ones do."""
    tokens: list[str] = []
    for token, other_token in zip_longest(one.split("."), other.split(".")):
        if ">" in (token, other_token):
            return ".".join([*tokens, ">"])
        tokens.append(token if token == other_token else "*")
    return ".".join(tokens)
