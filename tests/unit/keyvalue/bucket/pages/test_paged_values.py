"""Paged values against plain ones: any batches of changes, with pages of any size, have the results of a plain value."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from contracts.operations import encode_response
from provider import errors
from provider.keyvalue import values
from provider.keyvalue.bucket.pages.paged_reads import (
    MemberReader,
    Members,
    RangeReader,
    collected,
    get_response,
    intersection_of,
    text_of,
    union_of,
)
from provider.keyvalue.bucket.pages.paged_value import PAUSE, Head
from provider.keyvalue.bucket.pages.settling import PageSizes
from provider.keyvalue.bucket.pages.tree_edits import separator
from provider.keyvalue.bucket.pages.tree_reads import members_found
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.values import Answer
from tests.unit.keyvalue.bucket.pages.paged_store import KEY, PagedKey, answer, changed, run, texts

pytestmark = pytest.mark.unit

TEXTS = st.one_of(st.text("ab", max_size=3), st.text(max_size=4), st.text("a", min_size=10, max_size=60))
SIZES = st.builds(
    PageSizes,
    page=st.integers(1, 200),
    piece=st.integers(1, 40),
    inline=st.sampled_from([2, 20, 100, 400]),
    buffer=st.sampled_from([0, 250, 400, 1000]),
    merged=st.integers(1, 9),
)


def sets_of(draw_text: st.SearchStrategy[str]) -> st.SearchStrategy[kv.SingleKeyRequest]:
    return st.one_of(
        st.builds(kv.SetAdd, st.just(KEY), draw_text),
        st.builds(kv.SetAdd, st.just(KEY), draw_text),
        st.builds(kv.SetDel, st.just(KEY), draw_text),
    )


SET_BATCHES = st.lists(st.lists(sets_of(TEXTS), min_size=1, max_size=12), max_size=12)
LIST_BATCHES = st.lists(
    st.one_of(
        st.lists(st.builds(kv.ListAdd, st.just(KEY), TEXTS), min_size=1, max_size=12),
        st.tuples(st.builds(kv.ListDel, st.just(KEY), TEXTS)),
    ),
    max_size=20,
)
MIXED_BATCHES = st.lists(
    st.one_of(
        st.lists(
            st.one_of(
                sets_of(TEXTS),
                st.builds(kv.ListAdd, st.just(KEY), TEXTS),
                st.builds(kv.Set, st.just(KEY), st.text(max_size=60), st.just(0)),
                st.sampled_from([kv.Del(KEY), kv.ListClear(KEY), kv.SetClear(KEY)]),
                st.builds(kv.Increment, st.just(KEY), st.just(1)),
            ),
            min_size=1,
            max_size=6,
        ),
        st.tuples(st.builds(kv.ListDel, st.just(KEY), TEXTS)),
    ),
    max_size=12,
)


def content(key: PagedKey) -> Any:
    """Return the whole value, read as callers read it."""
    if key.value is None or not isinstance(key.value.data, Head):
        return None if key.value is None else key.value.data
    if key.value.kind is Kind.TEXT:
        return run(text_of(key.head, answer()), key.pages)
    if key.value.kind is Kind.LIST:
        return texts(collected(RangeReader(key.head), answer()), key.pages)
    return dict.fromkeys(texts(collected(MemberReader(key.head), answer()), key.pages))


def compare(batches: Sequence[Sequence[kv.SingleKeyRequest]], sizes: PageSizes, most_text_bytes: int = 20) -> PagedKey:
    key, plain = PagedKey(sizes, most_text_bytes), None
    for batch in batches:
        expected, plain = changed(batch, plain)
        assert key.change(batch) == expected
        assert content(key) == (None if plain is None else plain.data)
        assert key.is_paged or not key.pages
    return key


@given(SET_BATCHES, SIZES)
def test_a_paged_set_has_the_results_and_the_members_of_a_plain_one(
    batches: list[list[kv.SingleKeyRequest]], sizes: PageSizes
) -> None:
    compare(batches, sizes)


@given(LIST_BATCHES, SIZES)
def test_a_paged_list_has_the_results_and_the_elements_of_a_plain_one(
    batches: list[list[kv.SingleKeyRequest]], sizes: PageSizes
) -> None:
    compare(batches, sizes)


@given(MIXED_BATCHES, SIZES)
def test_a_key_may_change_its_kind_and_its_size_at_any_time(
    batches: list[list[kv.SingleKeyRequest]], sizes: PageSizes
) -> None:
    compare(batches, sizes)


@given(st.text(max_size=300), st.integers(1, 40))
def test_a_paged_text_is_read_as_it_was_written_whatever_its_pieces(text: str, piece: int) -> None:
    key = compare([[kv.Set(KEY, text, 0)]], PageSizes(page=30, piece=piece), most_text_bytes=3)
    assert key.is_paged == (len(text.encode()) > 3)
    if key.is_paged:
        encoded = bytes(encode_response(run(get_response(key.head, answer()), key.pages)))
        assert encoded == encode_response(kv.GetResponse(text, True))


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 65_535, 65_536, 70_000])
def test_the_answer_with_a_text_of_any_size_is_encoded_in_the_shortest_form(size: int) -> None:
    key = PagedKey(PageSizes(piece=1000), 0)
    key.change([kv.Set(KEY, "x" * size, 0)])
    encoded = bytes(encode_response(run(get_response(key.head, answer()), key.pages)))
    assert encoded == encode_response(kv.GetResponse("x" * size, True))


@given(st.lists(TEXTS, min_size=1, max_size=120), SIZES, st.integers(-130, 130), st.integers(-130, 130))
def test_a_range_of_a_paged_list_is_that_of_a_plain_one(
    elements: list[str], sizes: PageSizes, start: int, stop: int
) -> None:
    key = compare([[kv.ListAdd(KEY, element) for element in elements[i::3]] for i in range(3)], sizes)
    if key.is_paged:
        plain = Value(Kind.LIST, content(key))
        expected = values.list_range(kv.ListRange(KEY, start, stop), plain)
        assert texts(collected(RangeReader(key.head, start, stop), answer()), key.pages) == expected


@given(st.lists(st.lists(TEXTS, max_size=60), min_size=1, max_size=4), SIZES)
def test_unions_and_intersections_of_paged_sets_are_those_of_plain_ones(
    sets: list[list[str]], sizes: PageSizes
) -> None:
    keys = [PagedKey(sizes, 20, f"key{number}") for number in range(len(sets))]
    for key, members in zip(keys, sets, strict=True):
        for start in (0, 1):
            key.change([kv.SetAdd(KEY, member) for member in members[start::2]])
    paged = [key.head if key.is_paged else content(key) or {} for key in keys]
    pages = {page_id: page for key in keys for page_id, page in key.pages.items()}
    assert texts(union_of(paged, answer()), pages) == sorted(set().union(*sets))
    assert texts(intersection_of(paged, answer()), pages) == sorted(set(sets[0]).intersection(*sets[1:]))


def test_a_large_set_from_which_most_members_are_deleted_gives_its_pages_back() -> None:
    rng = random.Random(7)
    key = PagedKey(PageSizes(page=512, inline=200, buffer=600), 100)
    members = [f"member:{number:05}" for number in range(3000)]
    rng.shuffle(members)
    for start in range(0, 3000, 200):
        key.change([kv.SetAdd(KEY, member) for member in members[start : start + 200]])
    most = len(key.pages)
    for start in range(0, 2850, 50):
        key.change([kv.SetDel(KEY, member) for member in members[start : start + 50]])
    assert set(content(key)) == set(members[2850:])
    assert len(key.pages) * 10 < most


def test_a_list_that_only_grows_has_full_leaves() -> None:
    key = PagedKey(PageSizes(page=1000, inline=200, buffer=600), 100)
    for start in range(0, 5000, 50):
        key.change([kv.ListAdd(KEY, f"element {number:08}") for number in range(start, start + 50)])
    leaves = [page for page in key.pages.values() if len(page) > 900]
    assert len(leaves) >= 5000 * 17 / 1000 * 0.9


@given(TEXTS, TEXTS)
def test_a_separator_is_the_shortest_prefix_that_is_greater(one: str, other: str) -> None:
    below, above = sorted([one, other])
    if below == above:
        return
    found = separator(below, above)
    assert found == next(above[:n] for n in range(1, len(above) + 1) if above[:n] > below)


def test_a_change_of_a_large_set_reads_and_writes_only_the_pages_on_its_way() -> None:
    key = PagedKey(PageSizes(page=512, inline=200, buffer=0), 100)
    key.change([kv.SetAdd(KEY, f"member:{number:05}") for number in range(5000)])
    before = set(key.pages)
    key.change([kv.SetAdd(KEY, "member:02500+")])
    assert key.head.height >= 3
    assert len(set(key.pages) - before) <= key.head.height + 1


def test_a_range_reads_the_path_and_the_leaves_that_it_spans() -> None:
    key = PagedKey(PageSizes(page=512, inline=200, buffer=600), 100)
    key.change([kv.ListAdd(KEY, f"{number:05}") for number in range(5000)])
    rounds: list[int] = []
    reader = RangeReader(key.head, 2500, 2599)
    assert texts(collected(reader, answer()), key.pages, rounds) == [f"{n:05}" for n in range(2500, 2600)]
    assert sum(rounds) <= key.head.height - 1 + 4


def test_an_answer_over_the_limit_is_an_error_before_anything_is_read() -> None:
    key = PagedKey(PageSizes(page=512, inline=200, buffer=600), 100)
    key.change([kv.SetAdd(KEY, f"member:{number:05}") for number in range(500)])
    rounds: list[int] = []
    with pytest.raises(errors.AnswerTooLargeError, match="over max_answer_bytes: the maximum is 1000"):
        run(collected(MemberReader(key.head), Answer("SetQuery", 1000)), key.pages, rounds)
    assert sum(rounds) <= 4
    assert len(texts(collected(MemberReader(key.head), Answer("SetQuery", 500 * 13)), key.pages)) == 500


def test_a_full_buffer_of_a_set_is_merged_in_parts_so_that_few_pages_are_written_at_once() -> None:
    sizes = PageSizes(page=512, inline=200, buffer=4000, merged=16)
    key = PagedKey(sizes, 100)
    key.change([kv.SetAdd(KEY, f"member:{number:05}") for number in range(0, 30000, 2)])
    others, most = [f"member:{number:05}" for number in random.Random(5).sample(range(1, 30000, 2), 1000)], 0
    for start in range(0, 1000, 8):
        before = set(key.pages)
        key.change([kv.SetAdd(KEY, member) for member in others[start : start + 8]])
        most = max(most, len(set(key.pages) - before))
    assert 16 <= most < 40  # a whole buffer would be 230 leaves


def set_of(members: Sequence[str], name: str) -> PagedKey:
    key = PagedKey(PageSizes(page=512, inline=200, buffer=600), 100, name)
    key.change([kv.SetAdd(KEY, member) for member in members])
    return key


HUGE = tuple(f"member:{number:05}" for number in range(4000))


@given(st.lists(st.sampled_from([*HUGE, "a", "member:02000+", "z"]), max_size=6, unique=True), st.booleans())
def test_an_intersection_reads_no_more_pages_of_a_huge_set_than_a_small_one_needs(
    few: list[str], is_first: bool
) -> None:
    huge, rounds = _huge(HUGE), list[int]()
    sets: list[Members] = [few, huge.head] if is_first else [huge.head, few]
    found = texts(intersection_of(sets, answer()), huge.pages, rounds)
    assert found == sorted(set(few).intersection(HUGE))
    assert sum(rounds) <= huge.head.height * len(few)
    assert len(rounds) <= huge.head.height


@functools.cache
def _huge(members: tuple[str, ...]) -> PagedKey:
    return set_of(members, "huge")


def test_an_intersection_of_two_large_sets_reads_each_leaf_once() -> None:
    one = set_of([f"member:{number:05}" for number in range(3000)], "one")
    other = set_of([f"member:{number:05}" for number in range(1000, 4000)], "other")
    rounds: list[int] = []
    found = texts(intersection_of([one.head, other.head], answer()), one.pages | other.pages, rounds)
    assert found == [f"member:{number:05}" for number in range(1000, 3000)]
    assert sum(rounds) <= (len(one.pages) + len(other.pages)) * 1.2


def test_a_look_up_in_many_leaves_lets_other_calls_go_on() -> None:
    huge = _huge(HUGE)
    look_up = members_found(huge.head, HUGE)
    wanted, pauses = next(look_up), 0
    with contextlib.suppress(StopIteration):
        while True:
            pauses += wanted is PAUSE
            wanted = look_up.send({page_id: huge.pages[page_id] for page_id in wanted.now})
    assert pauses >= len(huge.pages) // 16


def test_a_union_of_a_huge_set_and_a_small_one_is_the_huge_one_page_by_page() -> None:
    huge, rounds = _huge(HUGE), list[int]()
    found = texts(union_of([["a", "member:02000", "z"], huge.head], answer()), huge.pages, rounds)
    assert found == ["a", *HUGE, "z"]
    assert sum(rounds) == len(huge.pages)
