"""Names of keys in the bucket, listings, and the filter of folders."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.state_proxy.keyspace import FolderFilter, Keyspace, Listing

keys = st.text(
    st.one_of(st.sampled_from("=_.A3/ é*>\x7f\0"), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20
)
prefixes = st.one_of(st.just(""), st.sampled_from(["cache-actor", "a.b", "a/b", "=", "=4", "=_", "=41", "a b", "é"]))
legal = re.compile(r"[-/_=a-zA-Z0-9]+(?:\.[-/_=a-zA-Z0-9]+)*")


@pytest.mark.parametrize(
    ("prefix", "key", "bucket_key"),
    [
        ("", "user_123.json", "user_123.json"),
        ("cache-actor", "user_123.json", "cache-actor.user_123.json"),
        ("cache-actor", "sessions/2026/a=b.json", "cache-actor.sessions/2026/a=b.json"),
        ("cache-actor", "year=2024/month=05/part-0.json", "cache-actor.year=2024/month=05/part-0.json"),
        ("", "a b", "=_a=20b"),
        ("", ".hidden", "=_.hidden"),
        ("p", ".hidden", "p.=_.hidden"),
        ("p", "dir/a b.json", "p.=_dir/a=20b.json"),
    ],
)
def test_a_key_is_stored_under_its_own_name_wherever_a_bucket_allows_it(prefix: str, key: str, bucket_key: str) -> None:
    assert Keyspace(prefix).bucket_key(key) == bucket_key


@given(prefixes, keys)
def test_a_key_is_stored_under_its_prefix_and_decodes_to_itself(prefix: str, key: str) -> None:
    keyspace = Keyspace(prefix)
    bucket_key = keyspace.bucket_key(key)
    assert keyspace.key(bucket_key) == key
    assert legal.fullmatch(bucket_key)
    assert bucket_key.startswith(keyspace.under)
    assert bucket_key != keyspace.under


@given(st.sampled_from(["", "a", "a.b", "b"]), st.sampled_from(["a", "a.b", "b"]), keys)
def test_keys_of_another_prefix_do_not_belong_to_this_one(prefix: str, other: str, key: str) -> None:
    bucket_key = Keyspace(other).bucket_key(key)
    found = Keyspace(prefix).key(bucket_key)
    assert found is None or Keyspace(prefix).bucket_key(found) == bucket_key


def test_empty_keys_and_keys_that_are_too_long_are_refused() -> None:
    with pytest.raises(errors.EmptyKeyError):
        Keyspace("p").bucket_key("")
    with pytest.raises(errors.KeyTooLongError):
        Keyspace("p").bucket_key("k" * 3500)


@given(
    st.lists(st.text("ab/", min_size=1, max_size=6)),
    st.text("ab/", max_size=3),
    st.sampled_from(["/", "a", "ab", "//"]),
)
def test_a_listing_covers_each_key_once_whole_or_cut(found: list[str], prefix: str, delimiter: str) -> None:
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
def test_a_folder_may_exist_if_a_key_in_it_was_seen(found: list[str], name: str) -> None:
    folders = FolderFilter()
    for key in found:
        folders.add(key)
    assert folders.may_have(f"{name}/") == any(key.startswith(f"{name}/") for key in found)


def test_among_thousands_of_folders_the_filter_knows_each_and_is_rarely_wrong_about_others() -> None:
    folders = FolderFilter()
    for number in range(8_000):
        folders.add(f"{number}/file")
    assert all(folders.may_have(f"{number}/") for number in range(8_000))
    assert sum(folders.may_have(f"absent {number}/") for number in range(1_000)) < 20
