"""The discarding of tombstones: of deleted keys, and of removed tallies. Pure.

A deleted key needs a tombstone so that the replicas which still have the key are told of the deletion: the journals
name the key, and its cell is sent empty. A tombstone may go when its removal is causally stable, that is, when every
replica has applied it. It may also go early, when there are too many. In both cases `ReplicaState.discarded` notes up
to which event. A replica that has not applied that event is sent all keys, and removes those that it is not sent.

Source: Baquero, Almeida, Shoker, "Pure operation-based replicated data types" (2017), for causal stability.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from provider.keyvalue.cache.state import ReplicaState

_MIN_TOMBSTONES = 10_000
"""Tombstones that are always kept until their removal is stable; beyond that, as many as there are keys.

At about 100 bytes each they take a megabyte, and a replica that is cut off for a while need not be sent all keys.
"""


def discard_tombstones(state: ReplicaState, stable: Callable[[str], int], limit: int) -> int:
    """Discard the tombstones whose removal every replica has applied, and the oldest if there are too many.

    Args:
        state: State of the replica.
        stable: Function that returns, for a replica, the last of its events that every replica has applied.
        limit: Number of tombstones to look at, as this takes time on the event loop.

    Returns:
        Number of tombstones discarded. If it is the limit, there may be more to discard.
    """
    discarded = _discard_keys(state, stable, limit)
    return max(discarded, _discard_tallies(state, stable, limit))


def note_discarded(state: ReplicaState, replica: str, count: int) -> None:
    """Note that the tombstone of an event has been discarded, here or by a replica whose state was merged."""
    state.discarded[replica] = max(count, state.discarded.get(replica, 0))


def _discard_keys(state: ReplicaState, stable: Callable[[str], int], limit: int) -> int:
    excess = len(state.key_tombstones) - max(_MIN_TOMBSTONES, len(state.cells))
    discarded = 0
    for key in list(itertools.islice(state.key_tombstones, limit)):
        vector = state.journals.vector(key)
        is_stable = all(count <= stable(replica) for replica, count in vector.items())
        if not _expects_events(state, key) and (excess > 0 or is_stable):
            excess -= 1
            discarded += 1
            _discard_key(state, key, vector)
        else:
            # Look at it again after the others.
            state.key_tombstones[key] = state.key_tombstones.pop(key)
    return discarded


def _expects_events(state: ReplicaState, key: str) -> bool:
    """Tell whether a removal under a key arrived before the item that it removes. The key must be kept until that arrives."""
    cell = state.cells.get(key)
    starts = cell.tallies if cell is not None and cell.tallies is not None else ()
    return key in state.deferred or any(not state.context.has(*start) for start in starts)


def _discard_key(state: ReplicaState, key: str, vector: Mapping[str, int]) -> None:
    for replica, count in vector.items():
        note_discarded(state, replica, count)
    state.journals.forget(key)
    cell = state.cells.get(key)
    if cell is not None:
        for start in list(cell.tallies or ()):
            state.drop_tally(cell, start)
        state.drop_cell(key)
    state.key_tombstones.pop(key, None)


def _discard_tallies(state: ReplicaState, stable: Callable[[str], int], limit: int) -> int:
    """Discard the tombstones of tallies under keys that hold a value; those under deleted keys go with the key."""
    excess = len(state.tally_tombstones) - max(_MIN_TOMBSTONES, len(state.cells))
    discarded = 0
    for _ in range(min(limit, len(state.tally_tombstones))):
        by, key, start = state.tally_tombstones.popleft()
        cell = state.cells.get(key)
        tally = cell.tally(start) if cell is not None else None
        if cell is None or tally is None or not tally.is_removed:
            # The tally is gone, or its replica has counted on: there is no tombstone any more.
            discarded += 1
        elif key in state.key_tombstones or not state.context.has(*start) or (excess <= 0 and by[1] > stable(by[0])):
            state.tally_tombstones.append((by, key, start))
        else:
            excess -= 1
            discarded += 1
            state.drop_tally(cell, start)
            note_discarded(state, *by)
    return discarded
