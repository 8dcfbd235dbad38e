"""The invocations whose signatures are being checked, in the order of their arrival. Pure: the time is an argument.

The rules: an invocation leaves in the order in which it arrived, once its signature has been checked. A token that
no helper has answered in time is checked in place, and a later answer is dropped. Nothing leaves unchecked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from provider import errors
from provider.lattice.signature_processes.packets import (
    AnswerError,
    SignedBytes,
    decode_answer,
    encode_batch,
    next_number,
)

PATIENCE_SECONDS = 0.05
"""The time that a helper has for an answer. It is over a thousand checks long, and a fortieth of a caller's patience."""

FROZEN_SECONDS = 0.5
"""The time after which a helper that owes an answer is replaced: ten times the wait of a process on a busy machine."""

MOST_PER_BATCH = 32
"""Half of what a provider under load has waiting, so that it serves one batch while the helper checks the next one. Larger
batches would take turns; smaller ones cost more switches between processes, which a busy machine delays."""

_FEWEST_PER_BATCH = 4
"""Fewer are not divided among helpers: to wake one costs as much as it saves."""

_FEWEST_BEHIND = 16
"""Tokens that go out to a helper while it checks another batch. Fewer wait for its answer, with what arrives meanwhile."""

MOST_OUT_PER_HELPER = 256
"""Invocations that wait for checks, for each helper. It takes some 10 ms to check them, far less than its patience."""

MOST_BYTES_OUT = 4 * 1024 * 1024
"""Size of the messages that wait for checks: a thousand of the usual size."""

LARGEST_SIGNED_BYTES = 2048
"""Signed bytes that are sent to a helper. Hosts sign some 700; longer ones are checked in place."""


class Checked(Protocol):
    """An invocation in the queue."""

    is_signed: bool | errors.InvocationError | None
    """The result of the signature check; None until it has been made."""

    @property
    def size_bytes(self) -> int:
        """Size of the message."""
        ...

    @property
    def arrived(self) -> float:
        """Time of arrival, in seconds."""
        ...


T = TypeVar("T", bound=Checked)


T_contra = TypeVar("T_contra", bound=Checked, contravariant=True)


class Checks(Protocol[T_contra]):
    """The signature checks of invocations; the provider's is its lattice protocol."""

    def signed_bytes(self, item: T_contra) -> SignedBytes | None:
        """Return the input of a signature check, or None if it has to be made in place."""
        ...

    def check_signature(self, item: T_contra) -> None:
        """Check a signature in place, and set `is_signed`."""
        ...


class _Batch(Generic[T]):
    """Invocations that were sent to a helper; none, if they were checked in place since."""

    __slots__ = ("count", "items", "number", "sent")

    def __init__(self, number: int, items: list[T], sent: float) -> None:
        self.number = number
        self.items = items
        self.count = len(items)
        self.sent = sent


class SignatureQueue(Generic[T]):
    """Invocations in order, and the helpers that check them. A helper is named by a number of the caller's.

    Attributes:
        helped: Number of signatures that helpers have checked.
        in_place: Number of signatures that were checked in place after they came here.
    """

    def __init__(self, checks: Checks[T]) -> None:
        self._checks = checks
        self._order: deque[T] = deque()
        self._order_bytes = 0
        self._unsent: deque[T] = deque()
        self._out: dict[int, deque[_Batch[T]]] = {}
        """For each helper the batches that it owes an answer for, the oldest first."""
        self._late: set[int] = set()
        """Helpers that were too slow. They get nothing to do until they owe nothing."""
        self._number = 0
        self.helped = 0
        self.in_place = 0

    # --- helpers

    @property
    def has_helpers(self) -> bool:
        """True if there is a helper to send tokens to."""
        return len(self._out) > len(self._late)

    def add_helper(self, helper: int) -> None:
        """Use a helper that is ready."""
        self._out[helper] = deque()

    def remove_helper(self, helper: int) -> None:
        """Forget a helper, and check in place the tokens that it has not answered."""
        for batch in self._out.pop(helper, ()):
            self._check_in_place(batch.items)
        self._late.discard(helper)
        self._check_unsent_without_helpers()

    # --- invocations

    @property
    def is_empty(self) -> bool:
        """True if no invocation waits."""
        return not self._order

    def add(self, items: Iterable[T]) -> None:
        """Add invocations that have just arrived. Those over the limits are checked in place."""
        most = MOST_OUT_PER_HELPER * (len(self._out) - len(self._late))
        for item in items:
            self._order_bytes += item.size_bytes
            self._order.append(item)
            if item.is_signed is not None:  # nothing to check
                continue
            if len(self._order) > most or self._order_bytes > MOST_BYTES_OUT:
                self._check_in_place((item,))
            else:
                self._unsent.append(item)

    def next_packets(self, now: float) -> list[tuple[int, bytes]]:
        """Return the batches to send now, each with its helper."""
        packets: list[tuple[int, bytes]] = []
        # The helpers that have nothing to do come first; then each gets a second batch, so that it never has to wait.
        for most_out in (0, 1):
            for helper, out in self._out.items():
                if len(self._unsent) < (_FEWEST_BEHIND if most_out else 1):
                    return packets
                if len(out) == most_out and helper not in self._late and (packet := self._next_packet(out, now)):
                    packets.append((helper, packet))
        return packets

    def _next_packet(self, out: deque[_Batch[T]], now: float) -> bytes:
        """Return the next batch, and note that its helper owes the answer; b"" if no helper can check any of the waiting ones."""
        while self._unsent:
            items: list[T] = []
            signed: list[SignedBytes] = []
            for _ in range(self._share(is_idle=not out)):
                item = self._unsent.popleft()
                parts = self._checks.signed_bytes(item)
                if parts is None or len(parts[2]) > LARGEST_SIGNED_BYTES:
                    self._check_in_place((item,))
                else:
                    items.append(item)
                    signed.append(parts)
            if items:
                self._number = next_number(self._number)
                out.append(_Batch(self._number, items, now))
                return encode_batch(self._number, signed)
        return b""

    def answered(self, helper: int, packet: bytes) -> None:
        """Take the answer of a helper. Its batches are answered in the order in which they were sent.

        Raises:
            AnswerError: The answer is not that of the oldest batch. The helper must be ended, and removed.
        """
        out = self._out[helper]
        if not out:
            raise AnswerError
        batch = out[0]
        verdicts = decode_answer(packet, batch.number, batch.count)
        del out[0]
        for item, verdict in zip(batch.items, verdicts, strict=False):  # no items if they were checked in place
            item.is_signed = verdict == 1
        self.helped += len(batch.items)
        if not out:
            self._late.discard(helper)

    def pass_time(self, now: float) -> list[int]:
        """Check in place the tokens that have waited too long; return the helpers that are to be ended.

        The caller has read the answers that have arrived before.
        """
        limit = now - PATIENCE_SECONDS
        for helper, out in self._out.items():
            # 1. A helper that was given enough time gets no more work, and its second batch would be late as well.
            if out and out[0].sent <= limit:
                self._late.add(helper)
                self._forget(out)
            # 2. An invocation that was sent late must not wait longer than the others.
            self._forget(batch for batch in out if batch.items and batch.items[0].arrived <= limit)
        while self._unsent and self._unsent[0].arrived <= limit:
            self._check_in_place((self._unsent.popleft(),))
        self._check_unsent_without_helpers()
        return [helper for helper, out in self._out.items() if out and out[0].sent <= now - FROZEN_SECONDS]

    def next_time(self) -> float | None:
        """Return when to call `pass_time` next, or None if nothing waits and no helper owes an answer."""
        owing = [
            out[0].sent + (FROZEN_SECONDS if helper in self._late else PATIENCE_SECONDS)
            for helper, out in self._out.items()
            if out
        ]
        waiting = [self._order[0].arrived + PATIENCE_SECONDS] if self._order else []
        return min(waiting + owing, default=None)

    def settle(self) -> None:
        """Check everything in place that has not been checked. Answers that come later are dropped."""
        for out in self._out.values():
            self._forget(out)
        self._check_in_place(self._unsent)
        self._unsent.clear()

    def take_checked(self) -> list[T]:
        """Remove and return the invocations at the front of the queue whose signatures have been checked."""
        order, taken = self._order, []
        while order and order[0].is_signed is not None:
            item = order.popleft()
            self._order_bytes -= item.size_bytes
            taken.append(item)
        return taken

    def _share(self, *, is_idle: bool) -> int:
        """Return the number of tokens for the next batch: of the helpers that are idle each gets a fair share."""
        waiting = len(self._unsent)
        idle = sum(not out and helper not in self._late for helper, out in self._out.items()) if is_idle else 1
        return min(max(-(-waiting // idle), _FEWEST_PER_BATCH), MOST_PER_BATCH, waiting)

    def _forget(self, out: Iterable[_Batch[T]]) -> None:
        """Check the batches of a helper in place; their answers are still awaited, and dropped."""
        for batch in out:
            items, batch.items = batch.items, []
            self._check_in_place(items)

    def _check_unsent_without_helpers(self) -> None:
        if not self.has_helpers:
            self._check_in_place(self._unsent)
            self._unsent.clear()

    def _check_in_place(self, items: Iterable[T]) -> None:
        for item in items:
            self._checks.check_signature(item)
            self.in_place += 1
