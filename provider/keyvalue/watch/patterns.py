"""Patterns of bucket keys, as in subjects: `*` stands for one word between dots, `>` at the end for one or more. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest


def matches(pattern: str, bucket_key: str) -> bool:
    """Tell whether a bucket key, which has no wildcards, is one that a pattern stands for."""
    for word, part in zip_longest(pattern.split("."), bucket_key.split(".")):
        if word == ">":
            return part is not None
        if word != part and (word != "*" or part is None):
            return False
    return True


def disjoint(patterns: Iterable[str]) -> list[str]:
    """Return patterns that stand for all that the given ones do, no two of them for the same key.

    A consumer takes no others (nats-server error 10138). What overlaps becomes one pattern, which may stand for more.
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
    """Tell whether some key is one that both stand for."""
    for word, other_word in zip_longest(one.split("."), other.split(".")):
        if word is None or other_word is None:
            return False
        if ">" in (word, other_word):
            return True
        if word != other_word and "*" not in (word, other_word):
            return False
    return True


def _common(one: str, other: str) -> str:
    """Return the narrowest pattern that stands for all that two overlapping ones do."""
    words: list[str] = []
    for word, other_word in zip_longest(one.split("."), other.split(".")):
        if ">" in (word, other_word):
            return ".".join([*words, ">"])
        words.append(word if word == other_word else "*")
    return ".".join(words)
