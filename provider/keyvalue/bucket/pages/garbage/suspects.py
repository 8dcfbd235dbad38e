"""The decision which pages of a key may be removed. Pure.

A writer puts pages first and their head last. So a page that no head reaches is garbage, or its writer is still at work. The
collector tells the two apart by three rules, which `tests/unit/keyvalue/bucket/pages/model` takes out one by one:

- A page is a suspect when it is found unreachable, and is removed only if a later round, at least a grace period after, finds
  it unreachable again. By then its writer has ended, or is paused.
- A paused writer expects the revision that stood under the key before it put its pages. If the last message of the key is
  younger than the pages, that revision is gone, and the writer cannot commit. Otherwise a fence has to replace the message.
- Where no message stands, the revision that any writer expects is gone too: no head is written in expectation of nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from provider.keyvalue.bucket.pages.paged_value import PageId

_MOST_SUSPECTS = 100_000
"""Pages that are remembered between rounds: some 20 MB. The others are suspected in a later round."""


class PageSeen(NamedTuple):
    """A page of a key, and when it was stored by the server's clock."""

    page_id: PageId
    time_ms: int


class HeadSeen(NamedTuple):
    """The last message of a key, read under a lease after its pages were listed. `revision` is 0 if there is no message."""

    revision: int
    time_ms: int


class Verdict(NamedTuple):
    """The pages that may be removed, once the fence is there if one is needed."""

    removable: tuple[PageId, ...] = ()
    needs_fence: bool = False


class Suspect(NamedTuple):
    """The first round that found a page unreachable: its time, and the revision of the key's last message in it."""

    since: float
    revision: int


Known = Mapping[PageId, Suspect]
"""The suspects of one key."""


class Round(NamedTuple):
    """The findings of one round for one key.

    Attributes:
        pages: All pages of the key, listed before its head was read.
        reachable: The pages that the head reaches.
        head: The key's last message.
        now: Time of the round in seconds, by any clock that only goes forward.
        has_one_clock: Whether one server has given both streams their times.
    """

    pages: Sequence[PageSeen]
    reachable: Collection[PageId]
    head: HeadSeen
    now: float
    has_one_clock: bool


def suspects_after(known: Known, found: Round, most: int) -> Known:
    """Return the suspects after a round, `most` new ones at most. A page that is gone or was reached is no suspect any more."""
    suspects: dict[PageId, Suspect] = {}
    for page_id, _ in found.pages:
        if page_id not in found.reachable and (page_id in known or len(suspects) < most):
            suspects[page_id] = known.get(page_id) or Suspect(found.now, found.head.revision)
    return suspects


def verdict_of(known: Known, found: Round, grace_seconds: float) -> Verdict:
    """Return the pages that may be removed.

    Args:
        known: The suspects of earlier rounds.
        found: The findings of this round.
        grace_seconds: Least time between the two rounds that have to find a page unreachable.
    """
    due = [
        page
        for page in found.pages
        if page.page_id not in found.reachable
        and page.page_id in known
        and found.now - known[page.page_id].since >= grace_seconds
    ]
    if not due:
        return Verdict()
    head = found.head
    # Each page was there before its first round read the head. So a head of a later revision is younger than the page.
    is_younger = head.revision > max(known[page.page_id].revision for page in due) or (
        found.has_one_clock and head.time_ms > max(page.time_ms for page in due)
    )
    return Verdict(tuple(page.page_id for page in due), head.revision > 0 and not is_younger)


class Suspects:
    """The pages that earlier rounds of one collector found unreachable.

    Args:
        grace_seconds: Least time between the two rounds that have to find a page unreachable.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._known: dict[str, Known] = {}
        self.count = 0
        """Number of suspects."""

    def forget(self) -> None:
        """Begin anew: the streams are others than before."""
        self._known.clear()
        self.count = 0

    def keep(self, bucket_keys: Collection[str]) -> None:
        """Forget all other keys: they have no pages any more."""
        for bucket_key in self._known.keys() - set(bucket_keys):
            self.count -= len(self._known.pop(bucket_key))

    def judge(self, bucket_key: str, found: Round) -> Verdict:
        """Take the findings of a round for one key, and return the pages that may be removed."""
        earlier = self._known.pop(bucket_key, {})
        self.count -= len(earlier)
        suspects = suspects_after(earlier, found, _MOST_SUSPECTS - self.count)
        if suspects:
            self._known[bucket_key] = suspects
            self.count += len(suspects)
        return verdict_of(earlier, found, self._grace_seconds)
