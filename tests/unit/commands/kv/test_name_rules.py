"""Valid names of buckets and keys, and valid patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.commands.errors import InvalidNameError
from provider.commands.kv.name_rules import actor_key, check_bucket, noted_key, stored_key, stored_pattern
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, encode_key
from provider.keyvalue.watch.patterns import matches

PART = st.text("ab-/_=", min_size=1, max_size=3)
KEY = st.lists(PART, min_size=1, max_size=4).map(".".join)
PATTERN = st.builds(
    lambda parts, last: ".".join([*parts, *last]),
    st.lists(PART | st.just("*"), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)


@pytest.mark.parametrize(
    "key", ["k", "a.b.c", "A-1/b_c=d", "=20", "Key1", "=_user=3A1", "=_=41", "x" * MAX_BUCKET_KEY_BYTES]
)
def test_keys_of_nats_kv_are_stored_keys(key: str) -> None:
    assert stored_key(key) == key


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "it is empty"),
        (RESERVED_KEY, "reserved"),
        ("\udcff", "not UTF-8"),
        ("x" * (MAX_BUCKET_KEY_BYTES + 1), "it has 3501 bytes as stored"),
        ("é" * 600, "it has 3602 bytes as stored"),
    ],
)
def test_a_text_that_is_no_key_is_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(InvalidNameError, match=reason) as caught:
        stored_key(key)
    assert (caught.value.what, caught.value.name) == ("key", key)


@pytest.mark.parametrize("key", ["user:1", ".", "a.", ".a", "a..b", "a b", "a*", "*", ">", "é", "k\n"])
def test_any_other_text_is_the_key_of_an_actor(key: str) -> None:
    assert stored_key(key) == encode_key(key) != key


@given(st.text(min_size=1, max_size=20))
def test_the_stored_form_of_an_actors_key_is_a_key_and_is_shown_in_the_actors_form(key: str) -> None:
    stored = encode_key(key)
    assert stored_key(stored) == stored
    assert (actor_key(stored) or stored) == key


def test_a_message_names_a_key_as_stored_and_as_the_actor_wrote_it() -> None:
    assert noted_key("user.1") == "user.1"
    assert noted_key("=_user=3A1") == '=_user=3A1 (actor\'s key: "user:1")'
    assert noted_key("=_=1B=5B2J") == '=_=1B=5B2J (actor\'s key: "\\u001b[2J")'


@pytest.mark.parametrize("name", ["", "a.b", "a b", "b\n", "x" * 201])
def test_buckets_have_letters_digits_underscores_and_hyphens(name: str) -> None:
    assert check_bucket("My_bucket-1") == "My_bucket-1"
    with pytest.raises(InvalidNameError):
        check_bucket(name)


@pytest.mark.parametrize("pattern", ["", ">.a", "a.>b", "a.b*", "a.**", "\udcff"])
def test_a_wildcard_is_a_whole_part_and_the_long_one_the_last(pattern: str) -> None:
    with pytest.raises(InvalidNameError):
        stored_pattern(pattern)


@given(PATTERN, KEY)
def test_a_pattern_matches_the_same_keys_as_its_regular_expression(pattern: str, key: str) -> None:
    assert matches(pattern, key) == bool(re.fullmatch(_expression(pattern), key))


def _expression(pattern: str) -> str:
    parts = {"*": "[^.]+", ">": ".+"}
    return r"\.".join(parts.get(part, re.escape(part)) for part in stored_pattern(pattern).split("."))


@given(KEY)
def test_every_key_is_a_pattern_of_itself_and_of_everything(key: str) -> None:
    assert matches(stored_pattern(key), key)
    assert matches(">", key)


@given(
    st.lists(st.text(min_size=1, max_size=5).filter(lambda part: not set(part) & set(".*>")), min_size=2, max_size=4)
)
def test_a_pattern_of_an_actors_keys_matches_them_as_they_are_stored(parts: list[str]) -> None:
    key = encode_key(".".join(parts))
    assert matches(stored_pattern(".".join(parts)), key) or stored_pattern(".".join(parts)) == ".".join(parts)
    assert matches(stored_pattern(".".join(["*", *parts[1:]])), key)
    assert matches(stored_pattern(f"{parts[0]}.>"), key)
