"""The helper processes of a provider: started, watched, replaced, and fed from the queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct

from provider.lattice.signature_processes.helper import READY
from provider.lattice.signature_processes.packets import AnswerError
from provider.lattice.signature_processes.process import HelperProcess, HelperProgram, HelperStartError
from provider.lattice.signature_processes.queue import Checked, Checks, SignatureQueue

_log = logging.getLogger(__name__)

_START_SECONDS = 0.25
"""The first helpers start this long after the provider is ready: they must not slow down its first answers."""

_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.1, 60.0
"""Pauses before a helper is started again. They double for as long as helpers end soon after their start."""

_STEADY_SECONDS = 10.0
"""A helper that has run for this long was not started in vain."""

_LOADING_SECONDS = 10.0
"""The time until a helper must be ready: a hundred times its start on an idle machine."""

_REAP_SECONDS = 0.05
"""Time between two attempts to collect the exit code of a helper that was killed."""

_FAILURES_TO_TELL = 3
"""Failures in a row after which health tells of them: one or two may be an accident."""

T = TypeVar("T", bound=Checked)


class SignatureProcesses(Struct, frozen=True):
    """The helper processes in numbers.

    Attributes:
        wanted: Number of the setting.
        running: Number of those that are ready.
        restarts: Number of helpers that ended and were, or are to be, replaced.
        checked: Number of signatures that helpers have checked.
        checked_in_place: Number of signatures that the provider's own process has checked.
    """

    wanted: int
    running: int
    restarts: int
    checked: int
    checked_in_place: int


class _Helper:
    """A place for a helper: the process in it, if there is one, and the failures there so far."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.process: HelperProcess | None = None
        self.started = 0.0
        self.failures = 0
        self.timer: asyncio.TimerHandle | None = None


class SignaturePool(Generic[T]):
    """Helper processes that check signatures for as long as invocations wait for one another.

    Args:
        processes: Number of helpers; 0: every signature is checked in place.
        checks: Signature checks of invocations.
        serve: Function called with invocations whose signatures have been checked, in the order of their arrival.
    """

    def __init__(self, processes: int, checks: Checks[T], serve: Callable[[list[T]], None]) -> None:
        self._checks = checks
        self._serve = serve
        self._queue = SignatureQueue(checks)
        self._helpers = [_Helper(name) for name in range(processes)]
        self._program: HelperProgram | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[HelperProcess] = set()
        self._restarts = 0
        self._in_place = 0
        self._failure = ""

    @property
    def has_helpers(self) -> bool:
        """True if there is a helper that checks signatures now."""
        return self._queue.has_helpers

    @property
    def state(self) -> SignatureProcesses:
        running = sum(helper.process is not None and helper.process.is_ready for helper in self._helpers)
        return SignatureProcesses(
            wanted=len(self._helpers),
            running=running,
            restarts=self._restarts,
            checked=self._queue.helped,
            checked_in_place=self._queue.in_place + self._in_place,
        )

    @property
    def notice(self) -> str | None:
        """A remark for health if helpers cannot be kept running, or None."""
        if max((helper.failures for helper in self._helpers), default=0) < _FAILURES_TO_TELL:
            return None
        return f"signature_processes: {self.state.running} of {len(self._helpers)} run: {self._failure}"

    def start(self) -> None:
        """Start the helpers soon, in the background."""
        for helper in self._helpers:
            helper.timer = self._loop.call_later(_START_SECONDS, self._start, helper)

    def take(self, items: list[T]) -> None:
        """Check the signatures of invocations that arrived together, and have them served, now or later."""
        queue = self._queue
        # One that came alone is checked in place: to send it away would only make it wait.
        if queue.is_empty and (len(items) == 1 or not queue.has_helpers):
            for item in items:
                if item.is_signed is None:
                    self._checks.check_signature(item)
            self._in_place += len(items)
            self._serve(items)
        else:
            queue.add(items)
            self._go_on()

    def settle(self) -> None:
        """Check in place and serve everything that waits: a link is about to change, or the provider stops."""
        if not self._queue.is_empty:
            self._queue.settle()
            self._go_on()

    def close(self) -> None:
        """Serve everything that waits and end the helpers. From then on signatures are checked in place."""
        for helper in self._helpers:
            if helper.timer is not None:
                helper.timer.cancel()
            self._end(helper)
        self._helpers = []
        self._go_on()
        if self._timer is not None:
            self._timer.cancel()
        for process in self._ending:
            process.wait(_REAP_SECONDS)
        self._ending.clear()
        if self._program is not None:
            self._program.close()
            self._program = None

    # --- the queue

    def _go_on(self) -> None:
        """Send tokens, serve the invocations that have been checked, and look again when the next is overdue."""
        now = time.monotonic()
        for name, packet in self._queue.next_packets(now):
            process = self._helpers[name].process
            if process is not None and not process.send(packet):
                self._fail(self._helpers[name], "the helper does not read its socket")
        if checked := self._queue.take_checked():
            self._serve(checked)
        if self._timer is None and (next_time := self._queue.next_time()) is not None:
            self._timer = self._loop.call_later(max(next_time - now, 0.0), self._pass_time)

    def _pass_time(self) -> None:
        self._timer = None
        for helper in self._helpers:  # this process may have been busy for longer than the helpers
            self._read(helper)
        for name in self._queue.pass_time(time.monotonic()):
            self._fail(self._helpers[name], "the helper does not answer")
        self._go_on()

    def _on_readable(self, helper: _Helper) -> None:
        self._read(helper)
        self._go_on()

    def _read(self, helper: _Helper) -> None:
        """Take all answers that have arrived from a helper."""
        while (process := helper.process) is not None and (packet := process.receive()) is not None:
            if not packet:
                self._fail(helper, "the helper has ended")
            elif not process.is_ready:
                self._begin(helper, process, packet)
            else:
                try:
                    self._queue.answered(helper.name, packet)
                except AnswerError:
                    self._fail(helper, "the helper has sent something else than an answer")

    # --- the helpers

    def _start(self, helper: _Helper) -> None:
        helper.started = time.monotonic()
        try:
            self._program = self._program or HelperProgram()
            helper.process = HelperProcess(self._program)
        except HelperStartError as error:
            self._fail(helper, str(error))
            return
        self._loop.add_reader(helper.process.socket, self._on_readable, helper)
        helper.timer = self._loop.call_later(_LOADING_SECONDS, self._fail, helper, "the helper has not become ready")

    def _begin(self, helper: _Helper, process: HelperProcess, packet: bytes) -> None:
        """Use a helper that says that it is ready."""
        if packet != READY:
            self._fail(helper, "the helper has sent something else than an answer")
            return
        if helper.timer is not None:
            helper.timer.cancel()
        process.is_ready = True
        self._queue.add_helper(helper.name)
        _log.info("signature_process_started", extra={"pid": process.pid})

    def _fail(self, helper: _Helper, reason: str) -> None:
        """End a helper, check its tokens in place, and start another one after a pause."""
        is_steady = time.monotonic() - helper.started > _STEADY_SECONDS
        helper.failures = 1 if is_steady else helper.failures + 1
        if is_steady or reason != self._failure:  # once, not for each attempt of each helper
            _log.warning("signature_process_failed", extra={"reason": reason})
        self._failure = reason
        self._restarts += 1
        self._end(helper)
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (helper.failures - 1), _LAST_PAUSE_SECONDS)
        helper.timer = self._loop.call_later(pause, self._start, helper)

    def _end(self, helper: _Helper) -> None:
        self._queue.remove_helper(helper.name)
        if helper.timer is not None:
            helper.timer.cancel()
            helper.timer = None
        process, helper.process = helper.process, None
        if process is not None:
            self._loop.remove_reader(process.socket)
            process.end()
            self._ending.add(process)
            self._reap()

    def _reap(self) -> None:
        """Collect the exit codes of helpers that were killed, without waiting for one that the system still holds."""
        self._ending = {process for process in self._ending if not process.is_reaped()}
        if self._ending:
            self._loop.call_later(_REAP_SECONDS, self._reap)
