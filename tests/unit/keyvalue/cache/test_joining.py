"""When a joiner has caught up, whatever the replicas that it hears announce, deliver or keep to themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.cache.messages import Heartbeat
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.trust.joining import OTHERS_SECONDS, Joining

OWN = "own-00000001"
names = st.integers(0, 9).map("peer-{:07}".format)
outcomes = st.lists(st.tuples(names, st.booleans(), st.floats(0, 1)), max_size=60)


def heard(*peers: str) -> Peers:
    found = Peers(OWN, 1000.0)
    for peer in peers:
        found.receive(peer, Heartbeat({OWN: 0}, 0, False, False), 0.0)
    return found


def test_a_joiner_that_hears_no_other_replica_cannot_tell() -> None:
    assert not Joining(heard(), lambda peer: True).has_caught_up(1e9)


def test_a_joiner_has_caught_up_at_once_if_no_replica_has_more() -> None:
    assert Joining(heard("a-0000000001"), lambda peer: False).has_caught_up(0.0)


def test_a_replica_that_brings_nothing_does_not_stand_for_one_that_is_still_to_deliver() -> None:
    joining = Joining(heard("empty-000001", "whole-000001"), lambda peer: peer == "whole-000001")
    joining.note("empty-000001", is_done=True, has_values=False, now=0.0)
    assert not joining.has_caught_up(0.5)
    joining.note("whole-000001", is_done=True, has_values=True, now=1.0)
    assert joining.has_caught_up(1.0)


def test_a_transfer_without_values_has_the_others_waited_for_longer() -> None:
    joining = Joining(heard("empty-000001", "whole-000001"), lambda peer: peer == "whole-000001")
    joining.note("empty-000001", is_done=True, has_values=False, now=0.0)
    assert not joining.has_caught_up(2 * OTHERS_SECONDS)
    assert joining.has_caught_up(4 * OTHERS_SECONDS)


def test_a_replica_that_failed_once_is_waited_for_only_while_no_other_has_delivered() -> None:
    joining = Joining(heard("a-0000000001", "b-0000000001"), lambda peer: True)
    joining.note("a-0000000001", is_done=False, has_values=False, now=0.0)
    joining.note("b-0000000001", is_done=False, has_values=False, now=0.0)
    assert not joining.has_caught_up(60.0)
    joining.note("b-0000000001", is_done=True, has_values=True, now=61.0)
    assert joining.has_caught_up(61.0)


@given(st.sets(names, min_size=1), outcomes)
def test_a_joiner_that_was_delivered_to_waits_a_few_seconds_for_the_others_and_no_longer(
    peers: set[str], steps: list[tuple[str, bool, float]]
) -> None:
    joining, now = Joining(heard(*peers, "good-0000001"), lambda peer: True), 0.0
    joining.note("good-0000001", is_done=True, has_values=True, now=now)
    for peer, is_done, seconds in steps:
        now += seconds
        joining.note(peer, is_done=is_done, has_values=is_done, now=now)
        if now >= OTHERS_SECONDS:
            assert joining.has_caught_up(now)
    assert joining.has_caught_up(now + OTHERS_SECONDS)


@given(st.sets(names, min_size=1), outcomes)
def test_a_joiner_to_which_nothing_was_delivered_has_asked_every_replica_repeatedly(
    peers: set[str], steps: list[tuple[str, bool, float]]
) -> None:
    joining = Joining(heard(*peers), lambda peer: True)
    failures = dict.fromkeys(peers, 0)
    for peer, _, seconds in steps:
        joining.note(peer, is_done=False, has_values=False, now=seconds)
        failures[peer] = failures.get(peer, 0) + 1
        assert joining.has_caught_up(seconds) == all(failures[peer] >= 3 for peer in peers)
