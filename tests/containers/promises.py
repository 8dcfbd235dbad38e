"""Time limits of the tier's tests, with slack for two cores that are shared with others."""

from __future__ import annotations

ANSWER_SECONDS = 2.5
"""Longest time of a call while the provider lives, whatever happens. Callers wait two seconds, on all hosts."""

SERVED_AGAIN_SECONDS = 40.0
"""Time from a fault until the remaining servers answer. An election takes at least four seconds, and is repeated on a busy machine."""

TOGETHER_AGAIN_SECONDS = 30.0
"""Time from the repair of a network until delayed data has arrived. TCP waits longer after each attempt."""
