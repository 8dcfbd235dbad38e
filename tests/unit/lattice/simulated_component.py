"""A caller over wRPC, simulated: it may drop messages that arrive before it has registered its call, as hosts 1.4.1 to 1.9.2 do."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable

from msgspec import Struct

from contracts.wrpc import WrpcCall, encode_parameters
from provider.lattice.wasmcloud1.exchanges import CallEvent, CallReceived, CallRefused, Exchanges

INBOX = b"_INBOX.provider"


class Caller(Struct, kw_only=True):
    """One call, and the part of the answer that its caller has seen.

    Attributes:
        call: The call.
        reply: Inbox of the caller.
        registers_after: Seconds after which the caller listens.
        first_bytes: Length of the first part of the parameters, which goes with the call.
        sends_end: Whether the caller sends the end of its parameters; one of 1.0 does not.
        header: Header block of the call.
    """

    call: WrpcCall
    reply: bytes
    registers_after: float = 0.0
    first_bytes: int = 1_000_000
    sends_end: bool = True
    header: bytes = b"NATS/1.0\r\nsource-id: comp\r\nlink-name: default\r\n\r\n"
    result: bytes = b""
    error: bytes = b""
    has_ended: bool = False
    has_shaken_hands: bool = False


class Simulation:
    """The network between callers and `Exchanges`, with a clock of its own.

    Args:
        exchanges: The state machine.
        answer_of: Function from a call to its encoded result.
        work_seconds: Time from a complete call to its answer.
        latency: Seconds that each message takes.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        answer_of: Callable[[WrpcCall], bytes],
        work_seconds: float = 0.0,
        latency: float = 0.001,
    ) -> None:
        self.now = 0.0
        self.exchanges = exchanges
        self.carried_out: list[WrpcCall] = []
        self.refused: list[CallRefused] = []
        self.published = 0
        self._answer_of = answer_of
        self._work_seconds = work_seconds
        self._latency = latency
        self._callers: dict[bytes, Caller] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def start(self, caller: Caller) -> None:
        caller.registers_after += self.now
        self._callers[caller.reply] = caller
        first = encode_parameters(caller.call)[: caller.first_bytes]

        def arrive() -> None:
            exchanges = self.exchanges
            self._take(exchanges.receive_call(type(caller.call), caller.reply, caller.header, first, self.now))

        self._after(self._latency, arrive)

    def run(self, seconds: float) -> None:
        """Let time pass until nothing happens any more, or for so many seconds."""
        end = self.now + seconds
        while True:
            due = self.exchanges.next_due
            event = self._events[0][0] if self._events else None
            times = [time for time in (due, event) if time is not None]
            if not times or min(times) > end:
                self.now = end
                return
            self.now = max(self.now, min(times))
            if event is not None and event <= self.now:
                heapq.heappop(self._events)[2]()
            else:
                self.refused += self.exchanges.tick(self.now)
            self._flush()

    def _take(self, event: CallEvent) -> None:
        if isinstance(event, CallRefused):
            self.refused.append(event)
        elif isinstance(event, CallReceived):
            self.carried_out.append(event.call)
            exchange, result = event.exchange, self._answer_of(event.call)
            if self._work_seconds:
                self._after(self._work_seconds, lambda: self.exchanges.answer(exchange, result, self.now))
            else:
                self.exchanges.answer(exchange, result, self.now)

    def _flush(self) -> None:
        outgoing, self.exchanges.outgoing = self.exchanges.outgoing, []
        for message in outgoing:
            self.published += 1
            deliver = functools.partial(self._deliver, message.subject, message.reply, bytes(message.payload))
            self._after(self._latency, deliver)

    def _deliver(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        inbox, _, kind = subject.rpartition(b".")
        caller = self._callers.get(subject) or self._callers[inbox]
        if self.now < caller.registers_after or caller.has_ended:
            return
        if caller.reply == subject:
            if not caller.has_shaken_hands:
                caller.has_shaken_hands = True
                self._send_parameters(caller, reply)
        elif kind == b"error":
            caller.error = payload
        elif payload:
            caller.result += payload
        else:
            caller.has_ended = True

    def _send_parameters(self, caller: Caller, reply: bytes) -> None:
        token = reply.removeprefix(INBOX + b".")
        rest = encode_parameters(caller.call)[caller.first_bytes :]
        pieces = [rest[at : at + 1000] for at in range(0, len(rest), 1000)] + ([b""] if caller.sends_end else [])
        for number, piece in enumerate(pieces):

            def arrive(piece: bytes = piece) -> None:
                self._take(self.exchanges.receive_parameters(token, piece, self.now))

            self._after(self._latency * (1 + number / 10), arrive)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))
