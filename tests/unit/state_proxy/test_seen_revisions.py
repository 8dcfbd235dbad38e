"""The revision that a client's next write of a key requires, after its reads and writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider.state_proxy.seen_revisions import UNREAD_SECONDS, SeenRevisions

NOW = 1000.0


def expected(seen: SeenRevisions, key: str = "a", now: float = NOW) -> int | None:
    return seen.expected(key, now)


def test_a_key_that_was_neither_read_nor_written_may_be_overwritten() -> None:
    assert expected(SeenRevisions()) is None


def test_a_write_requires_the_revision_last_read_or_written() -> None:
    seen = SeenRevisions()
    seen.written("a", None, 3)
    assert expected(seen) == 3
    seen.read("a", 7)
    assert expected(seen) == 7
    seen.written("a", 7, 9)
    assert expected(seen) == 9


def test_of_two_writes_at_the_same_time_the_later_one_counts() -> None:
    seen = SeenRevisions()
    seen.written("a", None, 6)
    seen.written("a", None, 5)
    assert expected(seen) == 6


def test_a_write_keeps_the_revision_that_another_connection_has_read_meanwhile() -> None:
    for before in (None, 4):
        seen = SeenRevisions()
        if before:
            seen.read("a", before)
        seen.read("a", 3)
        seen.written("a", before, 5)
        assert expected(seen) == 3


def test_after_a_conflict_every_write_conflicts_until_the_key_is_read() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    for _ in range(2):
        seen.conflicted("a", 8, NOW)
        assert expected(seen, now=NOW + 1e9) == 4
    seen.read("a", 8)
    assert expected(seen) == 8


def test_a_client_that_never_reads_is_locked_out_only_for_a_time() -> None:
    seen = SeenRevisions()
    seen.written("a", None, 4)
    for later in range(int(UNREAD_SECONDS)):
        seen.conflicted("a", 8, NOW + later)
        assert expected(seen, now=NOW + later) == 4
    assert expected(seen, now=NOW + UNREAD_SECONDS) is None
    seen.written("a", None, 9)
    assert expected(seen, now=NOW + 1e9) == 9


def test_a_key_that_was_removed_may_be_created_anew_after_one_conflict() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.conflicted("a", 0, NOW)
    assert expected(seen, now=NOW + 1e9) == 0


def test_a_deleted_key_counts_as_never_read() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.forget("a")
    seen.conflicted("a", 8, NOW)
    assert expected(seen) is None


def test_only_absence_is_still_valid_in_a_recreated_bucket() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.written("b", None, 4)
    seen.read("c", 4)
    seen.conflicted("c", 0, NOW)
    seen.outdate()
    assert expected(seen) not in (None, *range(10))
    assert (expected(seen, "b"), expected(seen, "c"), expected(seen, "d")) == (None, 0, None)
    seen.read("a", 1)
    assert expected(seen) == 1


STEPS = st.lists(st.sampled_from(["read", "write", "write without reading", "delete"]), max_size=12)


@given(STEPS)
def test_no_write_after_a_read_overwrites_a_change_of_another_writer(steps: list[str]) -> None:
    """A revision that was read is given up only by reading again or deleting, whatever happens in between."""
    seen, revision, shown = SeenRevisions(), 1, 0
    for step in steps:
        match step:
            case "read":
                shown = revision
                seen.read("a", shown)
            case "delete":
                shown = 0
                seen.forget("a")
            case _:
                revision += 1  # another writer's
                wanted = expected(seen, now=NOW + 1e9)
                if shown:
                    assert wanted == shown
                if wanted is not None and wanted != revision:
                    seen.conflicted("a", revision, NOW)
