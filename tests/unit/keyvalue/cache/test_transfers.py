"""Transfers: pages, changes between pages, and transfers that end early."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache.causality import MAX_DRIFT_MS
from provider.keyvalue.cache.messages import (
    CellState,
    ContextState,
    TextState,
    TransferPage,
    TransferRequest,
    new_replica_id,
)
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import MAX_PAGE_BYTES, Sender
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError
from tests.unit.keyvalue.cache.exchange import (
    all_states,
    apply_all,
    attempt,
    change,
    changes,
    countings,
    discard,
    exchange,
    pull,
    pull_some,
    receiver_of,
    replica_of,
    seen,
    state,
    take_unsent,
)

ASKER = "asker-000001"


# --- pages


def test_a_page_requested_again_is_the_same_and_a_page_out_of_turn_is_refused() -> None:
    server = Replica("server-00001")
    for number in range(1000):
        change(server, kv.Set(f"key {number}", "v" * 100, 0))
    sender, receiver = Sender(server), receiver_of(Replica(ASKER))
    first = sender.answer(ASKER, receiver.request(), 0.0)
    assert not first.is_last
    receiver.receive(first, 1000)
    second = sender.answer(ASKER, receiver.request(), 0.0)
    assert sender.answer(ASKER, receiver.request(), 0.0) is second
    assert sender.answer(ASKER, TransferRequest(first.transfer, 5, None), 0.0).transfer == ""
    assert sender.answer(ASKER, TransferRequest("unknown", 1, None), 0.0).transfer == ""
    with pytest.raises(ForeignMessageError, match="not the page"):
        receiver.receive(first, 1000)
    other = receiver_of(Replica(ASKER))
    assert sender.answer(ASKER, other.request(), 0.0).page == 0, "an asker has one transfer at a time"
    with pytest.raises(ForeignMessageError, match="has ended"):
        receiver.receive(sender.answer(ASKER, receiver.request(), 0.0), 1000)


def test_too_many_transfers_at_once_are_put_off() -> None:
    server = Replica("server-00001")
    for number in range(1000):
        change(server, kv.Set(f"key {number}", "v", 0))
    sender = Sender(server)
    request = receiver_of(Replica(ASKER)).request()
    answers = [sender.answer(new_replica_id(), request, 0.0) for _ in range(20)]
    assert [answer.transfer != "" for answer in answers] == [True] * 16 + [False] * 4
    assert sender.answer(new_replica_id(), request, 2.0).transfer, "a transfer that has not been continued gives way"
    assert sender.answer(new_replica_id(), request, 60.0).transfer


def test_receivers_that_begin_transfers_again_and_again_do_not_keep_a_joiner_from_its_own() -> None:
    server = Replica("server-00001")
    for number in range(1000):
        change(server, kv.Set(f"key {number}", "v", 0))
    asker = Replica(ASKER)
    sender, joiner = Sender(server), receiver_of(asker)
    request = receiver_of(Replica(ASKER)).request()
    greedy = [new_replica_id() for _ in range(50)]
    tries = 0
    while not joiner.is_done:
        for _ in range(3):
            for name in greedy:
                sender.answer(name, request, 0.0)
        page = sender.answer(ASKER, joiner.request(), 0.0)
        tries += 1
        if page.transfer:
            joiner.receive(page, 1000)
    assert asker.keys == 1000
    assert tries < 15, "a transfer of eight pages, once begun, goes on to its end"


def test_a_large_cell_is_sent_in_several_pages_and_removed_items_go() -> None:
    server, asker = Replica("server-00001"), Replica("asker-000001")
    for number in range(3000):
        change(server, kv.SetAdd("s", f"member {number}"))
        change(server, kv.ListAdd("l", f"element {number}"))
    pull(asker, server)
    for number in range(0, 3000, 7):
        change(server, kv.SetDel("s", f"member {number}"))
        change(asker, kv.SetDel("s", f"member {number + 1}"))
    change(asker, kv.SetAdd("s", "of the asker"))
    page_sizes = pull(asker, server)
    assert len(page_sizes) > 1
    assert max(page_sizes) < MAX_PAGE_BYTES + 10_000
    pull(server, asker)
    for replica in (asker, server):
        value = replica.read("s", 1000)
        assert value is not None
        gone = {f"member {number}" for start in (0, 1) for number in range(start, 3000, 7)}
        assert set(value.data) == {f"member {number}" for number in range(3000)} - gone | {"of the asker"}
        elements = replica.read("l", 1000)
        assert elements is not None
        assert list(elements.data) == [f"element {number}" for number in range(3000)]


def test_times_of_the_future_and_events_that_never_were_end_a_transfer() -> None:
    server, asker = Replica("server-00001"), Replica("asker-000001")
    server.clock.observe((1001 + 2 * MAX_DRIFT_MS) << 16)
    change(server, kv.Set("k", "v", 0))
    receiver = receiver_of(asker)
    with pytest.raises(ForeignMessageError, match="future"):
        receiver.receive(Sender(server).answer(asker.id, receiver.request(), 0.0), 1000)
    assert asker.read("k", 1000) is None
    impostor = Replica("asker-000001")
    change(impostor, kv.Set("k", "v", 0))
    receiver = receiver_of(asker)
    with pytest.raises(ForeignMessageError, match="that it has not made"):
        receiver.receive(Sender(impostor).answer(asker.id, receiver.request(), 0.0), 1000)


# --- changes between pages


def test_an_item_that_a_delta_removed_during_a_transfer_stays_removed() -> None:
    """A removed item must not count as an applied event; a simulation found this case."""
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("x", "v", 0))
    change(server, kv.Set("k", "T0", 0))
    sender, receiver = Sender(server), receiver_of(asker)
    sender.page_bytes = 60
    receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    server.unsent = []
    change(server, kv.Set("k", "T1", 0))
    apply_all(asker, take_unsent(server))
    change(server, kv.Set("k", "T2", 0))
    take_unsent(server)  # lost
    while not receiver.is_done:
        receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    change(server, kv.Del("k"))
    apply_all(asker, take_unsent(server))
    pull(asker, server)
    assert state(asker) == state(server)
    assert seen(asker, "k") is None


def test_a_deletion_whose_tombstone_was_discarded_during_a_transfer_reaches_a_third_replica() -> None:
    server, asker, third = replica_of(1), replica_of(2), replica_of(3)
    for key in ("x", "y", "z"):
        change(server, kv.Set(key, "v", 0))
    pull(third, server)
    change(server, kv.Del("z"))
    sender, receiver = Sender(server), receiver_of(asker)
    sender.page_bytes = 60
    first = sender.answer(asker.id, receiver.request(), 0.0)
    assert not first.is_last
    receiver.receive(first, 1000)
    discard(server)
    assert not server.key_tombstones
    while not receiver.is_done:
        receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    pull(third, asker)
    assert third.context == asker.context
    assert state(third) == state(asker) == state(server)
    assert seen(third, "z") is None


# --- transfers that end early


def test_what_arrived_before_its_sender_ended_reaches_all_replicas_or_none() -> None:
    ended, asker, third = replica_of(1), replica_of(2), replica_of(3)
    change(asker, kv.SetAdd("old", "gone"))
    change(asker, kv.SetAdd("old", "stays"))
    change(asker, kv.Increment("n", 1))
    change(asker, kv.SetAdd("s", "old"))
    exchange(ended, asker)
    exchange(third, asker)
    change(ended, kv.SetDel("old", "gone"))
    change(ended, kv.Del("n"))
    change(ended, kv.Increment("n", 5))
    change(ended, kv.Increment("visits", 3))
    for number in range(30):
        change(ended, kv.Set(f"k{number}", "v", 0))
        change(ended, kv.SetAdd("s", f"m{number}"))
    pull_some(asker, ended, 6)
    assert 0 < sum(seen(asker, f"k{number}") is not None for number in range(30)) < 30
    peers = Peers(third.id, 1000.0)
    peers.receive(asker.id, Peers(asker.id, 1000.0).heartbeat(asker.context), 0.0, is_signed=False)
    assert peers.has_more(asker.id, third.context)
    exchange(asker, third)
    assert all_states(asker) == all_states(third)
    assert seen(third, "visits") == ("counter", 3, 0)
    assert (seen(third, "old"), seen(third, "n")) == (("set", ["stays"], 0), ("counter", 5, 0))
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


def test_no_more_of_half_a_transfer_is_kept_than_fits_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.keyvalue.cache.merge.MAX_CLOUD_DOTS", 5)
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("overwritten", "v", 0))
    for number in range(30):
        change(server, kv.Set(f"k{number}", "v", 0))
    change(server, kv.Set("overwritten", "w", 0))
    pull_some(asker, server, 3)
    assert asker.keys == len(asker.context.cloud[server.id]) == 5
    assert asker.size_bytes == sum(len(key) + 1 + 200 for key in asker.live_keys())
    exchange(asker, server)
    assert all_states(asker) == all_states(server)


def test_a_removal_known_only_from_half_a_transfer_reaches_the_replicas_that_have_the_item() -> None:
    ended, asker, author, third = (replica_of(number) for number in range(4))
    change(author, kv.Set("k", "v", 0))
    exchange(ended, author)
    exchange(third, author)
    change(ended, kv.Set("k", "later", 0))
    change(ended, kv.Set("z", "v" * 100, 0))
    pull_some(asker, ended, 1, page_bytes=60)
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
def test_after_transfers_that_ended_early_replicas_hold_the_same(
    steps: list[tuple[int, Any, int]], pages: int, is_back: bool
) -> None:
    replicas = [replica_of(number) for number in range(3)]
    for number, request, what in steps:
        if what < 6:
            attempt(lambda: change(replicas[number], request))  # noqa: B023
        elif what < 7:
            pull(replicas[number], replicas[(number + 1) % 3])
        else:
            pull_some(replicas[number], replicas[(number + 1 + what % 2) % 3], pages, 60)
    left = replicas if is_back else replicas[1:]
    for _ in range(4):
        for one, other in itertools.permutations(left, 2):
            pull(one, other)
    assert all(found == all_states(left[0])[0] for found in all_states(*left))


def test_a_transfer_leaves_no_trace_of_replicas_that_its_context_does_not_have_nor_of_any_if_it_ends_early() -> None:
    asker, source = replica_of(1), "source-00001"
    invented = {f"gone-{number:07}": 9 for number in range(100)}
    item = TextState(source, 1, 1, "v", 0)

    def page(number: int, context: dict[str, int] | None, *, is_last: bool) -> TransferPage:
        key = f"k{number}"
        cells = [CellState(key, {source: 1} | invented, [], [item] if number == 0 else [], [], None, None)]
        state = ContextState(context, {}) if context is not None else None
        return TransferPage("t", number, is_last, False, state, invented if is_last else {}, cells)

    receiver = receiver_of(asker)
    receiver.receive(page(0, {source: 1} | invented, is_last=False), 1000)
    receiver.end()
    assert asker.journals.vector("k0") == {source: 1}
    receiver = receiver_of(asker)
    receiver.receive(page(0, {source: 1}, is_last=False), 1000)
    receiver.receive(page(1, None, is_last=True), 1000)
    assert asker.journals.vector("k0") == asker.journals.vector("k1") == {source: 1}
    assert asker.discarded == {}


def test_a_transfer_that_ends_early_leaves_what_another_one_has_brought_of_the_same_replica() -> None:
    author, first, second, asker, late = [replica_of(number) for number in range(5)]
    for number in range(30):
        change(author, kv.Set(f"k{number}", "v", 0))
    pull(first, author)
    pull(second, author)
    transfers = [(Sender(source), receiver_of(asker)) for source in (first, second)]
    for sender, _ in transfers:
        sender.page_bytes = 200
    for _ in range(3):
        for sender, receiver in transfers:
            receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    (_, ended), (sender, receiver) = transfers
    ended.end()
    while not receiver.is_done:
        receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    pull(late, asker)
    assert state(late) == state(asker) == state(author)
