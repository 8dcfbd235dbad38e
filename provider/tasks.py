"""Ownership of the tasks that outlive a call: they are awaited at the end, and every failure is logged. And the first task of a command."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from provider.interrupts import starting

T = TypeVar("T")

_log = logging.getLogger(__name__)

_CANCEL_AGAIN_SECONDS = 0.02
"""Longer than a task needs to end, and far below the 200 ms that a Rust host leaves for calls in flight."""

_SLICE_SECONDS = 0.001
"""Time for which steps are done without a pause."""


async def in_turns(steps: Generator[None, None, T]) -> T:
    """Do short steps, and let other work be done in between; return their result."""
    until = time.perf_counter() + _SLICE_SECONDS
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + _SLICE_SECONDS


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end.

    One cancellation is not enough: nats-py swallows one that arrives while it hands data to its writer.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


async def share(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Call a function several times, each in a task that does a part of the work; the first error ends all of them."""
    tasks = [asyncio.create_task(work()) for _ in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel(*tasks)


class TaskOwner:
    """A set of tasks in which a failure does not cancel the others, unlike in an `asyncio.TaskGroup`.

    The owner is created on the running event loop and keeps it: asking for the loop makes a system call each time
    (`getpid`, on CPython 3.11), which costs more than starting a task. The same holds for every class that keeps its
    loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel the tasks that still run and wait for their end."""
        await cancel(*self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", extra={"task": task.get_name(), "error": type(error).__name__}, exc_info=error)


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Do as `asyncio.run`. An interrupt while the event loop is made would leave half of one, which complains at its end."""
    with asyncio.Runner() as runner:
        with starting():
            runner.get_loop()
        return runner.run(work)
