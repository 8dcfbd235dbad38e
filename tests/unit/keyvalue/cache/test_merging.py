"""Replicas converge, whatever is lost, repeated or reordered."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache.causality import MAX_DRIFT_MS, Context, latest_time
from provider.keyvalue.cache.journal import Journals
from provider.keyvalue.cache.messages import Event
from provider.keyvalue.cache.replica import Replica
from tests.unit.keyvalue.cache.exchange import (
    apply_all,
    attempt,
    change,
    changes,
    pull,
    replica_of,
    state,
    take_unsent,
)


@given(st.lists(st.tuples(st.integers(0, 2), changes), max_size=25), st.permutations([0, 1, 2]))
def test_merging_is_commutative_associative_and_idempotent(
    steps: list[tuple[int, kv.SingleKeyRequest]], order: list[int]
) -> None:
    def worlds() -> list[Replica]:
        replicas = [replica_of(number) for number in range(3)]
        for number, request in steps:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
            if request.key == "b" and number == 1:
                pull(replicas[2], replicas[1])
        return replicas

    one = worlds()
    left = replica_of(8)
    for number in (0, 1, 2):
        pull(left, one[number])
    other = worlds()
    right = replica_of(9)
    first, second, third = order
    pull(other[second], other[third])
    pull(right, other[second])
    pull(right, other[first])
    assert state(left) == state(right)
    assert left.context == right.context
    pull(left, one[1])
    pull(left, right)
    assert state(left) == state(right)


@given(st.data())
def test_deltas_in_any_order_lost_and_repeated_then_one_exchange_reach_the_full_merge(data: st.DataObject) -> None:
    replicas = [replica_of(number) for number in range(3)]
    wire: list[tuple[str, int, Event]] = []
    for number, request in data.draw(st.lists(st.tuples(st.integers(0, 2), changes), max_size=25)):
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        wire += take_unsent(replicas[number])
        is_delivered = data.draw(st.booleans())
        if wire and is_delivered:
            apply_all(replicas[(number + 1) % 3], [data.draw(st.sampled_from(wire))])
    whole = replica_of(7)
    for replica in replicas:
        pull(whole, replica)
    for replica in replicas:
        apply_all(replica, data.draw(st.lists(st.sampled_from(wire), max_size=30)) if wire else [])
    for one, other in itertools.permutations(replicas, 2):
        pull(one, other)
    for one, other in itertools.permutations(replicas, 2):
        pull(one, other)
    for replica in replicas:
        assert replica.context == whole.context
        assert state(replica) == state(whole)
        assert replica.size_bytes >= 0


@given(st.lists(st.tuples(st.integers(0, 1), changes), max_size=20), st.randoms(use_true_random=False))
def test_all_deltas_in_any_order_are_enough(steps: list[tuple[int, kv.SingleKeyRequest]], random: Any) -> None:
    replicas = [replica_of(number) for number in range(2)]
    wire: list[tuple[str, int, Event]] = []
    for number, request in steps:
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        wire += take_unsent(replicas[number])
        if random.random() < 0.3:
            apply_all(replicas[1 - number], wire)
    for replica in (*replicas, late := replica_of(5)):
        shuffled = wire * 2
        random.shuffle(shuffled)
        apply_all(replica, shuffled)
    assert state(replicas[0]) == state(replicas[1]) == state(late)
    assert not late.context.cloud


def test_a_clock_may_be_ahead_by_the_maximum_drift_and_no_more() -> None:
    assert (1000 + MAX_DRIFT_MS) << 16 <= latest_time(1000) < (1001 + MAX_DRIFT_MS) << 16


@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), st.integers(1, 9))))
def test_a_context_has_what_was_added_and_no_gaps_in_its_vector(dots: list[tuple[str, int]]) -> None:
    context = Context()
    for dot in dots:
        context.add(*dot)
    for replica in "pq":
        for count in range(1, 10):
            assert context.has(replica, count) is ((replica, count) in dots)
        strays = context.cloud.get(replica, set())
        assert all(count > context.vector.get(replica, 0) + 1 for count in strays)
    both = Context()
    both.merge(context)
    assert both == context
    assert both.covers(context)


@given(
    st.lists(st.tuples(st.sampled_from(["p", "q", "r"]), st.integers(1, 5), st.booleans())),
    st.sets(st.sampled_from("pqx")),
)
def test_the_digest_of_a_context_is_that_of_a_new_one_however_it_came_about(
    dots: list[tuple[str, int, bool]], without: set[str]
) -> None:
    context = Context()
    for replica, count, is_merged in dots:
        if is_merged:
            context.merge(Context({replica: count}, {"q": {count + 2}}))
        else:
            context.add(replica, count)
        assert context.digest(without) == context.copy().digest(without)
        assert context.digest(()) == context.copy().digest(())


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("pqr"), st.integers(0, 9))))
def test_the_version_vector_of_a_key_names_the_last_event_of_each_replica_until_the_key_is_forgotten(
    steps: list[tuple[str, str, int]],
) -> None:
    journals = Journals()
    expected: dict[str, dict[str, int]] = {"a": {}, "b": {}}
    for key, replica, count in steps:
        if count:
            journals.note(key, replica, count)
            expected[key][replica] = max(count, expected[key].get(replica, 0))
        else:
            journals.forget(key)
            expected[key] = {}
        assert {key: journals.vector(key) for key in "ab"} == expected
