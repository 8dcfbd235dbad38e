"""The values that a provider has to remove: found when they are due, bounded in memory, none lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.bucket.ttl import Due, Expirations

EVERY = 10**6


def test_a_value_is_due_at_its_time_and_only_once() -> None:
    expirations = Expirations()
    expirations.note("a", 1, 2_000)
    expirations.note("b", 2, 1_000)
    assert expirations.take_due(999, EVERY) == []
    assert expirations.take_due(1_000, EVERY) == [Due("b", 2)]
    assert expirations.take_due(5_000, EVERY) == [Due("a", 1)]
    assert expirations.take_due(5_000, EVERY) == []


def test_a_later_revision_replaces_an_earlier_one_and_never_the_reverse() -> None:
    expirations = Expirations()
    expirations.note("a", 5, 2_000)
    expirations.note("a", 4, 1_000)
    expirations.drop("a", 4)
    assert expirations.take_due(9_000, EVERY) == [Due("a", 5)]
    expirations.note("a", 6, 3_000)
    expirations.drop("a", 7)
    assert not expirations.has("a")


def test_of_two_times_for_one_revision_the_earlier_counts() -> None:
    expirations = Expirations()
    expirations.note("a", 5, 2_000)
    expirations.note("a", 5, 62_000)
    assert expirations.take_due(2_000, EVERY) == [Due("a", 5)]


def test_no_more_values_are_taken_than_asked_for() -> None:
    expirations = Expirations()
    for number in range(10):
        expirations.note(str(number), number + 1, 1_000)
    assert [len(expirations.take_due(1_000, 4)) for _ in range(4)] == [4, 4, 2, 0]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60), st.integers(2, 8))
def test_every_value_is_removed_with_few_in_memory_since_the_bucket_is_scanned_again(
    ends: list[int], most: int
) -> None:
    stored = {str(number): (number + 1, end_ms) for number, end_ms in enumerate(ends)}
    expirations = Expirations(most)
    now_ms = 0
    for _ in range(4 * len(ends)):
        after = expirations.begin_scan(now_ms)
        for key, (revision, end_ms) in stored.items():
            if revision > after:
                expirations.note(key, revision, end_ms)
                expirations.scanned = revision
        for due in expirations.take_due(now_ms, EVERY):
            assert stored.pop(due.bucket_key)[1] <= now_ms
        if not stored:
            break
        now_ms = max(now_ms, min(end_ms for _, end_ms in stored.values()))
    assert not stored
