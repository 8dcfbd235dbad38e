"""The other replicas: who has more, who lacks something, what all have applied."""

from __future__ import annotations

from contracts import keyvalue as kv
from provider.keyvalue.cache.causality import Context
from provider.keyvalue.cache.messages import Heartbeat
from provider.keyvalue.cache.peers import Peers
from tests.unit.keyvalue.cache.exchange import (
    change,
    pull,
    replica_of,
    seen,
)


def stable(peers: Peers, context: Context) -> dict[str, int]:
    return {replica: peers.stable(context)(replica) for replica in context.vector}


def test_nothing_is_stable_before_each_replica_that_another_one_knows_has_sent_a_heartbeat() -> None:
    replicas = known, knowing, new = [replica_of(number) for number in range(3)]
    peers = {replica.id: Peers(replica.id, 1000.0) for replica in replicas}
    change(known, kv.Increment("n", 1))
    pull(knowing, known)
    pull(new, knowing)
    peers[knowing.id].receive(known.id, peers[known.id].heartbeat(known.context), 0.0, is_signed=False)
    peers[new.id].receive(knowing.id, peers[knowing.id].heartbeat(knowing.context), 0.0, is_signed=False)
    peers[new.id].confirm(new.context)
    assert stable(peers[new.id], new.context) == {known.id: 0}
    assert peers[knowing.id].remove_silent(2000.0) == [known.id]
    peers[new.id].receive(knowing.id, peers[knowing.id].heartbeat(knowing.context), 2000.0, is_signed=False)
    peers[new.id].confirm(new.context)
    assert stable(peers[new.id], new.context) == {known.id: 1}


def test_a_replica_notices_that_it_lacks_an_event_of_an_ended_replica_that_another_one_received_out_of_order() -> None:
    ended, has_it, lacks_it = replicas = [replica_of(number) for number in range(3)]
    peers = {replica.id: Peers(replica.id, 1000.0) for replica in replicas}
    change(ended, kv.Set("lost", "1", 0))
    change(ended, kv.Set("heard", "2", 0))
    for hearer in (has_it, lacks_it):
        peers[hearer.id].receive(ended.id, peers[ended.id].heartbeat(Context()), 0.0, is_signed=False)
    has_it.apply(ended.id, 2, ended.unsent[1])
    peers[lacks_it.id].receive(has_it.id, peers[has_it.id].heartbeat(has_it.context), 0.0, is_signed=False)
    assert peers[lacks_it.id].has_more(has_it.id, lacks_it.context)
    pull(lacks_it, has_it)
    assert seen(lacks_it, "heard") == ("text", "2", 0)
    assert not peers[lacks_it.id].has_more(has_it.id, lacks_it.context)


def test_events_that_all_peers_have_confirmed_are_stable() -> None:
    peers = Peers("own-00000001", 100.0)
    context = Context({"own-00000001": 5, "peer-0000001": 3, "gone-0000001": 9})
    assert stable(peers, context) == context.vector
    peer = Peers("peer-0000001", 100.0)
    peer.receive("own-00000001", peers.heartbeat(context), 0.0, is_signed=False)
    behind = Context({"own-00000001": 4, "peer-0000001": 3, "gone-0000001": 9})
    peers.receive("peer-0000001", peer.heartbeat(behind), 0.0, is_signed=False)
    assert stable(peers, context)["own-00000001"] == 0, "nothing is confirmed yet"
    peers.confirm(context)
    assert stable(peers, context) == behind.vector
    assert not peers.has_more("peer-0000001", context)
    assert peers.lacks("peer-0000001", context)


def test_a_replica_with_more_events_confirms_nothing_until_they_have_arrived() -> None:
    peers, peer = Peers("own-00000001", 100.0), Peers("peer-0000001", 100.0)
    peers.receive("peer-0000001", peer.heartbeat(Context({"peer-0000001": 3})), 0.0, is_signed=False)
    assert peers.has_more("peer-0000001", Context())
    peers.confirm(Context())
    assert stable(peers, Context({"peer-0000001": 3})) == {"peer-0000001": 0}


def test_events_of_a_replica_that_has_ended_are_compared_by_digest() -> None:
    peers, peer = Peers("own-00000001", 100.0), Peers("peer-0000001", 100.0)
    peers.receive("peer-0000001", peer.heartbeat(Context({"gone-0000001": 9})), 0.0, is_signed=False)
    assert peers.has_more("peer-0000001", Context({"gone-0000001": 8}))
    assert not peers.has_more("peer-0000001", Context({"gone-0000001": 9}))


def test_a_silent_replica_is_forgotten_after_a_while_and_one_that_leaves_at_once() -> None:
    peers = Peers("own-00000001", 100.0)
    silence = Heartbeat({}, 0, False, False)
    peers.receive("peer-0000001", silence, 0.0, is_signed=False)
    peers.receive("peer-0000002", silence, 90.0, is_signed=False)
    assert peers.remove_silent(101.0) == ["peer-0000001"]
    peers.receive("peer-0000002", Heartbeat({}, 0, False, True), 95.0, is_signed=False)
    assert peers.is_leaving("peer-0000002")
    peers.remove("peer-0000002")
    assert peers.ids == []


def test_the_number_of_peers_is_bounded_and_the_one_that_was_silent_longest_makes_room() -> None:
    peers = Peers("own-00000001", 100.0)
    for number in range(2000):
        peers.receive(f"peer-{number:07}", Heartbeat({}, 0, False, False), number, is_signed=False)
        peers.receive("peer-of-long", Heartbeat({}, 0, False, False), number, is_signed=False)
    assert len(peers.ids) == 1000
    assert {"peer-of-long", "peer-0001999"} <= set(peers.ids)


# --- who is heard


def test_a_replica_counts_once_a_signed_heartbeat_of_it_has_named_this_one() -> None:
    peers, other = Peers("own-00000001", 100.0), "peer-0000001"
    assert not peers.is_bound(other)
    assert peers.receive(other, Heartbeat({other: 3}, 0, False, False), 0.0), "it needs to hear from this one"
    assert not peers.is_bound(other)
    assert not peers.receive(other, Heartbeat({other: 3, "own-00000001": 0}, 0, False, False), 1.0)
    assert peers.is_bound(other)
    assert peers.receive(other, Heartbeat({other: 3}, 0, False, False), 2.0)
    assert peers.is_bound(other), "it has named this process once"
    peers.remove(other)
    assert not peers.is_bound(other)


def test_a_heartbeat_names_every_replica_that_is_heard_also_those_without_events() -> None:
    peers = Peers("own-00000001", 100.0)
    peers.receive("peer-0000001", Heartbeat({}, 0, False, False), 0.0)
    assert peers.heartbeat(Context()).vector == {"own-00000001": 0, "peer-0000001": 0}
    assert peers.heartbeat(Context({"own-00000001": 2}), names_idle=False).vector == {"own-00000001": 2}


def test_an_unsigned_heartbeat_counts_for_nothing_and_does_not_replace_a_signed_one() -> None:
    peers = Peers("own-00000001", 100.0)
    naming = Heartbeat({"own-00000001": 0}, 0, False, False)
    assert not peers.receive("old-00000001", naming, 0.0, is_signed=False)
    assert not peers.is_bound("old-00000001")
    assert not peers.is_signed("old-00000001")
    peers.receive("peer-0000001", naming, 0.0)
    forged = Heartbeat({"peer-0000001": 99}, 1, False, True)
    assert not peers.receive("peer-0000001", forged, 0.0, is_signed=False)
    assert peers.is_signed("peer-0000001")
    assert not peers.is_leaving("peer-0000001")


def test_replicas_that_do_not_name_this_one_for_a_while_are_told() -> None:
    peers = Peers("own-00000001", 100.0)
    for second in range(10):
        peers.receive("deaf-0000001", Heartbeat({}, 0, False, False), second)
        peers.receive("peer-0000001", Heartbeat({"own-00000001": 0}, 0, False, False), second)
        peers.receive("late-0000001", Heartbeat({"own-00000001": 0} if second > 3 else {}, 0, False, False), second)
    assert peers.deaf(9.0 - 2.5) == ["deaf-0000001"]
    assert peers.deaf(0.0) == []


def test_nothing_is_asked_of_a_replica_that_may_be_a_recording_and_it_is_soon_forgotten() -> None:
    peers, recorded = Peers("own-00000001", 1000.0), "gone-0000001"
    for _ in range(3):
        peers.receive(recorded, Heartbeat({recorded: 9}, 7, False, False), 0.0)
    assert (peers.ids, peers.unmet_ids) == ([], [recorded])
    assert not peers.has_more(recorded, Context())
    peers.confirm(Context({recorded: 9}))
    assert stable(peers, Context({recorded: 9})) == {recorded: 0}, "until it is forgotten, it may live"
    assert peers.remove_silent(29.0) == []
    assert peers.remove_silent(31.0) == [recorded]


def test_recordings_make_room_for_replicas_that_have_been_met() -> None:
    peers = Peers("own-00000001", 1000.0)
    peers.receive("peer-0000001", Heartbeat({"own-00000001": 0}, 0, False, False), 0.0)
    for number in range(2000):
        peers.receive(f"gone-{number:07}", Heartbeat({}, 0, False, False), 1.0 + number)
    assert peers.ids == ["peer-0000001"]


def test_heartbeats_that_name_very_many_replicas_make_room_for_each_other_and_not_for_those_that_deliver() -> None:
    peers = Peers("own-00000001", 1000.0)
    peers.receive("peer-0000001", Heartbeat({"own-00000001": 0}, 0, False, False), 0.0)
    peers.prove("peer-0000001")
    names = {f"gone-{number:07}": 1 for number in range(1999)}
    for number in range(300):
        peers.receive(f"mad-{number:08}", Heartbeat({"own-00000001": 0} | names, 0, False, False), 1.0 + number)
    assert peers.ids[0] == "peer-0000001"
    assert peers.ids[1:] == [f"mad-{number:08}" for number in range(176, 300)]
