"""The bounded memory of keys, and the keys that must be read before they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.state_proxy.key_memory import KeyMemory, UnansweredReads


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=8), st.integers(0, 99), st.booleans())))
def test_the_most_recent_keys_are_remembered_within_both_bounds(steps: list[tuple[str, int, bool]]) -> None:
    memory: KeyMemory[int] = KeyMemory(max_keys=4, max_bytes=16)
    model: dict[str, int] = {}
    for key, known, is_put in steps:
        model.pop(key, None)
        if is_put:
            memory.put(key, known)
            model[key] = known
        else:
            memory.drop(key)
        while len(model) > 4 or sum(map(len, model)) > 16:
            del model[next(iter(model))]
        assert len(memory) == len(model)
        assert all(memory.get(known) == value for known, value in model.items())


@pytest.mark.parametrize(
    ("steps", "is_refused"),
    [
        ("", False),
        ("Lf", True),
        ("Rf", True),
        ("Lf La", False),
        ("Lf Ra", False),
        ("Rf La", True),
        ("Rf Ra", False),
        ("Rf Lf La", True),
        ("Lf Rf La", True),
        ("Rf Ra Lf", True),
        ("Ra La", False),
    ],
)
def test_after_a_failed_lookup_or_read_the_same_must_succeed_before_a_write(steps: str, is_refused: bool) -> None:
    """L: lookup, R: read; f: failed, a: answered."""
    unanswered = UnansweredReads()
    for step in steps.split():
        note = unanswered.failed if step[1] == "f" else unanswered.answered
        note("key", is_read=step[0] == "R")
    assert ("key" in unanswered) == is_refused
    assert "other" not in unanswered
