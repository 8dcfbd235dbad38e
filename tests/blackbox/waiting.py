"""Waits for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 10.0
_POLL_SECONDS = 0.01


async def eventually(condition: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Wait until a condition, plain or awaitable, is truthy, and return its value.

    Raises:
        AssertionError: The deadline has passed. The text names the condition and its last value.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        found = condition()
        value = await found if isinstance(found, Awaitable) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {deadline_seconds} s; last: {value!r}")
        await asyncio.sleep(_POLL_SECONDS)


def eventually_blocking(
    condition: Callable[[], T], what: str, deadline_seconds: float = DEADLINE_SECONDS, poll_seconds: float = 0.005
) -> T:
    """Do the same without an event loop."""
    deadline = time.monotonic() + deadline_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {deadline_seconds} s")
        time.sleep(poll_seconds)
    return value
