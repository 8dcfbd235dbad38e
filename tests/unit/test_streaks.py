"""Failures in a row, of which health tells."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.streaks import FailureStreak

REFUSED = errors.StoreRefusedError("no")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.booleans(), max_size=30))
def test_only_three_failures_without_a_success_after_them_are_told(outcomes: list[bool]) -> None:
    streak = FailureStreak("writes", Clock())
    for is_success in outcomes:
        if is_success:
            streak.succeeded()
        else:
            streak.failed(REFUSED)
    since = outcomes[len(outcomes) - outcomes[::-1].index(True) :] if True in outcomes else outcomes
    assert (streak.reason is not None) == (len(since) >= 3)


def test_health_has_the_number_the_age_and_the_reason_of_the_last_failure() -> None:
    clock = Clock()
    streak = FailureStreak("writes", clock)
    for error in (errors.StoreUnreachableError("gone"), REFUSED, errors.StoreFullError("no room")):
        streak.failed(error)
    clock.now += 4
    assert streak.reason == "writes: the last 3 failed, the latest 4 s ago: store is full: no room; nothing was changed"
    assert streak.is_refused


def test_old_failures_are_not_told_until_there_is_another_one() -> None:
    clock = Clock()
    streak = FailureStreak("writes", clock)
    for _ in range(3):
        streak.failed(REFUSED)
    clock.now += 301
    assert streak.reason is None
    streak.failed(REFUSED)
    assert streak.reason is not None


def test_the_log_has_one_line_for_many_failures_and_one_for_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    streak = FailureStreak("reads", Clock())
    for _ in range(50):
        streak.failed(REFUSED)
    streak.succeeded()
    streak.failed(REFUSED)
    streak.succeeded()
    assert [record.message for record in caplog.records] == ["keeps_failing", "works_again"]
