"""The frame around every command of `kv`: event loop, connection, signals, confirmation."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from provider import logs
from provider.commands.connect import addresses, connected, settings_of
from provider.commands.errors import NotConfirmedError
from provider.commands.patience import patience
from provider.commands.printing import discard
from provider.commands.target import Target
from provider.nats.jetstream import JetStream

if TYPE_CHECKING:  # a command on no bucket, or on a whole one, loads no engine
    from provider.commands.kv.open_bucket import OpenBucket

T = TypeVar("T")


class StopSignals:
    """SIGINT and SIGTERM for a command that runs until it is interrupted: they cancel the command's task.

    Before the task has started, and while a line is being written to a reader that does not read, a cancellation would
    have no effect. In these cases the signal raises `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_writing = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def cancel_on_signal(self, task: asyncio.Task[Any] | None) -> None:
        """Set the task that a signal cancels from now on."""
        self._task = task

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Let a signal interrupt the writes inside. The rest of an interrupted line is discarded."""
        self._is_writing = True
        try:
            yield
        except KeyboardInterrupt:
            discard(sys.stdout)
            discard(sys.stderr)
            raise
        finally:
            self._is_writing = False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._task is None or self._is_writing:
            raise KeyboardInterrupt
        self._task.cancel()
        self._task.get_loop().call_soon_threadsafe(lambda: None)  # wakes a loop that waits for messages


def perform(target: Target, work: Callable[[JetStream], Awaitable[T]], stop_signals: StopSignals | None = None) -> T:
    """Connect, run `work` and return its result.

    Raises:
        CommandError: The connection or the work failed.
        StoreError: The server refused a read or a write, or its outcome is not known.
        asyncio.CancelledError: A signal of `stop_signals` arrived.
    """
    logs.configure("off", is_json=False)

    async def run() -> T:
        if stop_signals is not None:
            stop_signals.cancel_on_signal(asyncio.current_task())
        async with contextlib.AsyncExitStack() as stack:
            async with patience(addresses(settings_of(target.options).servers)):
                jetstream = await stack.enter_async_context(connected(target.options, target.timeout_seconds))
                if stop_signals is None:
                    return await work(jetstream)
            return await work(jetstream)  # a watch is silent until something changes

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def in_bucket(
    target: Target, bucket: str, work: Callable[[OpenBucket], Awaitable[T]], stop_signals: StopSignals | None = None
) -> T:
    """Do the same with an open bucket."""
    from provider.commands.kv.open_bucket import opened

    async def run(jetstream: JetStream) -> T:
        async with opened(jetstream, bucket, target.timeout_seconds) as open_bucket:
            return await work(open_bucket)

    return perform(target, run, stop_signals)


def is_confirmed(question: str, *, is_forced: bool) -> bool:
    """Ask a question unless forced, and read the answer from standard input.

    Raises:
        NotConfirmedError: Standard input ended before an answer.
    """
    if is_forced:
        return True
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        sys.stderr.write("\n")
        raise NotConfirmedError
    return answer.strip().lower() in ("y", "yes")
