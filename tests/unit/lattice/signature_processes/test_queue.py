"""The queue of signature checks: order, bounds, and that nothing leaves unchecked, whatever the helpers do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.lattice.signature_processes.helper import answer
from provider.lattice.signature_processes.packets import AnswerError, SignedBytes
from provider.lattice.signature_processes.queue import (
    FROZEN_SECONDS,
    MOST_BYTES_OUT,
    MOST_OUT_PER_HELPER,
    MOST_PER_BATCH,
    PATIENCE_SECONDS,
    SignatureQueue,
)

VALID, INVALID = b"\1" * 64, b"\0" * 64


@dataclass
class Item:
    """An invocation with a signature that is valid or not. Without a key it can only be checked in place."""

    number: int
    is_valid: bool = True
    arrived: float = 0.0
    size_bytes: int = 1000
    signed: bytes = b"signed"
    has_key: bool = True
    is_signed: bool | errors.InvocationError | None = None


@dataclass
class Checks:
    in_place: list[int] = field(default_factory=list)

    def signed_bytes(self, item: Item) -> SignedBytes | None:
        return (bytes(32), VALID if item.is_valid else INVALID, item.signed) if item.has_key else None

    def check_signature(self, item: Item) -> None:
        self.in_place.append(item.number)
        item.is_signed = item.is_valid


def verify(signature: bytes, signed: bytes, key: bytes) -> bool:
    return signature == VALID


class Lattice:
    """A queue, the packets on their way to each helper, and the invocations that have left."""

    def __init__(self, helpers: int = 0) -> None:
        self.checks = Checks()
        self.queue: SignatureQueue[Item] = SignatureQueue(self.checks)
        self.now = 0.0
        self.numbers = itertools.count()
        self.left: list[Item] = []
        self.sent: dict[int, list[bytes]] = {}
        for helper in range(helpers):
            self.add_helper(helper)

    def add_helper(self, helper: int) -> None:
        if helper not in self.sent:
            self.queue.add_helper(helper)
            self.sent[helper] = []

    def remove_helper(self, helper: int) -> None:
        self.queue.remove_helper(helper)
        self.sent.pop(helper, None)

    def arrive(self, count: int, *, is_valid: bool = True, size_bytes: int = 1000, has_key: bool = True) -> None:
        fresh = [
            Item(next(self.numbers), is_valid, self.now, size_bytes=size_bytes, has_key=has_key) for _ in range(count)
        ]
        self.queue.add(fresh)
        self.go_on()

    def reply(self, helper: int) -> None:
        """Have a helper answer the oldest batch that it has, and get the next one."""
        if self.sent.get(helper):
            self.queue.answered(helper, answer(self.sent[helper].pop(0), verify))
            self.go_on()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for helper in self.queue.pass_time(self.now):
            self.remove_helper(helper)
        self.go_on()

    def go_on(self) -> None:
        for helper, packet in self.queue.next_packets(self.now):
            self.sent[helper].append(packet)
        self.left += self.queue.take_checked()


ACTIONS = st.one_of(
    st.tuples(st.just("arrive"), st.integers(1, 70), st.booleans(), st.booleans()),
    st.tuples(st.just("reply"), st.integers(0, 2)),
    st.tuples(st.just("garbage"), st.integers(0, 2), st.binary(max_size=30)),
    st.tuples(st.just("add"), st.integers(0, 2)),
    st.tuples(st.just("remove"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.02, PATIENCE_SECONDS, FROZEN_SECONDS])),
    st.tuples(st.just("settle")),
)


@given(actions=st.lists(ACTIONS, max_size=40))
def test_everything_leaves_once_in_order_and_with_the_true_verdict_whatever_helpers_do(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    lattice = Lattice()
    arrived = 0
    for name, *arguments in actions:
        match name, arguments:
            case "arrive", [count, is_valid, has_key]:
                arrived += count
                lattice.arrive(count, is_valid=is_valid, has_key=has_key)
            case "garbage", [helper, packet] if helper in lattice.sent:
                with pytest.raises(AnswerError):
                    lattice.queue.answered(helper, packet)
                lattice.remove_helper(helper)
            case "settle", []:
                lattice.queue.settle()
                lattice.go_on()
                assert lattice.queue.is_empty
            case "reply" | "add" | "remove" | "wait", [value]:
                {
                    "reply": lattice.reply,
                    "add": lattice.add_helper,
                    "remove": lattice.remove_helper,
                    "wait": lattice.wait,
                }[name](value)
    lattice.go_on()
    lattice.wait(2 * PATIENCE_SECONDS)
    assert [item.number for item in lattice.left] == list(range(arrived))
    assert all(item.is_signed is item.is_valid for item in lattice.left)
    assert lattice.queue.is_empty
    assert lattice.queue.helped + len(lattice.checks.in_place) == arrived


def test_what_arrived_together_goes_out_in_batches_to_all_helpers_and_nothing_is_checked_in_place() -> None:
    lattice = Lattice(helpers=2)
    lattice.arrive(4 * MOST_PER_BATCH)
    assert [len(packets) for packets in lattice.sent.values()] == [2, 2]
    for _ in range(2):
        for helper in (1, 0):
            lattice.reply(helper)
    assert len(lattice.left) == 4 * MOST_PER_BATCH
    assert lattice.checks.in_place == []


def test_an_answer_that_comes_before_an_older_one_waits_for_it() -> None:
    lattice = Lattice(helpers=2)
    lattice.arrive(2 * MOST_PER_BATCH)
    lattice.reply(1)
    assert lattice.left == []
    lattice.reply(0)
    assert [item.number for item in lattice.left] == list(range(2 * MOST_PER_BATCH))


def test_what_a_helper_does_not_answer_in_time_is_checked_in_place_and_its_late_answer_is_dropped() -> None:
    lattice = Lattice(helpers=1)
    lattice.arrive(10)
    lattice.wait(PATIENCE_SECONDS)
    assert len(lattice.left) == len(lattice.checks.in_place) == 10
    lattice.arrive(5)
    assert len(lattice.left) == 15, "a helper that owes an answer gets nothing more, so there is none to wait for"
    lattice.reply(0)
    assert lattice.queue.helped == 0
    lattice.arrive(3)
    lattice.reply(0)
    assert lattice.queue.helped == 3, "it is used again"


def test_a_helper_that_owes_an_answer_for_long_is_to_be_ended_also_if_nothing_more_arrives() -> None:
    lattice = Lattice(helpers=1)
    lattice.arrive(2)
    assert lattice.queue.next_time() == PATIENCE_SECONDS
    lattice.wait(PATIENCE_SECONDS)
    assert lattice.queue.next_time() == FROZEN_SECONDS
    assert lattice.queue.pass_time(FROZEN_SECONDS) == [0]
    lattice.remove_helper(0)
    assert lattice.queue.next_time() is None


def test_one_that_waited_to_be_sent_is_not_given_more_time_than_the_others() -> None:
    lattice = Lattice(helpers=1)
    lattice.arrive(4 * MOST_PER_BATCH)
    lattice.now = PATIENCE_SECONDS - 0.01
    lattice.reply(0)
    lattice.wait(0.01)
    assert len(lattice.left) == 4 * MOST_PER_BATCH
    assert lattice.queue.is_empty


@pytest.mark.parametrize(("size_bytes", "most"), [(1000, MOST_OUT_PER_HELPER), (MOST_BYTES_OUT // 10, 10)])
def test_beyond_what_may_wait_they_are_checked_in_place_and_leave_in_order(size_bytes: int, most: int) -> None:
    lattice = Lattice(helpers=1)
    lattice.arrive(most + 20, size_bytes=size_bytes)
    assert lattice.checks.in_place == list(range(most, most + 20))
    assert lattice.left == []
    while lattice.sent[0]:
        lattice.reply(0)
    assert len(lattice.left) == most + 20
    lattice.arrive(2, size_bytes=size_bytes)
    assert len(lattice.checks.in_place) == 20, "the size that waits is that of what waits now"


def test_signed_bytes_that_are_very_long_are_checked_in_place() -> None:
    lattice = Lattice(helpers=1)
    lattice.queue.add([Item(0, signed=bytes(5000)), Item(1)])
    lattice.go_on()
    assert lattice.checks.in_place == [0]
    lattice.reply(0)
    assert [item.number for item in lattice.left] == [0, 1]


def test_what_needs_no_check_waits_for_its_turn_too() -> None:
    lattice = Lattice(helpers=1)
    lattice.queue.add([Item(0), Item(1, is_signed=False), Item(2)])
    lattice.go_on()
    assert lattice.left == []
    lattice.reply(0)
    assert [item.number for item in lattice.left] == [0, 1, 2]
    assert lattice.checks.in_place == []


def test_few_wait_for_the_answer_of_a_busy_helper_so_that_they_go_out_together() -> None:
    lattice = Lattice(helpers=1)
    lattice.arrive(4)
    for _ in range(3):
        lattice.arrive(5)
    assert len(lattice.sent[0]) == 1
    lattice.arrive(1)
    assert len(lattice.sent[0]) == 2
    lattice.reply(0)
    assert len(lattice.sent[0]) == 1
