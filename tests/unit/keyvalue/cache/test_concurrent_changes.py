"""The outcome of concurrent changes, of each kind of value."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache.messages import Deltas, pack
from tests.unit.keyvalue.cache.exchange import (
    KEYS,
    apply_all,
    attempt,
    change,
    changes,
    exchange,
    replica_of,
    seen,
    state,
    take_unsent,
)


def test_increments_of_both_sides_of_a_cut_add_up() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Set("n", "100", 0))
    exchange(one, other)
    assert [change(one, kv.Increment("n", 1)) for _ in range(5)][-1] == 105
    assert [change(other, kv.Increment("n", 10)) for _ in range(5)][-1] == 150
    exchange(one, other)
    assert seen(one, "n") == seen(other, "n") == ("counter", 155, 0)
    assert change(one, kv.Increment("n", 1)) == 156


def test_a_deletion_takes_the_increments_that_it_saw_and_no_others() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Increment("n", 5))
    exchange(one, other)
    assert change(other, kv.Del("n")) is True
    change(one, kv.Increment("n", 2))
    exchange(one, other)
    assert seen(one, "n") == seen(other, "n") == ("counter", 2, 0)
    assert change(one, kv.Increment("n", 1)) == 3
    exchange(one, other)
    assert seen(other, "n") == ("counter", 3, 0)


def test_increments_that_did_not_see_a_set_do_not_count_on_it() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Increment("n", 5))
    exchange(one, other)
    change(one, kv.Set("n", "100", 0), now_ms=2000)
    change(other, kv.Increment("n", 7))
    exchange(one, other)
    assert seen(one, "n") == seen(other, "n") == ("text", "100", 0)


def test_an_addition_survives_a_deletion_that_did_not_see_it() -> None:
    one, other = replica_of(1), replica_of(2)
    for member in "ab":
        change(one, kv.SetAdd("s", member))
    exchange(one, other)
    assert change(one, kv.SetClear("s")) is True
    assert change(other, kv.SetAdd("s", "a")) == 0
    assert change(other, kv.SetAdd("s", "c")) == 1
    exchange(one, other)
    assert seen(one, "s") == seen(other, "s") == ("set", ["a", "c"], 0)


def test_a_list_has_the_same_order_everywhere_and_loses_what_a_deletion_saw() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.ListAdd("l", "first"))
    exchange(one, other)
    change(one, kv.ListAdd("l", "b"), now_ms=3000)
    change(other, kv.ListAdd("l", "a"), now_ms=2000)
    change(other, kv.ListDel("l", "first"), now_ms=2000)
    exchange(one, other)
    assert seen(one, "l") == seen(other, "l") == ("list", ["a", "b"], 0)


def test_the_last_text_wins_even_by_a_slower_clock_that_has_seen_the_other() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Set("t", "ahead", 0), now_ms=50_000)
    exchange(one, other)
    change(other, kv.Set("t", "after", 0), now_ms=1000)
    exchange(one, other)
    assert seen(one, "t") == seen(other, "t") == ("text", "after", 0)


@given(st.lists(changes, min_size=1, max_size=4), st.lists(changes, min_size=1, max_size=4))
def test_whatever_both_sides_did_to_a_key_ends_the_same(here: list[Any], there: list[Any]) -> None:
    one, other = replica_of(1), replica_of(2)
    for replica, requests in ((one, here), (other, there)):
        for request in requests:
            attempt(lambda: change(replica, request))  # noqa: B023
    exchange(one, other)
    assert state(one) == state(other)
    for replica in (one, other):
        for key in KEYS:
            change(replica, kv.Set(key, "end", 0))
        exchange(one, other)
    assert seen(one, "a") == seen(other, "a") == ("text", "end", 0)


def test_a_clear_of_many_elements_takes_one_event() -> None:
    one, other = replica_of(1), replica_of(2)
    for number in range(2500):
        change(one, kv.ListAdd("l", str(number)))
    apply_all(other, take_unsent(one))
    assert change(one, kv.ListClear("l")) is True
    events = take_unsent(one)
    assert len(events) == 1
    assert len(pack(Deltas(1, [events[0][2]]))) < 100
    apply_all(other, events)
    assert state(one) == state(other) == {}
