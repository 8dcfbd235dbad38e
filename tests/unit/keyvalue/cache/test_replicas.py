"""Replicas of a cache converge, whatever is lost, repeated or reordered, and lose nothing that was acknowledged."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.cache.cells import MAX_DRIFT_MS, Context, Item, is_drifted
from provider.keyvalue.cache.messages import Event, decode_message, encode_message
from provider.keyvalue.cache.operations import EVENTS, Change, Limits, expire
from provider.keyvalue.cache.peers import Membership
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Fetch, Replays
from provider.keyvalue.values import CHANGES, READS, READS_OF_MANY, Value

NO_LIMITS = Limits()
KEYS = ["a", "b"]
TEXTS = ["x", "y", "7"]
PAIRS = list(itertools.permutations(range(3), 2))

keys = st.sampled_from(KEYS)
texts = st.sampled_from(TEXTS)
changes: st.SearchStrategy[kv.SingleKeyRequest] = st.one_of(
    st.builds(kv.Set, keys, texts | st.just("12"), st.sampled_from([0, 0, 0, 2])),
    st.builds(kv.Del, keys),
    st.builds(kv.Increment, keys, st.integers(-3, 9)),
    st.builds(kv.ListAdd, keys, texts),
    st.builds(kv.ListDel, keys, texts),
    st.builds(kv.ListClear, keys),
    st.builds(kv.SetAdd, keys, texts),
    st.builds(kv.SetDel, keys, texts),
    st.builds(kv.SetClear, keys),
)

countings = st.sampled_from([kv.Increment("a", 1), kv.Increment("a", 5), kv.Del("a")])


def replica_of(number: int) -> Replica:
    return Replica(f"replica-{number:04}")


def change(replica: Replica, request: kv.SingleKeyRequest, now_ms: int = 1000, limits: Limits = NO_LIMITS) -> Any:
    return EVENTS[type(request)](Change(replica, limits, request.key, now_ms), request)


def attempt(action: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "answer", action()
    except errors.StoreError as error:
        return type(error).__name__, str(error)


def fetch(asker: Replica, server: Replica, now_ms: int = 1000) -> None:
    """Bring one replica what it lacks of another's state, over the real messages."""
    replays, incoming = Replays(server), Fetch(asker)
    while not incoming.is_done:
        _, request = decode_message(encode_message(asker.id, incoming.request()))
        _, page = decode_message(encode_message(server.id, replays.answer(asker.id, request, 0.0)))  # type: ignore[arg-type]
        incoming.take(page, now_ms)  # type: ignore[arg-type]


def exchange(one: Replica, other: Replica) -> None:
    fetch(one, other)
    fetch(other, one)


def state(replica: Replica) -> dict[str, Any]:
    """All that stands there, hidden rivals included, in comparable form."""
    found = {}
    for key in replica.all_keys():
        cell = replica.cell(key)
        if cell is None or not cell.is_live:
            continue
        elements = cell.elements.texts if cell.elements is not None else []
        tallies = {(t.replica, t.start, t.count, t.total, t.removed_total) for t in cell.live_tallies()}
        items = {(item.order, item.value, item.expires_at_ms) for item in cell.items()}
        found[key] = (items, elements, tallies, seen(replica, key))
    return found


def seen(replica: Replica, key: str, now_ms: int = 1000) -> Any:
    value = replica.read(key, now_ms)
    if value is None:
        return None
    data = (
        sorted(value.data)
        if isinstance(value.data, dict)
        else list(value.data)
        if isinstance(value.data, list)
        else value.data
    )
    return value.kind.value, data, value.expires_at_ms


def deltas(replica: Replica) -> list[tuple[str, int, Event]]:
    """Take the events that nobody has been told of."""
    first = replica.count - len(replica.unsent) + 1
    events, replica.unsent = replica.unsent, []
    return [(replica.id, first + place, event) for place, event in enumerate(events)]


def apply_all(replica: Replica, events: list[tuple[str, int, Event]]) -> None:
    for author, count, event in events:
        replica.apply(author, count, event)


# --- one replica is an ordinary store ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(changes, st.integers(0, 3000)), max_size=30))
def test_one_replica_answers_as_the_values_do(steps: list[tuple[kv.SingleKeyRequest, int]]) -> None:
    replica, model, now_ms = replica_of(1), dict[str, Value](), 1000
    for request, later_ms in steps:
        now_ms += later_ms

        def by_model(request: kv.SingleKeyRequest = request, now_ms: int = now_ms) -> Any:
            before = model.get(request.key)
            before = None if before is None or before.is_expired(now_ms) else before.copy()
            value, result, *_ = CHANGES[type(request)](request, before, now_ms)
            model.pop(request.key, None)
            if value is not None:
                model[request.key] = value
            return result

        assert attempt(lambda: change(replica, request, now_ms)) == attempt(by_model)  # noqa: B023
        for key in KEYS:
            expected = model.get(key)
            expected = None if expected is None or expected.is_expired(now_ms) else expected
            for read in (kv.Get(key), kv.Contains(key), kv.ListRange(key, 0, -1), kv.SetQuery(key)):
                found, wanted = (
                    attempt(lambda value=value, read=read: READS[type(read)](read, value))  # type: ignore[misc]
                    for value in (replica.read(key, now_ms), expected)
                )
                if isinstance(read, kv.SetQuery) and found[0] == wanted[0] == "answer":
                    found, wanted = (("answer", sorted(answer[1])) for answer in (found, wanted))
                assert found == wanted
        for many in (kv.SetUnion(KEYS), kv.SetIntersection(KEYS)):
            values = [replica.read(key, now_ms) for key in KEYS]
            found = attempt(lambda: READS_OF_MANY[type(many)](many, values))  # noqa: B023
            assert found[0] == "answer" or found[0] == "WrongKindError"


# --- merging -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), changes), max_size=25), st.permutations([0, 1, 2]))
def test_merging_is_commutative_associative_and_idempotent(
    steps: list[tuple[int, kv.SingleKeyRequest]], order: list[int]
) -> None:
    def worlds() -> list[Replica]:
        replicas = [replica_of(number) for number in range(3)]
        for number, request in steps:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
            if request.key == "b" and number == 1:
                fetch(replicas[2], replicas[1])
        return replicas

    one = worlds()
    left = replica_of(8)
    for number in (0, 1, 2):
        fetch(left, one[number])
    other = worlds()
    right = replica_of(9)
    first, second, third = order
    fetch(other[second], other[third])
    fetch(right, other[second])
    fetch(right, other[first])
    assert state(left) == state(right)
    assert left.context == right.context
    fetch(left, one[1])
    fetch(left, right)
    assert state(left) == state(right)


@given(st.data())
def test_deltas_in_any_order_lost_and_repeated_then_one_exchange_reach_the_full_merge(data: st.DataObject) -> None:
    replicas = [replica_of(number) for number in range(3)]
    wire: list[tuple[str, int, Event]] = []
    for number, request in data.draw(st.lists(st.tuples(st.integers(0, 2), changes), max_size=25)):
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        wire += deltas(replicas[number])
        is_delivered = data.draw(st.booleans())
        if wire and is_delivered:
            apply_all(replicas[(number + 1) % 3], [data.draw(st.sampled_from(wire))])
    whole = replica_of(7)
    for replica in replicas:
        fetch(whole, replica)
    for replica in replicas:
        apply_all(replica, data.draw(st.lists(st.sampled_from(wire), max_size=30)) if wire else [])
    for one, other in itertools.permutations(replicas, 2):
        fetch(one, other)
    for one, other in itertools.permutations(replicas, 2):
        fetch(one, other)
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
        wire += deltas(replicas[number])
        if random.random() < 0.3:
            apply_all(replicas[1 - number], wire)
    for replica in (*replicas, late := replica_of(5)):
        shuffled = wire * 2
        random.shuffle(shuffled)
        apply_all(replica, shuffled)
    assert state(replicas[0]) == state(replicas[1]) == state(late)
    assert not late.context.strays


# --- what concurrent changes come to -----------------------------------------------------------------------------------


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


def test_a_clear_of_many_elements_takes_several_events() -> None:
    one, other = replica_of(1), replica_of(2)
    for number in range(2500):
        change(one, kv.ListAdd("l", str(number)))
    apply_all(other, deltas(one))
    assert change(one, kv.ListClear("l")) is True
    events = deltas(one)
    assert len(events) == 3
    apply_all(other, events)
    assert state(one) == state(other) == {}


# --- expiry ------------------------------------------------------------------------------------------------------------


def expiring(number: int) -> tuple[Replica, Callable[[int], None]]:
    """Make a replica, and what removes there what has expired by a time."""
    due: list[tuple[str, Item]] = []
    replica = Replica(f"replica-{number:04}", on_expiry=lambda key, item: due.append((key, item)))

    def expire_all(now_ms: int) -> None:
        for key, item in due.copy():
            expire(replica, key, item, now_ms)

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
    fetch(one, other)
    expire_one(10_000)
    assert seen(one, "k") == ("text", "later", 0)
    change(other, kv.Del("k"), now_ms=10_000)
    exchange(one, other)
    assert (one.keys, other.keys) == (0, 0)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_counter_whose_text_was_removed_by_one_who_did_not_see_it_ends_when_it_expires(is_late: bool) -> None:
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


def test_a_deletion_of_what_has_expired_says_false_and_makes_room() -> None:
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


# --- forgetting --------------------------------------------------------------------------------------------------------


def _prune(replica: Replica, *others: Replica) -> None:
    seen = [other.context for other in (replica, *others)]
    replica.prune(lambda name: min(context.vector.get(name, 0) for context in seen), 10_000)


@given(st.lists(st.tuples(st.integers(0, 1), changes), max_size=25))
def test_a_deleted_key_costs_nothing_once_everybody_knows(steps: list[tuple[int, kv.SingleKeyRequest]]) -> None:
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
            cell = replica.cell(key)
            if cell is not None and cell.text is not None:
                expire(replica, key, cell.text, 100_000)
    exchange(one, other)
    _prune(one, other)
    _prune(other, one)
    for replica in replicas:
        assert (replica.keys, replica.remembered_deletions, replica.size_bytes) == (0, 0, 0)
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
        _prune(one, other)
        _prune(other, one)
        sizes.append(one.size_bytes)
    assert seen(one, "n") == seen(other, "n") == ("counter", 2, 0)
    assert sizes[-1] == sizes[2]


@given(st.lists(st.tuples(st.integers(0, 2), changes), max_size=30), st.integers(0, 30))
def test_a_replica_that_was_forgotten_brings_nothing_back(
    steps: list[tuple[int, kv.SingleKeyRequest]], cut_after: int
) -> None:
    one, other, absent = replicas = [replica_of(number) for number in range(3)]
    for place, (number, request) in enumerate(steps):
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        if place < cut_after:
            for here, there in itertools.permutations(replicas, 2):
                fetch(here, there)
        else:
            exchange(one, other)
    before = {key: {item.dot for item in cell.items()} for key in KEYS if (cell := absent.cell(key)) is not None}
    known_of_absent = one.context.copy()
    for key in KEYS:
        attempt(lambda: change(one, kv.Del(key)))  # noqa: B023
    exchange(one, other)
    _prune(one, other)
    _prune(other, one)
    _prune(absent)
    for here, there in itertools.permutations(replicas, 2):
        fetch(here, there)
    for here, there in itertools.permutations(replicas, 2):
        fetch(here, there)
    assert state(one) == state(other) == state(absent)
    for key, dots in before.items():
        cell = one.cell(key)
        for item in cell.items() if cell is not None else ():
            assert item.dot not in dots or not known_of_absent.has(*item.dot) or not _was_seen(one, key), "came back"


def _was_seen(replica: Replica, key: str) -> bool:
    return seen(replica, key) is None


def test_what_a_delta_removed_while_it_was_being_fetched_stays_removed() -> None:
    """The case that took a simulation to find: a removed item must not pass for an event that was taken in."""
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("x", "v", 0))
    change(server, kv.Set("k", "T0", 0))
    replays, incoming = Replays(server), Fetch(asker)
    replays.page_bytes = 60
    incoming.take(replays.answer(asker.id, incoming.request(), 0.0), 1000)
    server.unsent = []
    change(server, kv.Set("k", "T1", 0))
    apply_all(asker, deltas(server))
    change(server, kv.Set("k", "T2", 0))
    deltas(server)  # lost
    while not incoming.is_done:
        incoming.take(replays.answer(asker.id, incoming.request(), 0.0), 1000)
    change(server, kv.Del("k"))
    apply_all(asker, deltas(server))
    fetch(asker, server)
    assert state(asker) == state(server)
    assert seen(asker, "k") is None


def test_a_deletion_forgotten_while_pages_were_sent_reaches_a_third_replica() -> None:
    server, asker, third = replica_of(1), replica_of(2), replica_of(3)
    for key in ("x", "y", "z"):
        change(server, kv.Set(key, "v", 0))
    fetch(third, server)
    change(server, kv.Del("z"))
    replays, incoming = Replays(server), Fetch(asker)
    replays.page_bytes = 60
    first = replays.answer(asker.id, incoming.request(), 0.0)
    assert not first.is_last
    incoming.take(first, 1000)
    _prune(server)
    assert server.remembered_deletions == 0
    while not incoming.is_done:
        incoming.take(replays.answer(asker.id, incoming.request(), 0.0), 1000)
    fetch(third, asker)
    assert third.context == asker.context
    assert state(third) == state(asker) == state(server)
    assert seen(third, "z") is None


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


def test_too_many_deletions_are_not_remembered_and_an_absent_replica_still_gets_them() -> None:
    one, absent = replica_of(1), replica_of(2)
    for number in range(30):
        change(one, kv.Set(f"k{number}", "v", 0))
    exchange(one, absent)
    for number in range(20):
        change(one, kv.Del(f"k{number}"))
    one.prune(lambda _: 10**9, 100)  # as if everybody had seen them
    assert one.remembered_deletions == 0
    assert one.lacking(absent.context) == (list(one.all_keys()), True)
    exchange(one, absent)
    assert state(one) == state(absent)
    assert absent.keys == 10


@given(st.permutations(PAIRS))
def test_increments_on_a_counter_that_only_some_remember_to_be_deleted_end_the_same_everywhere(
    order: list[tuple[int, int]],
) -> None:
    cut_off, remembers, forgets = replicas = [replica_of(number) for number in range(3)]
    change(cut_off, kv.Increment("n", 1))
    for one, other in itertools.permutations(replicas, 2):
        fetch(one, other)
    change(remembers, kv.Del("n"))
    exchange(remembers, forgets)
    forgets.prune(lambda _: 10**9, 100)
    change(cut_off, kv.Increment("n", 5))
    for here, there in (*order, *PAIRS, *PAIRS):
        fetch(replicas[here], replicas[there])
    assert {seen(replica, "n") for replica in replicas} <= {None, ("counter", 5, 0)}
    events = [replica.count for replica in replicas]
    for _ in range(2):
        for one, other in itertools.permutations(replicas, 2):
            fetch(one, other)
    assert [replica.count for replica in replicas] == events, "replicas go on answering each other"
    assert state(cut_off) == state(remembers) == state(forgets)
    change(cut_off, kv.Increment("n", 2))
    for replica in (remembers, forgets):
        apply_all(replica, [(cut_off.id, cut_off.count, cut_off.unsent[-1])])
    assert state(cut_off) == state(remembers) == state(forgets)


def test_an_increment_told_to_one_who_has_forgotten_the_counter_ends_the_same_everywhere() -> None:
    one, other = replica_of(1), replica_of(2)
    change(one, kv.Increment("n", 1))
    apply_all(other, deltas(one))
    change(other, kv.Del("n"))
    other.prune(lambda _: 10**9, 100)
    change(one, kv.Increment("n", 5))
    told = deltas(one)
    change(one, kv.Increment("n", 7))
    apply_all(other, told)
    apply_all(one, deltas(other))
    apply_all(other, deltas(one))
    assert state(one) == state(other)
    assert seen(one, "n") == ("counter", 7, 0)


@given(st.lists(st.tuples(st.integers(0, 2), countings | changes, st.integers(0, 9)), max_size=40))
def test_who_forgets_too_early_may_lose_increments_but_agrees_with_the_others(
    steps: list[tuple[int, Any, int]],
) -> None:
    replicas = [replica_of(number) for number in range(3)]
    for number, request, what in steps:
        if what < 4:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
        elif what < 7:
            fetch(replicas[number], replicas[(number + 1 + what % 2) % 3])
        else:
            replicas[number].prune(lambda _: 10**9, 100)
    for _ in range(4):
        for one, other in itertools.permutations(replicas, 2):
            fetch(one, other)
    assert replicas[0].context == replicas[1].context == replicas[2].context
    assert state(replicas[0]) == state(replicas[1]) == state(replicas[2])


def test_nothing_is_forgotten_before_one_has_been_heard_whom_another_knows() -> None:
    replicas = known, knowing, new = [replica_of(number) for number in range(3)]
    members = {replica.id: Membership(replica.id, 1000.0) for replica in replicas}
    change(known, kv.Increment("n", 1))
    fetch(knowing, known)
    fetch(new, knowing)
    members[knowing.id].hear(known.id, members[known.id].heartbeat(known.context), 0.0)
    members[new.id].hear(knowing.id, members[knowing.id].heartbeat(knowing.context), 0.0)
    members[new.id].confirm(new.context)
    assert members[new.id].stable(new.context) == {}
    assert members[knowing.id].forget_absent(2000.0) == [known.id]
    members[new.id].hear(knowing.id, members[knowing.id].heartbeat(knowing.context), 2000.0)
    members[new.id].confirm(new.context)
    assert members[new.id].stable(new.context) == {known.id: 1}


def test_a_revision_is_not_given_twice_though_the_key_was_forgotten_in_between() -> None:
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
    _prune(other, one)
    assert other.remembered_deletions == 0
    for _ in range(20):
        change(other, kv.Set("k", "again", 0))
        assert other.revision("k") > max(given)
        given.add(other.revision("k"))
    for _ in range(20):
        change(other, kv.Del("k"))
        _prune(other)
        change(other, kv.Set("k", "again", 0))
        assert max(given) < other.revision("k") < max(given) + 10
        given.add(other.revision("k"))


# --- who lacks something -----------------------------------------------------------------------------------------------


def test_who_lacks_an_event_that_another_got_out_of_turn_from_one_who_ended_notices() -> None:
    ended, has_it, lacks_it = replicas = [replica_of(number) for number in range(3)]
    members = {replica.id: Membership(replica.id, 1000.0) for replica in replicas}
    change(ended, kv.Set("lost", "1", 0))
    change(ended, kv.Set("heard", "2", 0))
    for hearer in (has_it, lacks_it):
        members[hearer.id].hear(ended.id, members[ended.id].heartbeat(Context()), 0.0)
    has_it.apply(ended.id, 2, ended.unsent[1])
    members[lacks_it.id].hear(has_it.id, members[has_it.id].heartbeat(has_it.context), 0.0)
    assert members[lacks_it.id].is_ahead(has_it.id, lacks_it.context)
    fetch(lacks_it, has_it)
    assert seen(lacks_it, "heard") == ("text", "2", 0)
    assert not members[lacks_it.id].is_ahead(has_it.id, lacks_it.context)


def half_of(asker: Replica, server: Replica, pages: int, page_bytes: int = 200) -> None:
    """Fetch so many pages, and no more, as the server has ended."""
    replays, incoming = Replays(server), Fetch(asker)
    replays.page_bytes = page_bytes
    for _ in range(pages):
        if not incoming.is_done:
            incoming.take(replays.answer(asker.id, incoming.request(), 0.0), 1000)
    incoming.end()


def all_states(*replicas: Replica) -> list[Any]:
    return [(replica.context, state(replica)) for replica in replicas]


def test_what_came_before_its_sender_ended_is_on_all_replicas_or_on_none() -> None:
    ended, asker, third = replica_of(1), replica_of(2), replica_of(3)
    change(asker, kv.Set("old", "1", 0))
    change(asker, kv.Increment("n", 1))
    change(asker, kv.SetAdd("s", "old"))
    exchange(ended, asker)
    exchange(third, asker)
    change(ended, kv.Del("old"))
    change(ended, kv.Del("n"))
    change(ended, kv.Increment("visits", 3))
    for number in range(30):
        change(ended, kv.Set(f"k{number}", "v", 0))
        change(ended, kv.SetAdd("s", f"m{number}"))
    half_of(asker, ended, 3)
    assert 0 < sum(seen(asker, f"k{number}") is not None for number in range(30)) < 30
    members = Membership(third.id, 1000.0)
    members.hear(asker.id, Membership(asker.id, 1000.0).heartbeat(asker.context), 0.0)
    assert members.is_ahead(asker.id, third.context)
    exchange(asker, third)
    assert all_states(asker) == all_states(third)
    assert seen(third, "visits") == ("counter", 3, 0)
    assert (seen(third, "old"), seen(third, "n")) == (None, None)
    change(third, kv.Del("k0"))
    change(third, kv.Increment("visits", 1))
    exchange(asker, third)
    assert seen(asker, "k0") is None
    assert seen(asker, "visits") == ("counter", 4, 0)
    exchange(asker, ended)  # it had only been cut off
    exchange(asker, third)
    assert all_states(asker) == all_states(third) == all_states(ended)
    assert [seen(asker, f"k{number}") for number in range(1, 30)] == [("text", "v", 0)] * 29
    assert seen(asker, "s") == ("set", sorted(["old", *(f"m{number}" for number in range(30))]), 0)


def test_of_half_a_transfer_not_more_is_kept_than_fits_into_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.keyvalue.cache.replica._MAX_ADOPTED", 5)
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("overwritten", "v", 0))
    for number in range(30):
        change(server, kv.Set(f"k{number}", "v", 0))
    change(server, kv.Set("overwritten", "w", 0))
    half_of(asker, server, 3)
    assert asker.keys == len(asker.context.strays[server.id]) == 5
    assert asker.size_bytes == sum(len(key) + 1 + 200 for key in asker.live_keys())
    exchange(asker, server)
    assert all_states(asker) == all_states(server)


def test_a_removal_of_which_only_half_a_transfer_told_reaches_those_who_have_the_item() -> None:
    ended, asker, author, third = (replica_of(number) for number in range(4))
    change(author, kv.Set("k", "v", 0))
    exchange(ended, author)
    exchange(third, author)
    change(ended, kv.Set("k", "later", 0))
    change(ended, kv.Set("z", "v" * 100, 0))
    half_of(asker, ended, 1, page_bytes=60)
    assert seen(asker, "k") == ("text", "later", 0)
    for _ in range(2):
        exchange(asker, third)
        exchange(asker, author)
    assert all_states(asker) == all_states(third) == all_states(author)
    assert state(asker)["k"][0] == state(third)["k"][0]


@given(
    st.lists(st.tuples(st.integers(0, 2), countings | changes, st.integers(0, 9)), max_size=40),
    st.integers(1, 3),
    st.booleans(),
)
def test_after_transfers_that_ended_half_way_replicas_hold_the_same(
    steps: list[tuple[int, Any, int]], pages: int, is_back: bool
) -> None:
    replicas = [replica_of(number) for number in range(3)]
    for number, request, what in steps:
        if what < 6:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
        elif what < 7:
            fetch(replicas[number], replicas[(number + 1) % 3])
        else:
            half_of(replicas[number], replicas[(number + 1 + what % 2) % 3], pages, 60)
    left = replicas if is_back else replicas[1:]
    for _ in range(4):
        for one, other in itertools.permutations(left, 2):
            fetch(one, other)
    assert all(found == all_states(left[0])[0] for found in all_states(*left))


# --- three replicas over a bad network, against what was acknowledged ---------------------------------------------------


class BadNetwork(RuleBasedStateMachine):
    """Deltas are lost, repeated and reordered; pairs of replicas exchange now and then; deletions are forgotten."""

    @initialize()
    def start(self) -> None:
        self.replicas = [replica_of(number) for number in range(3)]
        self.members = [Membership(replica.id, 1000.0) for replica in self.replicas]
        self.wire: list[tuple[int, str, int, Event]] = []
        self.transfers: dict[tuple[int, int], tuple[Replays, Fetch]] = {}
        self.total = 0
        self.added: Counter[str] = Counter()
        self.now_ms = 1000

    @rule(number=st.integers(0, 2), amount=st.integers(-5, 5))
    def increment(self, number: int, amount: int) -> None:
        change(self.replicas[number], kv.Increment("count", amount), self.now_ms)
        self.total += amount
        self._broadcast(number)

    @rule(number=st.integers(0, 2), member=st.sampled_from(["p", "q"]))
    def add_member_that_nobody_deletes(self, number: int, member: str) -> None:
        change(self.replicas[number], kv.SetAdd("kept", member), self.now_ms)
        self.added[member] += 1
        self._broadcast(number)

    @rule(number=st.integers(0, 2), request=changes)
    def change_something(self, number: int, request: kv.SingleKeyRequest) -> None:
        attempt(lambda: change(self.replicas[number], request, self.now_ms))
        self._broadcast(number)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if self.wire:
            to, author, count, event = data.draw(st.sampled_from(self.wire))
            self.replicas[to].apply(author, count, event)

    @rule(pair=st.permutations([0, 1, 2]))
    def fetch_one_way(self, pair: list[int]) -> None:
        fetch(self.replicas[pair[0]], self.replicas[pair[1]], self.now_ms)

    @rule(pair=st.permutations([0, 1, 2]))
    def take_a_page(self, pair: list[int]) -> None:
        """Go on with a transfer of tiny pages, or begin one; other things happen between its pages."""
        asker, server = pair[:2]
        if (asker, server) not in self.transfers:
            replays = Replays(self.replicas[server])
            replays.page_bytes = 60
            self.transfers[asker, server] = (replays, Fetch(self.replicas[asker]))
        replays, incoming = self.transfers[asker, server]
        incoming.take(replays.answer(self.replicas[asker].id, incoming.request(), 0.0), self.now_ms)
        if incoming.is_done:
            del self.transfers[asker, server]

    @rule(pair=st.permutations([0, 1, 2]))
    def abandon_a_transfer(self, pair: list[int]) -> None:
        if (pair[0], pair[1]) in self.transfers:
            self.transfers.pop((pair[0], pair[1]))[1].end()

    @rule(pair=st.permutations([0, 1, 2]))
    def heartbeat(self, pair: list[int]) -> None:
        sender, hearer = pair[:2]
        heartbeat = self.members[sender].heartbeat(self.replicas[sender].context)
        self.members[hearer].hear(self.replicas[sender].id, heartbeat, 0.0)

    @rule(number=st.integers(0, 2))
    def prune(self, number: int) -> None:
        replica, members = self.replicas[number], self.members[number]
        if len(members.peers) == 2:
            members.confirm(replica.context)
            stable = members.stable(replica.context)
            replica.prune(lambda name: stable.get(name, 0), 100)

    @rule()
    def time_passes(self) -> None:
        self.now_ms += 700

    @invariant()
    def sizes_are_sane(self) -> None:
        for replica in getattr(self, "replicas", []):
            assert replica.size_bytes >= 0
            assert replica.keys >= 0

    def teardown(self) -> None:
        if not hasattr(self, "replicas"):
            return
        for _ in range(2):
            for one, other in itertools.permutations(self.replicas, 2):
                fetch(one, other, self.now_ms)
        for replica in self.replicas:
            assert state(replica) == state(self.replicas[0])
            assert replica.context == self.replicas[0].context
            found = replica.read("count", self.now_ms)
            assert (found.data if found is not None else 0) == self.total
            assert set(seen(replica, "kept", self.now_ms)[1] if self.added else ()) == set(self.added)

    def _broadcast(self, number: int) -> None:
        for author, count, event in deltas(self.replicas[number]):
            self.wire += [(to, author, count, event) for to in range(3) if to != number]


TestBadNetwork = BadNetwork.TestCase
TestBadNetwork.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- limits, clocks, contexts ------------------------------------------------------------------------------------------


def test_over_a_limit_a_write_is_refused_with_both_numbers_and_deletes_go_on() -> None:
    replica = replica_of(1)
    limits = Limits(keys=2, size_bytes=1000)
    change(replica, kv.Set("a", "x", 0), limits=limits)
    change(replica, kv.Increment("b", 1), limits=limits)
    with pytest.raises(errors.CacheFullError, match=r"3 keys, over MAX_KEYS: the maximum is 2"):
        change(replica, kv.SetAdd("c", "x"), limits=limits)
    with pytest.raises(errors.CacheFullError, match=r"1\d\d\d bytes, over MAX_BYTES: the maximum is 1000"):
        change(replica, kv.Set("a", "x" * 900, 0), limits=limits)
    change(replica, kv.Set("a", "y", 0), limits=limits)
    assert change(replica, kv.Del("b"), limits=limits) is True
    replica.prune(lambda _: 10**9, 10)
    assert change(replica, kv.ListAdd("c", "x"), limits=limits) == 1


def test_a_value_that_fits_into_no_message_is_refused() -> None:
    with pytest.raises(errors.ValueTooLargeError, match="1001 bytes"):
        change(replica_of(1), kv.Set("a", "x" * 1000, 0), limits=Limits(event_bytes=1000))


def test_the_time_of_a_stranger_may_be_ahead_by_so_much() -> None:
    assert not is_drifted((1000 + MAX_DRIFT_MS) << 16, 1000)
    assert is_drifted((1001 + MAX_DRIFT_MS) << 16, 1000)


@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), st.integers(1, 9))))
def test_a_context_has_what_was_added_and_no_gaps_in_its_vector(dots: list[tuple[str, int]]) -> None:
    context = Context()
    for dot in dots:
        context.add(*dot)
    for replica in "pq":
        for count in range(1, 10):
            assert context.has(replica, count) is ((replica, count) in dots)
        strays = context.strays.get(replica, set())
        assert all(count > context.vector.get(replica, 0) + 1 for count in strays)
    both = Context()
    both.merge(context)
    assert both == context
    assert both.covers(context)
