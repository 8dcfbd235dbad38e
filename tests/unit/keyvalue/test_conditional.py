"""Changes that depend on a revision, against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import extensions
from provider import errors
from provider.keyvalue.byte_values import value_of
from provider.keyvalue.conditional import CONDITIONS, Delete, Put, entry_response, seconds_left
from provider.keyvalue.kinds import Kind, Value

NOW = 5_000

values = st.none() | st.one_of(
    st.builds(Value, st.just(Kind.TEXT), st.text()),
    st.builds(Value, st.just(Kind.COUNTER), st.integers(-(2**31), 2**31 - 1)),
    st.builds(Value, st.just(Kind.LIST), st.lists(st.text(), min_size=1)),
    st.builds(Value, st.just(Kind.BINARY), st.binary()),
)
revisions = st.integers(0, 3)


@given(values, st.integers(1, 3), revisions, st.text(), st.integers(0, 100))
def test_a_swap_happens_on_the_revision_that_stands_there_alone(
    value: Value | None, standing: int, wanted: int, text: str, expires: int
) -> None:
    revision = standing if value is not None else 0
    change = CONDITIONS[extensions.CompareAndSwap](
        extensions.CompareAndSwap("k", text, expires, wanted), value, revision, NOW
    )
    assert change.is_change == change.result.success == (wanted == revision)
    if change.is_change:
        assert change.value == Value(Kind.TEXT, text, NOW + expires * 1000 if expires else 0)
    else:
        assert change.value is value
        assert change.result.revision == revision


@given(values, st.integers(1, 3), st.text())
def test_creating_is_swapping_nothing(value: Value | None, standing: int, text: str) -> None:
    revision = standing if value is not None else 0
    created = CONDITIONS[extensions.Create](extensions.Create("k", text, 7), value, revision, NOW)
    assert created == CONDITIONS[extensions.CompareAndSwap](
        extensions.CompareAndSwap("k", text, 7, 0), value, revision, NOW
    )


@given(values, st.integers(1, 3), revisions)
def test_a_deletion_needs_something_of_its_revision(value: Value | None, standing: int, wanted: int) -> None:
    revision = standing if value is not None else 0
    change = CONDITIONS[extensions.CompareAndDelete](extensions.CompareAndDelete("k", wanted), value, revision, NOW)
    assert change.is_change == change.result.success == (value is not None and wanted == revision)
    assert change.value is (None if change.is_change else value)


@given(values, st.integers(1, 3), st.none() | revisions, st.binary(max_size=20), st.booleans())
def test_those_who_are_no_actors_put_bytes_and_delete_whatever_it_is_or_what_they_have_seen(
    value: Value | None, standing: int, wanted: int | None, payload: bytes, keeps_history: bool
) -> None:
    revision = standing if value is not None else 0
    put = CONDITIONS[Put](Put("k", payload, 0, wanted), value, revision, NOW)
    assert put.is_change == (wanted is None or wanted == revision)
    if put.is_change:
        assert put.value == value_of(payload)
    deleted = CONDITIONS[Delete](Delete("k", keeps_history, wanted), value, revision, NOW)
    assert deleted.is_change == (value is not None and (wanted is None or wanted == revision))
    assert deleted.keeps_history == (keeps_history and deleted.is_change)


def test_an_entry_is_shown_with_the_seconds_that_are_left() -> None:
    assert entry_response("k", None, 0, NOW) == extensions.EntryResponse(False, "", "", 0, 0)
    found = entry_response("k", Value(Kind.LIST, ["a"], NOW + 1_101), 7, NOW)
    assert found == extensions.EntryResponse(True, '["a"]', "list", 7, 2)
    with pytest.raises(errors.WrongKindError, match="'k'"):
        entry_response("k", Value(Kind.BINARY, b"\xff"), 7, NOW)


@pytest.mark.parametrize("behind_ms", [0, 1, 50, 99])
def test_a_clock_that_is_behind_by_half_a_round_trip_shows_no_second_more_than_was_given(behind_ms: int) -> None:
    value = Value(Kind.TEXT, "v", NOW + 100_000)
    assert seconds_left(value, 0, NOW - behind_ms) == 100
    assert seconds_left(value, 0, NOW + 800) == 100
