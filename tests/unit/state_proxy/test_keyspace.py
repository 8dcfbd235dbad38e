"""Keys keep their names in the bucket, and listings are cut where folders would be."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.state_proxy.names import Folders, Listing, Names

keys = st.text(
    st.one_of(st.sampled_from("=.A3/ é*>\x7f\0"), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20
)
prefixes = st.one_of(st.just(""), st.sampled_from(["cache-actor", "a.b", "a/b", "=", "=4", "a b", "é"]))
legal = re.compile(r"[-/_=a-zA-Z0-9]+(?:\.[-/_=a-zA-Z0-9]+)*")


@pytest.mark.parametrize(
    ("prefix", "key", "bucket_key"),
    [
        ("", "user_123.json", "user_123.json"),
        ("cache-actor", "user_123.json", "cache-actor.user_123.json"),
        ("cache-actor", "sessions/2026/a=b.json", "cache-actor.sessions/2026/a=b.json"),
        ("", "a b", "a=20b"),
        ("", ".hidden", "=2Ehidden"),
        ("p", ".hidden", "p.=2Ehidden"),
    ],
)
def test_a_key_is_stored_under_its_own_name_wherever_a_bucket_allows_it(prefix: str, key: str, bucket_key: str) -> None:
    assert Names(prefix).bucket_key(key) == bucket_key


@given(prefixes, keys)
def test_a_key_comes_back_and_stands_under_its_prefix(prefix: str, key: str) -> None:
    names = Names(prefix)
    bucket_key = names.bucket_key(key)
    assert names.key(bucket_key) == key
    assert legal.fullmatch(bucket_key)
    assert bucket_key.startswith(names.under)
    assert bucket_key != names.under


@given(st.sampled_from(["", "a", "a.b", "b"]), st.sampled_from(["a", "a.b", "b"]), keys)
def test_keys_of_another_prefix_are_no_keys_of_this_one(prefix: str, other: str, key: str) -> None:
    bucket_key = Names(other).bucket_key(key)
    found = Names(prefix).key(bucket_key)
    assert found is None or Names(prefix).bucket_key(found) == bucket_key


def test_no_key_and_keys_too_long_are_refused() -> None:
    with pytest.raises(errors.EmptyKeyError):
        Names("p").bucket_key("")
    with pytest.raises(errors.KeyTooLongError):
        Names("p").bucket_key("k" * 3500)


@given(
    st.lists(st.text("ab/", min_size=1, max_size=6)),
    st.text("ab/", max_size=3),
    st.sampled_from(["", "/", "a", "ab", "//"]),
)
def test_a_listing_has_each_key_once_whole_or_cut(found: list[str], prefix: str, delimiter: str) -> None:
    listing = Listing(prefix, delimiter)
    for key in found:
        listing.add(key)
    below = {key for key in found if key.startswith(prefix)}
    assert listing.keys == {key for key in below if not delimiter or delimiter not in key[len(prefix) :]}
    for cut in listing.prefixes:
        assert cut.startswith(prefix)
        assert cut.endswith(delimiter)
        assert delimiter not in cut[len(prefix) : -len(delimiter)] or len(delimiter) > 1
    covered = listing.keys | {key for key in below if any(key.startswith(cut) for cut in listing.prefixes)}
    assert covered == below
    json.dumps(sorted(listing.keys))


@given(st.lists(st.text("ab/", min_size=1, max_size=6)), st.text("ab/", max_size=4))
def test_a_folder_may_be_there_if_a_key_was_seen_in_it(found: list[str], name: str) -> None:
    folders = Folders()
    for key in found:
        folders.add(key)
    assert folders.may_have(f"{name}/") == any(key.startswith(f"{name}/") for key in found)


def test_of_many_thousand_folders_each_may_be_there_and_hardly_another() -> None:
    folders = Folders()
    for number in range(8_000):
        folders.add(f"{number}/file")
    assert all(folders.may_have(f"{number}/") for number in range(8_000))
    assert sum(folders.may_have(f"absent {number}/") for number in range(1_000)) < 20
