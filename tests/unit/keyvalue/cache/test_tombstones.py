"""Deletions are forgotten once all replicas know them, or earlier, and nothing deleted comes back."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache.expiry import remove_expired
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import missing_keys
from tests.unit.keyvalue.cache.exchange import (
    KEYS,
    apply_all,
    attempt,
    change,
    changes,
    countings,
    discard,
    discard_all,
    exchange,
    pull,
    replica_of,
    seen,
    state,
    take_unsent,
)

PAIRS = list(itertools.permutations(range(3), 2))


@given(st.lists(st.tuples(st.integers(0, 1), changes), max_size=25))
def test_a_deleted_key_costs_nothing_once_all_replicas_know(steps: list[tuple[int, kv.SingleKeyRequest]]) -> None:
    replicas = one, other = replica_of(1), replica_of(2)
    for number, request in steps:
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        exchange(one, other)
    for key in KEYS:
        change(one, kv.Del(key))
        change(one, kv.Del(key), now_ms=100_000)
    exchange(one, other)
    for replica in replicas:
        for key in KEYS:
            cell = replica.cells.get(key)
            if cell is not None and cell.text is not None:
                remove_expired(replica, key, cell.text, 100_000)
    exchange(one, other)
    discard(one, other)
    discard(other, one)
    for replica in replicas:
        assert (replica.keys, len(replica.key_tombstones), replica.size_bytes) == (0, 0, 0)
        assert list(replica.all_keys()) == []


def test_a_counter_that_is_set_and_counted_again_and_again_does_not_grow() -> None:
    one, other = replica_of(1), replica_of(2)
    sizes = []
    for _ in range(20):
        change(one, kv.Set("n", "0", 0))
        change(one, kv.Increment("n", 1))
        exchange(one, other)
        change(other, kv.Increment("n", 1))
        exchange(one, other)
        discard(one, other)
        discard(other, one)
        sizes.append(one.size_bytes)
    assert seen(one, "n") == seen(other, "n") == ("counter", 2, 0)
    assert sizes[-1] == sizes[2]


@given(st.lists(st.tuples(st.integers(0, 2), changes), max_size=30), st.integers(0, 30))
def test_a_forgotten_replica_brings_nothing_back(steps: list[tuple[int, kv.SingleKeyRequest]], cut_after: int) -> None:
    one, other, absent = replicas = [replica_of(number) for number in range(3)]
    for place, (number, request) in enumerate(steps):
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        if place < cut_after:
            for here, there in itertools.permutations(replicas, 2):
                pull(here, there)
        else:
            exchange(one, other)
    before = {key: {item.dot for item in cell.items()} for key in KEYS if (cell := absent.cells.get(key)) is not None}
    known_of_absent = one.context.copy()
    for key in KEYS:
        attempt(lambda: change(one, kv.Del(key)))  # noqa: B023
    exchange(one, other)
    discard(one, other)
    discard(other, one)
    discard(absent)
    for here, there in itertools.permutations(replicas, 2):
        pull(here, there)
    for here, there in itertools.permutations(replicas, 2):
        pull(here, there)
    assert state(one) == state(other) == state(absent)
    for key, dots in before.items():
        cell = one.cells.get(key)
        for item in cell.items() if cell is not None else ():
            assert item.dot not in dots or not known_of_absent.has(*item.dot) or not _was_seen(one, key), "came back"


def _was_seen(replica: Replica, key: str) -> bool:
    return seen(replica, key) is None


def test_a_counter_that_is_deleted_and_counted_again_and_again_keeps_one_tally() -> None:
    one, absent = replica_of(1), replica_of(2)
    change(one, kv.Increment("n", 1))
    exchange(one, absent)
    size = one.size_bytes
    for _ in range(50):
        change(one, kv.Del("n"))
        assert change(one, kv.Increment("n", 2)) == 2
        change(one, kv.Set("m", "0", 0))
        assert change(one, kv.Increment("m", 1)) == 1
    assert one.size_bytes < size + 1000
    exchange(one, absent)
    assert seen(absent, "n") == ("counter", 2, 0)
    assert seen(absent, "m") == ("counter", 1, 0)
    assert state(one) == state(absent)


def test_deletions_reach_an_absent_replica_although_their_tombstones_were_discarded() -> None:
    one, absent = replica_of(1), replica_of(2)
    for number in range(30):
        change(one, kv.Set(f"k{number}", "v", 0))
    exchange(one, absent)
    for number in range(20):
        change(one, kv.Del(f"k{number}"))
    discard_all(one)
    assert not one.key_tombstones
    assert missing_keys(one, absent.context) == (list(one.all_keys()), True)
    exchange(one, absent)
    assert state(one) == state(absent)
    assert absent.keys == 10


@given(st.permutations(PAIRS))
def test_increments_on_a_deleted_counter_end_the_same_everywhere_though_only_some_replicas_have_its_tombstone(
    order: list[tuple[int, int]],
) -> None:
    cut_off, remembers, forgets = replicas = [replica_of(number) for number in range(3)]
    change(cut_off, kv.Increment("n", 1))
    for one, other in itertools.permutations(replicas, 2):
        pull(one, other)
    change(remembers, kv.Del("n"))
    exchange(remembers, forgets)
    discard_all(forgets)
    change(cut_off, kv.Increment("n", 5))
    for here, there in (*order, *PAIRS, *PAIRS):
        pull(replicas[here], replicas[there])
    assert {seen(replica, "n") for replica in replicas} <= {None, ("counter", 5, 0)}
    events = [replica.count for replica in replicas]
    for _ in range(2):
        for one, other in itertools.permutations(replicas, 2):
            pull(one, other)
    assert [replica.count for replica in replicas] == events, "replicas answer each other without end"
    assert state(cut_off) == state(remembers) == state(forgets)
    change(cut_off, kv.Increment("n", 2))
    for replica in (remembers, forgets):
        apply_all(replica, [(cut_off.id, cut_off.count, cut_off.unsent[-1])])
    assert state(cut_off) == state(remembers) == state(forgets)


def test_an_increment_that_reaches_a_replica_without_the_tombstone_of_its_counter_ends_the_same_everywhere() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Increment("n", 1))
    apply_all(other, take_unsent(one))
    change(other, kv.Del("n"))
    discard_all(other)
    change(one, kv.Increment("n", 5))
    told = take_unsent(one)
    change(one, kv.Increment("n", 7))
    apply_all(other, told)
    apply_all(one, take_unsent(other))
    apply_all(other, take_unsent(one))
    assert state(one) == state(other)
    assert seen(one, "n") == ("counter", 7, 0)


@given(st.lists(st.tuples(st.integers(0, 2), countings | changes, st.integers(0, 9)), max_size=40))
def test_replicas_that_discard_tombstones_too_early_may_lose_increments_but_agree(
    steps: list[tuple[int, Any, int]],
) -> None:
    replicas = [replica_of(number) for number in range(3)]
    for number, request, what in steps:
        if what < 4:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
        elif what < 7:
            pull(replicas[number], replicas[(number + 1 + what % 2) % 3])
        else:
            discard_all(replicas[number])
    for _ in range(4):
        for one, other in itertools.permutations(replicas, 2):
            pull(one, other)
    assert replicas[0].context == replicas[1].context == replicas[2].context
    assert state(replicas[0]) == state(replicas[1]) == state(replicas[2])


def test_no_revision_is_given_twice_though_the_key_was_forgotten_in_between() -> None:
    one, other = replica_of(1), replica_of(2)
    for number in range(9):
        change(one, kv.Set(f"k{number}", "v", 0))
    exchange(one, other)
    change(one, kv.Set("k", "first", 0))
    exchange(one, other)
    change(other, kv.Set("k", "second", 0))
    given = {other.revision("k")}
    change(other, kv.Del("k"))
    exchange(one, other)
    discard(other, one)
    assert not other.key_tombstones
    for _ in range(20):
        change(other, kv.Set("k", "again", 0))
        assert other.revision("k") > max(given)
        given.add(other.revision("k"))
    for _ in range(20):
        change(other, kv.Del("k"))
        discard(other)
        change(other, kv.Set("k", "again", 0))
        assert max(given) < other.revision("k") < max(given) + 10
        given.add(other.revision("k"))
