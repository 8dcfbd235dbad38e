"""The revision that a client's next write of a key requires, after its reads and writes."""

from __future__ import annotations

from provider.state_proxy.seen_revisions import SeenRevisions


def test_a_key_that_was_never_read_may_be_overwritten() -> None:
    seen = SeenRevisions()
    assert seen.expected("a") is None
    seen.written("a", None, 5)
    assert seen.expected("a") is None


def test_a_write_requires_the_revision_last_read_or_written_since() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.read("a", 7)
    assert seen.expected("a") == 7
    seen.written("a", 7, 9)
    assert seen.expected("a") == 9


def test_absence_is_seen_too() -> None:
    seen = SeenRevisions()
    seen.read("a", 0)
    seen.found_absent("b")
    assert (seen.expected("a"), seen.expected("b")) == (0, 0)


def test_a_lookup_that_finds_nothing_keeps_the_revision_of_an_earlier_read() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.found_absent("a")
    assert seen.expected("a") == 4


def test_a_write_keeps_the_revision_that_another_connection_has_read_meanwhile() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.read("a", 3)
    seen.written("a", 4, 5)
    assert seen.expected("a") == 3


def test_after_a_conflict_a_key_counts_as_never_read() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.forget("a")
    seen.forget("a")
    assert seen.expected("a") is None


def test_only_absence_is_still_valid_in_a_recreated_bucket() -> None:
    seen = SeenRevisions()
    seen.read("a", 4)
    seen.read("b", 0)
    seen.outdate()
    assert seen.expected("a") not in (None, *range(10))
    assert (seen.expected("b"), seen.expected("c")) == (0, None)
    seen.read("a", 1)
    assert seen.expected("a") == 1
