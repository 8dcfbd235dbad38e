"""The operations as Redis has them through the kvredis provider."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from contracts import long_values
from provider import errors
from provider.keyvalue import values
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload, encoding_payload
from provider.keyvalue.tables import CHANGES, READS, READS_OF_MANY

NOW = 5_000
SAMPLES = {
    Kind.TEXT: lambda: Value(Kind.TEXT, "t"),
    Kind.COUNTER: lambda: Value(Kind.COUNTER, 3),
    Kind.LIST: lambda: Value(Kind.LIST, ["a", "b"]),
    Kind.SET: lambda: Value(Kind.SET, {"a": None}),
    Kind.BINARY: lambda: Value(Kind.BINARY, b"\xff"),
}
ALLOWED: dict[kv.Request, set[Kind]] = {
    kv.Get("k"): {Kind.TEXT, Kind.COUNTER},
    kv.Contains("k"): set(Kind),
    kv.ListRange("k", 0, -1): {Kind.LIST},
    kv.SetQuery("k"): {Kind.SET},
    kv.Set("k", "v", 0): set(Kind),
    kv.Del("k"): set(Kind),
    kv.Increment("k", 1): {Kind.COUNTER},
    kv.ListAdd("k", "v"): {Kind.LIST},
    kv.ListDel("k", "v"): {Kind.LIST},
    kv.ListClear("k"): {Kind.LIST},
    kv.SetAdd("k", "v"): {Kind.SET},
    kv.SetDel("k", "v"): {Kind.SET},
    kv.SetClear("k"): {Kind.SET},
}


def perform(request: kv.Request, value: Value | None) -> Any:
    if type(request) in READS:
        return READS[type(request)](request, value)
    return CHANGES[type(request)](request, value, NOW)


def test_the_tables_have_all_fifteen_operations() -> None:
    assert {*READS, *READS_OF_MANY, *CHANGES} >= set(kv.REQUESTS.values())


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("request_", list(ALLOWED), ids=lambda request: type(request).__name__)
def test_a_value_of_another_kind_is_an_error_that_names_key_and_kinds(request_: kv.Request, kind: Kind) -> None:
    value = SAMPLES[kind]()
    if kind in ALLOWED[request_]:
        perform(request_, value)
        return
    with pytest.raises((errors.WrongKindError, errors.NotANumberError), match="'k'"):
        perform(request_, value)
    assert value == SAMPLES[kind]()


elements = st.lists(st.sampled_from("abc"), max_size=8)


@given(elements, st.integers(-12, 12), st.integers(-12, 12))
def test_list_range_is_lrange(list_: list[str], start: int, stop: int) -> None:
    length = len(list_)
    first = max(start + length, 0) if start < 0 else start
    last = stop + length if stop < 0 else min(stop, length - 1)
    expected = [list_[index] for index in range(first, last + 1)] if first <= last else []
    value = Value(Kind.LIST, list_) if list_ else None
    assert values.list_range(kv.ListRange("k", start, stop), value) == expected


@given(st.lists(st.tuples(st.sampled_from(["add", "del"]), st.sampled_from("abc")), max_size=30))
def test_a_list_is_a_list(moves: list[tuple[str, str]]) -> None:
    model: list[str] = []
    value: Value | None = None
    for move, element in moves:
        if move == "add":
            model.append(element)
            value, result, is_change, _ = values.list_add(kv.ListAdd("k", element), value, NOW)
            assert (result, is_change) == (len(model), True)
        else:
            was_there = element in model
            if was_there:
                model.remove(element)
            value, result, is_change, _ = values.list_del(kv.ListDel("k", element), value, NOW)
            assert (result, is_change) == (was_there, was_there)
        assert (value.data if value else []) == model
        assert value is None or value.data


@given(st.lists(st.tuples(st.sampled_from(["add", "del"]), st.sampled_from("abc")), max_size=30))
def test_a_set_is_a_set(moves: list[tuple[str, str]]) -> None:
    model: set[str] = set()
    value: Value | None = None
    for move, member in moves:
        change: Callable[..., values.Change] = values.set_add if move == "add" else values.set_del
        request = kv.SetAdd("k", member) if move == "add" else kv.SetDel("k", member)
        expected = (member not in model) if move == "add" else (member in model)
        model = model | {member} if move == "add" else model - {member}
        value, result, is_change, _ = change(request, value, NOW)
        assert (result, is_change) == (int(expected), expected)
        assert set(value.data if value else ()) == model
        assert value is None or value.data


@given(st.lists(st.lists(st.sampled_from("abcd")), max_size=4))
def test_union_and_intersection_are_pythons(sets: list[list[str]]) -> None:
    keys = [str(number) for number in range(len(sets))]
    stored = [Value(Kind.SET, dict.fromkeys(members)) if members else None for members in sets]
    union = values.set_union(kv.SetUnion(keys), stored)
    intersection = values.set_intersection(kv.SetIntersection(keys), stored)
    assert sorted(union) == sorted(set().union(*sets))
    assert sorted(intersection) == (sorted(set(sets[0]).intersection(*sets)) if sets else [])


@pytest.mark.parametrize("text", ["0", "7", "-7", str(2**31 - 2), str(-(2**31))])
def test_a_decimal_text_increments(text: str) -> None:
    change = values.increment(kv.Increment("k", 1), Value(Kind.TEXT, text, 9_000), NOW)
    assert change.result == int(text) + 1
    assert change.value == Value(Kind.COUNTER, int(text) + 1, 9_000)


@pytest.mark.parametrize("text", ["", "007", "+5", " 5", "5 ", "-0", "1.0", "1e3", "x", "٣", "-", "1_000"])
def test_any_other_text_does_not(text: str) -> None:
    with pytest.raises(errors.NotANumberError):
        values.increment(kv.Increment("k", 1), Value(Kind.TEXT, text), NOW)


@pytest.mark.parametrize(("before", "by"), [(2**31 - 1, 1), (-(2**31), -1), (1, 2**31 - 1)])
def test_an_overflow_is_an_error_with_the_limits(before: int, by: int) -> None:
    with pytest.raises(errors.CounterOverflowError) as error:
        values.increment(kv.Increment("k", by), Value(Kind.COUNTER, before), NOW)
    assert (error.value.total, error.value.minimum, error.value.maximum) == (before + by, -(2**31), 2**31 - 1)


def test_a_huge_decimal_text_overflows() -> None:
    with pytest.raises(errors.CounterOverflowError, match="many digits"):
        values.increment(kv.Increment("k", 1), Value(Kind.TEXT, "9" * 300), NOW)


def test_a_set_gives_or_clears_the_expiry_and_other_changes_keep_it() -> None:
    assert values.set_text(kv.Set("k", "v", 3), None, NOW).value == Value(Kind.TEXT, "v", NOW + 3000)
    assert values.set_text(kv.Set("k", "v", 0), Value(Kind.TEXT, "w", 9_000), NOW).value == Value(Kind.TEXT, "v", 0)
    kept = values.list_add(kv.ListAdd("k", "c"), Value(Kind.LIST, ["a"], 9_000), NOW).value
    assert kept == Value(Kind.LIST, ["a", "c"], 9_000)


def test_a_value_expires_at_its_time_and_not_before() -> None:
    value = Value(Kind.TEXT, "v", 5_000)
    assert [value.is_expired(now) for now in (4_999, 5_000, 5_001)] == [False, True, True]
    assert not Value(Kind.TEXT, "v").is_expired(10**15)


def test_a_missing_value_reads_as_nothing() -> None:
    assert values.get(kv.Get("k"), None) == kv.GetResponse("", False)
    assert values.contains(kv.Contains("k"), None) is False
    assert values.set_query(kv.SetQuery("k"), None) == []
    assert values.delete(kv.Del("k"), None, NOW) == values.Change(None, False, False)
    assert values.increment(kv.Increment("k", -2), None, NOW).result == -2


@given(
    st.lists(st.text(max_size=4), min_size=1, max_size=30), st.integers(1, 9), st.sampled_from([Kind.LIST, Kind.SET])
)
def test_a_large_value_is_encoded_in_steps_as_it_is_at_once(elements: list[str], size: int, kind: Kind) -> None:
    value = Value(kind, elements if kind is Kind.LIST else dict.fromkeys(elements))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_values, "SLICE_BYTES", size)
        results: list[Any] = []

        def work() -> Generator[None, None, None]:
            results.append((yield from encoding_payload(value)))

        for _ in work():
            pass
    assert bytes(results[0]) == encode_payload(value)
