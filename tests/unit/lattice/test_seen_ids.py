"""No id is served twice, whatever is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.lattice.seen_ids import SeenIds

steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(-12, 12), st.floats(0, 3, allow_nan=False)), min_size=1, max_size=200
)


def offer(memory: SeenIds, invocation_id: str, issued_at: int, now: float) -> bool:
    try:
        memory.admit(invocation_id, issued_at, now)
    except errors.InvocationDeniedError:
        return False
    return True


@given(steps, st.integers(3, 100))
def test_an_id_is_never_accepted_twice(moves: list[tuple[int, int, float]], maximum: int) -> None:
    memory = SeenIds(10, maximum)
    now, accepted = 1000.0, set[tuple[int, int]]()
    for identity, age, pause in moves:
        now += pause
        token = (identity, int(now) - age)
        if offer(memory, f"{token}", token[1], now):
            assert token not in accepted
            accepted.add(token)
        for old in accepted:
            assert not offer(memory, f"{old}", old[1], now)
        assert len(memory) <= maximum


@given(steps)
def test_a_fresh_id_of_accepted_age_is_accepted_while_there_is_room(moves: list[tuple[int, int, float]]) -> None:
    memory = SeenIds(10, 10_000)
    now = 1000.0
    for number, (_, age, pause) in enumerate(moves):
        now += pause
        issued_at = int(now) - age
        is_accepted_age = abs(now - issued_at) <= 10
        assert offer(memory, f"fresh {number}", issued_at, now) is is_accepted_age


def test_the_errors_name_the_difference_in_seconds() -> None:
    memory = SeenIds(120, 1000)
    with pytest.raises(errors.ClaimsTooOldError) as old:
        memory.admit("x", 1000, 1130.5)
    assert (old.value.difference_seconds, old.value.accepted_seconds) == (130, 120)
    with pytest.raises(errors.ClaimsTooEarlyError) as early:
        memory.admit("x", 1000, 700.0)
    assert (early.value.difference_seconds, early.value.accepted_seconds) == (300, 120)


def test_when_ids_are_forgotten_early_the_accepted_age_shrinks_with_them() -> None:
    memory = SeenIds(120, 10)
    for number in range(8):
        assert offer(memory, f"a{number}", 1000, 1050.0)
    for number in range(3):
        assert offer(memory, f"b{number}", 1040, 1050.0)
    with pytest.raises(errors.ClaimsTooOldError) as old:
        memory.admit("x", 1000, 1050.0)
    assert old.value.accepted_seconds == 49
    memory.admit("x", 1001, 1050.0)


def test_ids_older_than_the_window_take_no_room() -> None:
    memory = SeenIds(10, 1_000_000)
    for second in range(100):
        for number in range(50):
            assert offer(memory, f"{second}/{number}", second, float(second))
    assert len(memory) <= 50 * 12


def test_many_ids_of_one_second_are_distinguished() -> None:
    memory = SeenIds(120, 1_000_000)
    assert all(offer(memory, f"id {number}", 1000, 1000.0) for number in range(3000))
    assert not any(offer(memory, f"id {number}", 1000, 1000.0) for number in range(3000))
