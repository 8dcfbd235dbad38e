"""The checker accepts linearizable histories and refuses all others."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.linearizability import checker
from tests.linearizability.checker import UndecidedError, check, check_key
from tests.linearizability.history import Operation, Outcome, save
from tests.linearizability.model import READS, State, step

Call = tuple[str, Any]
MEMBERS = ("a", "b", "c")


class Script:
    """A history written by hand, with times in whole seconds."""

    def __init__(self, key: str = "k") -> None:
        self.operations: list[Operation] = []
        self._key = key

    def _add(self, times: tuple[float, float], call: Call, outcome: Outcome, result: Any) -> Script:
        number = len(self.operations)
        self.operations.append(Operation(number, f"c{number}", self._key, *call, *times, outcome, result))
        return self

    def answered(self, invoked: float, returned: float, name: str, argument: Any, result: Any) -> Script:
        return self._add((invoked, returned), (name, argument), Outcome.ANSWERED, result)

    def unknown(self, invoked: float, returned: float, name: str, argument: Any) -> Script:
        return self._add((invoked, returned), (name, argument), Outcome.UNKNOWN, "outcome unknown")

    def refused(self, invoked: float, returned: float, name: str, argument: Any) -> Script:
        return self._add((invoked, returned), (name, argument), Outcome.REFUSED, "store unreachable")

    @property
    def is_accepted(self) -> bool:
        return check_key(self.operations) is None


# --- by hand


def test_an_empty_history_is_accepted() -> None:
    assert check([]) == []


def test_a_read_may_see_either_side_of_a_write_that_overlaps_it() -> None:
    for seen in (None, "x"):
        assert Script().answered(0, 9, "Set", "x", None).answered(1, 2, "Get", None, seen).is_accepted


def test_a_read_after_an_acknowledged_write_must_see_it() -> None:
    script = Script().answered(0, 1, "Set", "x", None).answered(2, 3, "Set", "y", None)
    assert not script.answered(4, 5, "Get", None, "x").is_accepted


def test_a_write_of_the_current_value_may_take_effect_after_another_write() -> None:
    script = Script().answered(0, 1, "Set", "x", None).answered(2, 2, "Set", "y", None)
    assert script.answered(2, 3, "Set", "x", None).answered(4, 4, "Get", None, "x").is_accepted


def test_two_reads_may_not_go_back_while_a_write_is_under_way() -> None:
    script = Script().answered(0, 9, "Set", "x", None).answered(1, 2, "Get", None, "x")
    assert not script.answered(3, 4, "Get", None, None).is_accepted


def test_two_readers_may_not_see_two_writes_in_opposite_orders() -> None:
    script = Script().answered(0, 9, "Set", "x", None).answered(0, 9, "Set", "y", None)
    script.answered(1, 2, "Get", None, "x").answered(3, 4, "Get", None, "y")
    assert script.is_accepted
    assert not script.answered(5, 6, "Get", None, "x").is_accepted


def test_a_lost_update_is_refused() -> None:
    script = Script().answered(0, 2, "Increment", 1, 1).answered(1, 3, "Increment", 1, 1)
    assert not script.is_accepted


def test_an_increment_that_happened_twice_is_refused() -> None:
    script = Script().answered(0, 1, "Increment", 1, 1).answered(2, 3, "Increment", 1, 3)
    assert not script.is_accepted


def test_a_torn_set_is_refused() -> None:
    script = Script().answered(0, 1, "SetAdd", "a", 1).answered(2, 3, "SetAdd", "b", 1)
    assert not script.answered(4, 5, "SetQuery", None, frozenset("b")).is_accepted


def test_a_refused_write_that_is_seen_is_a_violation() -> None:
    script = Script().refused(0, 1, "Set", "x")
    assert not script.answered(2, 3, "Get", None, "x").is_accepted


def test_a_write_of_unknown_outcome_may_happen_late_or_never_but_not_twice() -> None:
    def script() -> Script:
        return Script().unknown(0, 1, "Set", "x").answered(2, 3, "Get", None, None)

    assert script().is_accepted
    late = script().answered(4, 5, "Get", None, "x")
    assert late.is_accepted
    assert late.answered(6, 7, "Set", "y", None).answered(8, 9, "Get", None, "y").is_accepted
    assert not late.answered(10, 11, "Get", None, "x").is_accepted


def test_a_write_does_not_happen_before_it_is_invoked() -> None:
    assert not Script().answered(0, 1, "Get", None, "x").unknown(2, 3, "Set", "x").is_accepted


def test_increments_of_unknown_outcome_explain_a_total_up_to_their_number() -> None:
    script = Script()
    for _ in range(30):
        script.unknown(0, 1, "Increment", 1)
    assert script.answered(2, 3, "Get", None, "30").is_accepted
    assert not script.answered(4, 5, "Increment", 1, 32).is_accepted


def test_many_writes_of_unknown_outcome_are_decided() -> None:
    script = Script()
    for number in range(40):
        script.unknown(number, number + 1, "Set", f"lost-{number}")
        script.answered(number + 0.2, number + 0.4, "Set", f"kept-{number}", None)
        script.answered(number + 0.6, number + 0.8, "Get", None, f"kept-{number}")
    assert script.is_accepted


def test_each_key_is_checked_by_itself() -> None:
    good = Script("good").answered(0, 1, "Set", "x", None)
    bad = Script("bad").answered(2, 3, "Get", None, "x")
    violations = check([*good.operations, *bad.operations])
    assert [violation.operation.key for violation in violations] == ["bad"]


def test_an_undecided_history_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "MAX_CONFIGURATIONS", 100)
    script = Script()
    for number in range(12):
        script.answered(0, 9, "Set", str(number), None)
    with pytest.raises(UndecidedError):
        check(script.operations)


def test_a_violation_is_readable() -> None:
    script = Script().answered(0, 1, "Set", "old", None).answered(2, 3, "Set", "new", None)
    script.answered(4, 5, "Contains", None, True).answered(4.5, 6, "Get", None, "old")
    (violation,) = check(script.operations)
    assert violation.operation.result == "old"
    assert violation.states == ["new"]
    assert violation.certain == "new"
    assert "Set 'old'" in str(violation)
    assert "Contains" in str(violation)


def test_a_history_is_saved_line_by_line(tmp_path: Path) -> None:
    script = Script().answered(2, 3, "SetQuery", None, frozenset("ba")).refused(0, 1, "SetAdd", "c")
    save(script.operations, tmp_path / "history.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["refused", "answered"]
    assert lines[1]["result"] == ["a", "b"]


# --- generated: sequential calls, then overlapping

CALLS = {
    "text": st.sampled_from([("Get", None), ("Set", "x"), ("Set", "y"), ("Del", None), ("Contains", None)]),
    "count": st.sampled_from([("Get", None), ("Increment", 1), ("Increment", 5), ("Del", None)]),
    "list": st.sampled_from([("ListRange", None), ("ListAdd", "a"), ("ListAdd", "b"), ("ListClear", None)]),
    "set": st.sampled_from(
        [("SetQuery", None), ("SetClear", None)] + [(name, m) for name in ("SetAdd", "SetDel") for m in MEMBERS]
    ),
}


@st.composite
def histories(draw: st.DrawFn, max_size: int = 25) -> list[Operation]:
    """Generate a history: carry calls out one after the other, each at a moment of its duration."""
    calls = draw(st.lists(CALLS[draw(st.sampled_from(sorted(CALLS)))], max_size=max_size))
    state: State = None
    operations = []
    for number, (name, argument) in enumerate(calls):
        outcome = draw(st.sampled_from([Outcome.ANSWERED] * 6 + [Outcome.UNKNOWN, Outcome.REFUSED]))
        before, after = draw(st.floats(0, 4)), draw(st.floats(0, 4))
        result: Any = "no answer"
        if outcome is Outcome.ANSWERED or (outcome is Outcome.UNKNOWN and draw(st.booleans())):
            state, answer = step(state, name, argument)
            result = answer if outcome is Outcome.ANSWERED else result
        gives_up = -before / 2 if outcome is Outcome.UNKNOWN else after
        times = number - before, number + gives_up
        operations.append(Operation(number, f"c{number}", "k", name, argument, *times, outcome, result))
    return operations


@given(histories())
def test_a_history_with_a_sequential_order_is_accepted_however_its_calls_overlap(history: list[Operation]) -> None:
    assert check_key(history) is None


@given(histories(max_size=6), st.data())
@settings(max_examples=200)
def test_the_search_agrees_with_trying_every_order(history: list[Operation], data: st.DataObject) -> None:
    answered = [operation for operation in history if operation.outcome is Outcome.ANSWERED]
    assume(answered)
    chosen, other = (data.draw(st.sampled_from(answered)) for _ in range(2))
    history = [replace(operation, result=other.result) if operation is chosen else operation for operation in history]
    assert (check_key(history) is None) == is_linearizable_by_trying(history)


def is_linearizable_by_trying(history: list[Operation]) -> bool:
    """Try every order of every choice of unknown operations."""
    answered = [operation for operation in history if operation.outcome is Outcome.ANSWERED]
    unknown = [operation for operation in history if operation.outcome is Outcome.UNKNOWN]
    return any(
        fits(order)
        for count in range(len(unknown) + 1)
        for chosen in itertools.combinations(unknown, count)
        for order in itertools.permutations([*answered, *chosen])
    )


def fits(order: tuple[Operation, ...]) -> bool:
    state: State = None
    for position, operation in enumerate(order):
        if any(ended_before(later, operation) for later in order[position + 1 :]):
            return False
        state, result = step(state, operation.name, operation.argument)
        if operation.outcome is Outcome.ANSWERED and result != operation.result:
            return False
    return True


def ended_before(one: Operation, other: Operation) -> bool:
    return one.outcome is Outcome.ANSWERED and one.returned < other.invoked


def one_by_one(*calls: Call) -> list[Operation]:
    """Carry calls out with pauses between them, so that only one order is possible."""
    state: State = None
    operations = []
    for number, (name, argument) in enumerate(calls):
        state, result = step(state, name, argument)
        times = number, number + 0.5
        operations.append(Operation(number, "c", "k", name, argument, *times, Outcome.ANSWERED, result))
    return operations


texts = st.integers(3, 20).map(lambda count: one_by_one(*(("Set", f"v{n}") for n in range(count)), ("Get", None)))
totals = st.lists(st.integers(1, 9), min_size=2, max_size=20).map(
    lambda amounts: one_by_one(*(("Increment", amount) for amount in amounts), ("Get", None))
)
member_sets = st.integers(2, 20).map(
    lambda count: one_by_one(*(("SetAdd", f"m{n}") for n in range(count)), ("SetQuery", None))
)


def index_of_a_write(history: list[Operation], data: st.DataObject) -> int:
    return data.draw(st.sampled_from([at for at, operation in enumerate(history) if operation.name not in READS]))


@given(st.one_of(totals, member_sets), st.data())
def test_dropping_any_update_is_noticed(history: list[Operation], data: st.DataObject) -> None:
    """An acknowledged update that later answers contain is made refused, or removed from the history."""
    at = index_of_a_write(history, data)
    assert check_key(history[:at] + history[at + 1 :]) is not None
    ghost = replace(history[at], outcome=Outcome.REFUSED, result="store unreachable")
    assert check_key([*history[:at], ghost, *history[at + 1 :]]) is not None
    unknown = replace(history[at], outcome=Outcome.UNKNOWN, result="outcome unknown")
    assert check_key([*history[:at], unknown, *history[at + 1 :]]) is None


@given(totals, st.data())
def test_an_extra_increment_is_noticed(history: list[Operation], data: st.DataObject) -> None:
    at = index_of_a_write(history, data)
    extra = replace(history[at], number=len(history))
    assert check_key([*history, extra]) is not None


@given(texts, st.data())
def test_any_stale_read_is_noticed(history: list[Operation], data: st.DataObject) -> None:
    read = history[-1]
    stale = data.draw(st.sampled_from([operation.argument for operation in history[:-2]]))
    assert check_key([*history[:-1], replace(read, result=stale)]) is not None
    assert check_key([*history[:-1], replace(read, result=None)]) is not None


@given(member_sets, st.data())
def test_any_torn_set_is_noticed(history: list[Operation], data: st.DataObject) -> None:
    query = history[-1]
    missing = data.draw(st.sampled_from(sorted(query.result)))
    assert check_key([*history[:-1], replace(query, result=query.result - {missing})]) is not None


@given(histories(), st.data())
def test_an_impossible_answer_is_noticed(history: list[Operation], data: st.DataObject) -> None:
    answered = [at for at, operation in enumerate(history) if operation.outcome is Outcome.ANSWERED]
    assume(answered)
    at = data.draw(st.sampled_from(answered))
    assert check_key([*history[:at], replace(history[at], result="nobody"), *history[at + 1 :]]) is not None
