"""The removal of expired items: they take room no longer, and nothing else goes with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contracts import keyvalue as kv
from provider.keyvalue.cache.expiry import remove_expired
from provider.keyvalue.cache.items.item import Item
from provider.keyvalue.cache.replica import Replica
from tests.unit.keyvalue.cache.exchange import (
    change,
    exchange,
    pull,
    replica_of,
    seen,
)


def expiring(number: int) -> tuple[Replica, Callable[[int], None]]:
    """Return a replica, and a function that removes from it the items that have expired by a given time."""
    due: list[tuple[str, Item]] = []
    replica = Replica(f"replica-{number:04}", on_expiry=lambda key, item: due.append((key, item)))

    def expire_all(now_ms: int) -> None:
        for key, item in due.copy():
            remove_expired(replica, key, item, now_ms)

    return replica, expire_all


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (kv.SetAdd("k", "m"), ("set", ["m"], 0)),
        (kv.ListAdd("k", "e"), ("list", ["e"], 0)),
        (kv.Increment("k", 3), ("counter", 3, 0)),
    ],
)
def test_the_expiry_of_a_text_removes_nothing_of_another_kind_that_was_written_concurrently(
    request_: kv.SingleKeyRequest, wanted: Any
) -> None:
    (one, expire_one), (other, expire_other) = expiring(1), expiring(2)
    change(one, kv.Set("k", "5", 2))
    change(other, request_, now_ms=1500)
    exchange(one, other)
    change(one, kv.Set("unrelated", "5", 2))
    for expire_all in (expire_one, expire_other):
        expire_all(10_000)
    exchange(one, other)
    assert seen(one, "k", 10_000) == seen(other, "k", 10_000) == wanted
    assert seen(one, "unrelated", 10_000) is None


def test_the_expiry_of_a_text_takes_what_counts_on_it_and_texts_that_it_superseded() -> None:
    (one, expire_one), (other, expire_other) = expiring(1), expiring(2)
    change(other, kv.Set("k", "1", 0))
    change(one, kv.Set("k", "5", 2), now_ms=1500)
    exchange(one, other)
    change(one, kv.Increment("k", 1), now_ms=1500)
    change(other, kv.Increment("k", 1), now_ms=1500)
    exchange(one, other)
    assert seen(one, "k") == ("counter", 7, 3500)
    expire_one(10_000)
    expire_other(10_000)
    exchange(one, other)
    for replica in (one, other):
        assert seen(replica, "k", 10_000) is None
        assert replica.keys == 0


def test_a_hidden_text_that_has_expired_does_not_take_room_once_the_one_above_it_is_deleted() -> None:
    (one, expire_one), (other, _) = expiring(1), expiring(2)
    change(one, kv.Set("k", "5", 2))
    change(other, kv.Set("k", "later", 0), now_ms=1500)
    pull(one, other)
    expire_one(10_000)
    assert seen(one, "k") == ("text", "later", 0)
    change(other, kv.Del("k"), now_ms=10_000)
    exchange(one, other)
    assert (one.keys, other.keys) == (0, 0)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_counter_whose_text_another_replica_removed_concurrently_ends_when_it_expires(is_late: bool) -> None:
    (one, expire_one), (other, expire_other) = expiring(1), expiring(2)
    change(one, kv.Set("k", "0", 2))
    exchange(one, other)
    change(other, kv.Increment("k", 1), now_ms=2900)
    if is_late:
        expire_one(3001)
    else:
        change(one, kv.Del("k"))
    exchange(one, other)
    assert seen(other, "k") == ("counter", 1, 3000)
    assert (one.keys, other.keys) == (1, 1)
    expire_other(3001)
    exchange(one, other)
    assert (one.keys, other.keys) == (0, 0)
    assert (expire_one(9000), one.keys) == (None, 0)


def test_deleting_an_expired_value_answers_false_and_makes_room() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Set("k", "0", 2))
    exchange(one, other)
    change(other, kv.Increment("k", 1))
    change(one, kv.Del("k"))
    exchange(one, other)
    assert one.keys == 1
    assert change(one, kv.Del("k"), now_ms=10_000) is False
    exchange(one, other)
    assert (one.keys, other.keys) == (0, 0)
