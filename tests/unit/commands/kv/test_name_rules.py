"""Valid names of buckets and keys, and valid patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.commands.errors import InvalidNameError
from provider.commands.kv.name_rules import actor_key, check_bucket, check_key, check_pattern
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, encode_key
from provider.keyvalue.watch.patterns import matches

PART = st.text("ab-/_=", min_size=1, max_size=3)
KEY = st.lists(PART, min_size=1, max_size=4).map(".".join)
PATTERN = st.builds(
    lambda parts, last: ".".join([*parts, *last]),
    st.lists(PART | st.just("*"), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)


@pytest.mark.parametrize("key", ["k", "a.b.c", "A-1/b_c=d", "=20", "Key1", "x" * MAX_BUCKET_KEY_BYTES])
def test_keys_of_nats_kv_are_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    ["", ".", "a.", ".a", "a..b", "a b", "a*", "*", ">", "é", "k\n", RESERVED_KEY, "x" * (MAX_BUCKET_KEY_BYTES + 1)],
)
def test_other_texts_are_not_keys(key: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_key(key)
    assert (caught.value.what, caught.value.name) == ("key", key)


def test_the_error_for_an_actors_key_shows_its_stored_form() -> None:
    with pytest.raises(InvalidNameError, match=re.escape("is stored as =_user=3A1")):
        check_key("user:1")


@given(st.text(min_size=1, max_size=20))
def test_the_stored_form_of_an_actors_key_is_a_key_and_is_shown_in_the_actors_form(key: str) -> None:
    stored = encode_key(key)
    assert check_key(stored) == stored
    assert (actor_key(stored) or stored) == key


@pytest.mark.parametrize("name", ["", "a.b", "a b", "b\n", "x" * 201])
def test_buckets_have_letters_digits_underscores_and_hyphens(name: str) -> None:
    assert check_bucket("My_bucket-1") == "My_bucket-1"
    with pytest.raises(InvalidNameError):
        check_bucket(name)


@pytest.mark.parametrize("pattern", ["", ">.a", "a.>b", "a.b*", "a..>", "a b.>"])
def test_a_wildcard_is_a_whole_part_and_the_long_one_the_last(pattern: str) -> None:
    with pytest.raises(InvalidNameError):
        check_pattern(pattern)


@given(PATTERN, KEY)
def test_a_pattern_matches_the_same_keys_as_its_regular_expression(pattern: str, key: str) -> None:
    assert matches(pattern, key) == bool(re.fullmatch(_expression(pattern), key))


def _expression(pattern: str) -> str:
    parts = {"*": "[^.]+", ">": ".+"}
    return r"\.".join(parts.get(part, re.escape(part)) for part in check_pattern(pattern).split("."))


@given(KEY)
def test_every_key_is_a_pattern_of_itself_and_of_everything(key: str) -> None:
    assert matches(check_pattern(key), key)
    assert matches(">", key)
