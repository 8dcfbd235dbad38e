"""Who owns the tasks that outlive a call: they are awaited at the end, and none fails unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)

_CANCEL_AGAIN_SECONDS = 0.02


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end.

    Once is not enough: nats-py swallows a cancellation that comes while it hands something to its writer.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


class TaskOwner:
    """A set of tasks that do not bring each other down, unlike those of an `asyncio.TaskGroup`.

    It is made where the event loop runs and keeps the loop: asking for it makes a system call each time (`getpid`, on
    CPython 3.11), which costs more than starting a task. The same holds wherever a class keeps its loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        await cancel(*self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", extra={"task": task.get_name(), "error": type(error).__name__}, exc_info=error)
