"""Patterns of keys: the keys that they match, and the disjoint patterns made of overlapping ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.watch.patterns import disjoint, matches

KEYS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda words, rest: ".".join([*words, *rest]) or "*",
    st.lists(st.sampled_from("ab*"), max_size=3),
    st.sampled_from([[], [">"]]),
)


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("a", "a", True),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a", False),
        (">", "a.b", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
    ],
)
def test_a_pattern_matches_as_a_subject_with_wildcards_does(pattern: str, key: str, is_match: bool) -> None:
    assert matches(pattern, key) is is_match


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (["a", "b.*"], ["a", "b.*"]),
        (["orders.>", "orders.1"], ["orders.>"]),
        (["user.*", ">"], [">"]),
        (["a.*", "*.b"], ["*.*"]),
        (["a.b", "c.d", "*.>"], ["*.>"]),
        (["a.*", "a.*.x", "a"], ["a.*", "a.*.x", "a"]),
    ],
)
def test_patterns_that_overlap_become_one(patterns: list[str], wanted: list[str]) -> None:
    assert disjoint(patterns) == wanted


@given(st.lists(PATTERNS, min_size=1, max_size=5), KEYS)
def test_disjoint_patterns_match_every_key_of_the_given_ones_and_no_two_match_the_same(
    patterns: list[str], key: str
) -> None:
    hits = [pattern for pattern in disjoint(patterns) if matches(pattern, key)]
    assert len(hits) <= 1
    assert bool(hits) or not any(matches(pattern, key) for pattern in patterns)
