"""The rules of the design. Each can be taken out, to see the value that is lost without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The rules, all of them in force by default.

    Attributes:
        never_blind: A head is written in expectation of the revision that was read.
        never_nothing: Where no message stands, a marker is written first, and its revision expected.
        new_pages: After a lost compare-and-set all pages are new.
        certain_loss: Pages of an attempt are removed only if its first send was refused.
        grace: Replaced pages stay for a grace period.
        bounded_purge: Deleting a key removes its pages up to the sequence of the head that was deleted.
        pages_first: A round lists the pages before it reads the head.
        two_rounds: A page is removed only if a second round, a grace period later, finds it unreachable again.
        strong_head: A round reads the head under a lease.
        whole_walk: An inner page that cannot be read ends the round.
        fence: Before pages are removed that are younger than the head, the head is replaced by itself.
        own_id: The fence has no message id of the original.
        known_fence: A fence of which the outcome is unknown removes nothing.
        same_streams: After a stream was made anew, nothing is collected for a grace period.
        leased_absence: Absence of a page is believed only under a lease of the pages' stream.
        head_again: Before a value counts as damaged, the head is read again.
    """

    never_blind: bool = True
    never_nothing: bool = True
    new_pages: bool = True
    certain_loss: bool = True
    grace: bool = True
    bounded_purge: bool = True
    pages_first: bool = True
    two_rounds: bool = True
    strong_head: bool = True
    whole_walk: bool = True
    fence: bool = True
    own_id: bool = True
    known_fence: bool = True
    same_streams: bool = True
    leased_absence: bool = True
    head_again: bool = True


ALL = Rules()

GRACE = 1
"""The grace period, in ticks of the model's clock."""
