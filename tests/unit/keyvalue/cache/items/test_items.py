"""Large sets and lists: blocks of items behave as plain lists, and readers see one moment whatever changes meanwhile."""

from __future__ import annotations

import itertools
from operator import attrgetter
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts import keyvalue as kv
from provider.keyvalue.cache import merge, operations
from provider.keyvalue.cache.items import blocks, collections, dots
from provider.keyvalue.cache.items.blocks import Blocks
from provider.keyvalue.cache.items.collections import Elements, Members
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item
from provider.keyvalue.cache.items.walks import ElementSearch, MemberWalk, intersection_parts, union_parts
from provider.keyvalue.cache.messages import AddMember, CellState, Clear, Deltas, Event, MemberState
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Receiver, Sender
from tests.unit.keyvalue.cache.exchange import (
    admission_of,
    all_states,
    change,
    exchange,
    pull_some,
    receiver_of,
    replica_of,
    seen,
    take_unsent,
)

A, B = "replica-0001", "replica-0002"
small_blocks = pytest.fixture(autouse=True)


@small_blocks
def blocks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few items do what takes hundreds or thousands of them."""
    monkeypatch.setattr(blocks, "BLOCK_ITEMS", 4)
    monkeypatch.setattr(collections, "_SHARDS_FROM", 6)
    monkeypatch.setattr(merge, "_SLICE_ITEMS", 3)
    monkeypatch.setattr(operations, "MAX_REMOVALS", 5)


def item(count: int, value: str = "v", replica: str = A, clock: int | None = None) -> Item:
    return Item(replica, count, count if clock is None else clock, value)


# --- blocks


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=120), st.integers(-1, 41), st.integers(-1, 41))
def test_blocks_have_the_items_of_a_sorted_list(steps: list[tuple[bool, int]], after: int, until: int) -> None:
    found, model = Blocks(attrgetter("count"), lambda block: block[0].count), dict[int, Item]()
    for is_added, count in steps:
        if is_added and count not in model:
            model[count] = item(count)
            assert found.add(model[count]) is (count == max(model))
        elif not is_added:
            assert found.remove(count) is model.pop(count, None)
        ordered = [model[count] for count in sorted(model)]
        snapshot = found.blocks()
        assert list(found) == list(itertools.chain(*snapshot)) == ordered
        assert all(0 < len(block) < 8 for block in snapshot)
    ordered = [model[count] for count in sorted(model)]
    assert found.last is (ordered[-1] if ordered else None)
    assert found.count_until(until) == sum(each.count <= until for each in ordered)
    assert list(found.between(after, until)) == [each for each in ordered if after < each.count <= until]
    assert list(found.between(None, until)) == [each for each in ordered if each.count <= until]
    assert list(found.between(after, None)) == [each for each in ordered if each.count > after]
    assert [found.get(count) for count in range(41)] == [model.get(count) for count in range(41)]
    for start, stop in itertools.combinations(range(12), 2):
        assert list(itertools.chain(*found.positions(start, stop))) == ordered[start:stop]
    while found.pop_blocks(2):
        pass


# --- sets and lists

values = st.sampled_from("abcdefghij")
changes = st.lists(st.tuples(st.booleans(), st.sampled_from([A, B]), st.integers(1, 30), values), max_size=60)


def apply(collection: Members | Elements, model: dict[tuple[str, int], Item], step: tuple[bool, str, int, str]) -> None:
    is_added, replica, count, value = step
    dot = (replica, count)
    if not is_added:
        assert collection.remove(dot) is model.pop(dot, None)
    elif dot not in model:
        model[dot] = item(count, value, replica)
        collection.add(model[dot])


@given(changes)
def test_a_set_has_each_member_once_and_finds_all_of_its_items(steps: list[tuple[bool, str, int, str]]) -> None:
    members, model = Members(), dict[tuple[str, int], Item]()
    for step in steps:
        apply(members, model, step)
        there = {each.value for each in model.values()}
        assert set(members) == set(members.by_value()) == there
        assert len(members) == len(there)
        assert all((value in members) is (value in there) for value in "abcdefghij")
    for value in "abcdefghij":
        expected = sorted(each.dot for each in model.values() if each.value == value)
        assert sorted(each.dot for each in members.copies(value)) == expected
    assert members.count == len(model)
    assert members.size_bytes == len(model) * (1 + BOOKKEEPING_BYTES)
    assert [each.dot for each in members.between(None, None)] == sorted(model)
    if model:
        assert members.latest() == max(each.order for each in model.values())


@given(changes)
def test_a_list_has_its_elements_in_their_order(steps: list[tuple[bool, str, int, str]]) -> None:
    elements, model = Elements(), dict[tuple[str, int], Item]()
    for step in steps:
        apply(elements, model, step)
        texts = [each.value for each in sorted(model.values(), key=lambda each: each.order)]
        assert list(elements) == texts
        assert elements[1:4] == texts[1:4]
        assert len(elements) == len(texts)


# --- readers


@given(changes, changes, changes, changes, st.data())
def test_a_read_in_slices_sees_the_sets_as_they_were_when_it_began(
    one: Any, other: Any, later_one: Any, later_other: Any, data: st.DataObject
) -> None:
    sets: list[tuple[Members, dict[tuple[str, int], Item]]] = [(Members(), {}), (Members(), {})]
    for (members, model), steps in zip(sets, (one, other), strict=True):
        for step in steps:
            apply(members, model, step)
    before: list[set[Any]] = [set(members) for members, _ in sets]
    walks = [[MemberWalk(members) for members, _ in sets] for _ in range(3)]
    found: list[list[str | bytes]] = [[], [], []]
    readers = [iter(walks[0][0].parts(2)), union_parts(walks[1]), intersection_parts(walks[2])]
    later = [(0, step) for step in later_one] + [(1, step) for step in later_other]
    while True:
        for _ in range(data.draw(st.integers(0, 3))):
            if later:
                which, step = later.pop()
                apply(*sets[which], step)
        parts = [next(reader, None) for reader in readers]
        for texts, part in zip(found, parts, strict=True):
            texts.extend(part or [])
        if parts == [None, None, None]:
            break
    for walk in itertools.chain(*walks):
        walk.close()
    assert sorted(found[0]) == sorted(before[0])
    assert sorted(found[1]) == sorted(before[0] | before[1])
    assert sorted(found[2]) == sorted(before[0] & before[1])
    assert not any(members.listeners for members, _ in sets)


@pytest.mark.parametrize("seed", range(20))
def test_a_read_of_sets_that_change_all_the_time_sees_them_as_they_were(seed: int) -> None:
    random = Random(seed)
    sets = [Members(), Members()]
    counts = itertools.count(1)
    for members in sets:
        for _ in range(80):
            members.add(item(next(counts), str(random.randrange(60)), random.choice([A, B])))
    before: list[set[Any]] = [set(members) for members in sets]
    union, both = ([MemberWalk(members) for members in sets] for _ in range(2))
    readers = [union_parts(union), intersection_parts(both)]
    found: list[list[str | bytes]] = [[], []]
    for parts in itertools.zip_longest(*readers):
        for texts, part in zip(found, parts, strict=True):
            texts.extend(part or [])
        for members in sets:
            for gone in random.sample(list(members.between(None, None)), min(5, members.count)):
                members.remove(gone.dot)
            members.add(item(next(counts), str(random.randrange(60)), random.choice([A, B])))
    assert sorted(found[0]) == sorted(before[0] | before[1])
    assert sorted(found[1]) == sorted(before[0] & before[1])


def test_a_set_that_is_removed_while_another_is_compared_with_it_is_kept_until_then() -> None:
    replica = filled(50)
    for number in range(50):
        change(replica, kv.SetAdd("t", f"m{number}"))
    walks = [MemberWalk(members) for cell in replica.cells.values() if (members := cell.members) is not None]
    parts = intersection_parts(walks)
    found = next(parts)
    for key in "st":
        change(replica, kv.Del(key))
    for _ in range(500):
        replica.drop_blocks()
    assert sorted([*found, *itertools.chain(*parts)]) == sorted(f"m{number}" for number in range(50))


@given(changes, changes, values, st.data())
def test_a_search_finds_the_first_element_as_the_list_is_at_its_end(
    steps: Any, later: Any, text: str, data: st.DataObject
) -> None:
    elements, model = Elements(), dict[tuple[str, int], Item]()
    for step in steps:
        apply(elements, model, step)
    search = ElementSearch("l", elements, text)
    while search.step():
        for _ in range(data.draw(st.integers(0, 3))):
            if later:
                apply(elements, model, later.pop())
    found = search.first()
    search.close()
    expected = [each for each in model.values() if each.value == text]
    assert found is min(expected, key=lambda each: each.order, default=None)


# --- clearing


class Clearing(RuleBasedStateMachine):
    """Replicas clear sets and lists by vectors while others change them; deltas are lost, repeated and reordered."""

    @initialize()
    def start(self) -> None:
        self.replicas = [replica_of(number) for number in range(3)]
        self.wire: list[tuple[int, str, int, Event]] = []
        self.numbers = itertools.count()
        self.transfers: dict[tuple[int, int], tuple[Sender, Receiver]] = {}

    def do(self, number: int, request: kv.SingleKeyRequest) -> None:
        change(self.replicas[number], request)
        for author, count, event in take_unsent(self.replicas[number]):
            self.wire += [(to, author, count, event) for to in range(3) if to != number]

    @rule(number=st.integers(0, 2), many=st.integers(1, 9))
    def fill(self, number: int, many: int) -> None:
        for _ in range(many):
            self.do(number, kv.SetAdd("s", str(next(self.numbers))))
            self.do(number, kv.ListAdd("l", str(next(self.numbers) % 3)))

    @rule(
        number=st.integers(0, 2), what=st.sampled_from([kv.Del("s"), kv.SetClear("s"), kv.ListClear("l"), kv.Del("l")])
    )
    def clear(self, number: int, what: kv.SingleKeyRequest) -> None:
        self.do(number, what)

    @rule(number=st.integers(0, 2), text=st.sampled_from("012"))
    def remove(self, number: int, text: str) -> None:
        self.do(number, kv.ListDel("l", text))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        for to, author, count, event in (
            data.draw(st.lists(st.sampled_from(self.wire), max_size=6)) if self.wire else []
        ):
            deltas = Deltas(count, [event])
            admission = admission_of(self.replicas[to])
            admission.check_deltas(author, deltas, 1000)
            if not admission.is_premature(deltas, is_gap=False):
                self.replicas[to].apply(author, count, event)

    @rule(pair=st.permutations([0, 1, 2]))
    def take_a_page(self, pair: list[int]) -> None:
        """Continue a transfer of tiny pages, or begin one; other steps happen between its pages."""
        to, server = pair[:2]
        if (to, server) not in self.transfers:
            sender = Sender(self.replicas[server])
            sender.page_bytes = 200
            self.transfers[to, server] = sender, receiver_of(self.replicas[to])
        sender, receiver = self.transfers[to, server]
        receiver.receive(sender.answer(self.replicas[to].id, receiver.request(), 0.0), 1000)
        if receiver.is_done:
            del self.transfers[to, server]

    @rule(pair=st.permutations([0, 1, 2]))
    def end_a_transfer(self, pair: list[int]) -> None:
        if (pair[0], pair[1]) in self.transfers:
            self.transfers.pop((pair[0], pair[1]))[1].end()

    @rule(pair=st.permutations([0, 1, 2]), pages=st.integers(1, 3))
    def pull_some(self, pair: list[int], pages: int) -> None:
        pull_some(self.replicas[pair[0]], self.replicas[pair[1]], pages)
        for author, count, event in take_unsent(self.replicas[pair[0]]):
            self.wire += [(to, author, count, event) for to in range(3) if to != pair[0]]

    @invariant()
    def sizes_are_those_of_the_items(self) -> None:
        for replica in getattr(self, "replicas", []):
            for cell in replica.cells.values():
                items = list(cell.items())
                assert cell.count == len(items)
                assert cell.size_bytes == sum(BOOKKEEPING_BYTES + len(each.value) for each in items)
                if cell.elements is not None:
                    assert len(list(cell.elements)) == cell.elements.count
            while replica.drop_blocks():
                pass

    def teardown(self) -> None:
        if not hasattr(self, "replicas"):
            return
        for _, receiver in self.transfers.values():
            receiver.end()
        for _ in range(2):
            for one, other in itertools.permutations(self.replicas, 2):
                exchange(one, other)
        states = all_states(*self.replicas)
        assert states[0] == states[1] == states[2]


Clearing.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None, phases=[Phase.generate])
TestClearing = Clearing.TestCase


def filled(count: int) -> Replica:
    replica = replica_of(1)
    for number in range(count):
        change(replica, kv.SetAdd("s", f"m{number}"))
    return replica


def test_a_large_set_is_cleared_by_one_event_and_members_added_elsewhere_survive() -> None:
    one, other = filled(50), replica_of(2)
    exchange(one, other)
    take_unsent(one)
    change(other, kv.SetAdd("s", "added meanwhile"))
    change(other, kv.SetAdd("s", "m7"))
    assert change(one, kv.SetClear("s")) is True
    (event,) = take_unsent(one)
    assert event[2].add == Clear({one.id: 50})
    assert seen(one, "s") is None
    other.apply(*event)
    assert seen(other, "s") == ("set", ["added meanwhile", "m7"], 0)
    exchange(one, other)
    assert all_states(one)[0] == all_states(other)[0]


@pytest.mark.parametrize("known", [0, 1, 40, 99, 100])
def test_a_clear_costs_no_more_than_the_items_that_go_or_those_that_stay(known: int) -> None:
    one = filled(100)
    members = one.cells["s"].members
    assert members is not None
    one.clear("s", one.cells["s"], {one.id: known} if known else {})
    left = one.cells["s"].members
    assert (left is members) is (known <= 50)
    assert set(left or ()) == {f"m{number}" for number in range(known, 100)}
    assert one.dropped == ([] if left is members else [members])
    assert one.size_bytes == sum(BOOKKEEPING_BYTES + len(member) for member in left or ()) + BOOKKEEPING_BYTES + 1


def test_a_removal_that_counts_on_events_that_have_not_arrived_waits_for_them() -> None:
    one, other = filled(50), replica_of(2)
    take_unsent(one)
    change(one, kv.SetClear("s"))
    ((author, count, event),) = take_unsent(one)
    assert author == one.id
    assert admission_of(other).is_premature(Deltas(count, [event]), is_gap=True)
    exchange(one, other)
    assert not admission_of(other).is_premature(Deltas(count, [event]), is_gap=False)
    assert all_states(one) == all_states(other)


def test_a_member_whose_addition_was_lost_survives_a_clear_of_those_before_and_after_it() -> None:
    one, other = replica_of(1), replica_of(2)
    for number in range(20):
        change(one, kv.SetAdd("s", f"m{number}"))
    for author, count, event in take_unsent(one):
        if event.add != AddMember("m12"):
            other.apply(author, count, event)
    assert change(other, kv.SetClear("s")) is True
    for author, count, event in take_unsent(other):
        assert not admission_of(one).is_premature(Deltas(count, [event]), is_gap=False)
        one.apply(author, count, event)
    exchange(one, other)
    assert seen(one, "s") == seen(other, "s") == ("set", ["m12"], 0)
    assert all_states(one) == all_states(other)


def test_removed_sets_are_freed_when_no_one_reads_them_any_more() -> None:
    replica = filled(50)
    members = replica.cells["s"].members
    assert members is not None
    walk = MemberWalk(members)
    change(replica, kv.Del("s"))
    assert replica.size_bytes == 0
    assert not replica.drop_blocks()
    assert sorted(itertools.chain(*walk.parts())) == sorted(f"m{number}" for number in range(50))
    walk.close()
    while replica.drop_blocks():
        pass
    assert replica.dropped == []


def test_a_page_is_merged_in_slices_between_which_others_change_the_set() -> None:
    one, other = filled(60), replica_of(2)
    exchange(one, other)
    for number in range(0, 60, 2):
        change(one, kv.SetDel("s", f"m{number}"))
    merging = merge.Merge(other, one.context.copy())
    steps = 0
    sent = {f"m{number}" for number in range(1, 60, 2)}
    cell = one.cells["s"]
    states = [MemberState(each.replica, each.count, each.clock, None, 0) for each in cell.items()]
    for _ in merging.adding(CellState("s", one.journals.vector("s"), [], list(states), [], None, None)):
        steps += 1
        change(other, kv.SetAdd("s", f"new {steps}"))
    for _ in merging.finishing({}, is_full=False):
        pass
    assert steps > 10
    assert set(seen(other, "s")[1]) == sent | {f"new {number}" for number in range(1, steps + 1)}
    exchange(one, other)
    assert all_states(one) == all_states(other)


def test_the_kind_of_the_latest_change_is_seen_however_many_items_there_are() -> None:
    replica = filled(30)
    change(replica, kv.Set("t", "x", 0))
    text = replica_of(2)
    change(text, kv.Set("s", "concurrent", 0), now_ms=2000)
    exchange(replica, text)
    assert seen(replica, "s", 3000) == ("text", "concurrent", 0)
    assert dots.DottedItems().count == 0
