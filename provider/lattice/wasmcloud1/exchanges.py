"""The conversations of calls over wRPC as a state machine: messages in, calls out; answers in, messages out. Pure.

A call is answered by a handshake, the result in one or more messages, and an empty message as its end. Hosts from 1.4.1
to 1.9.2 may drop messages that arrive before they have registered the call, and then wait for ever. They always see a suffix of
the messages sent, and any message of their parameters proves that they have seen the handshake. So until that proof is there,
a result of one message is repeated together with the handshake, a longer one is held back, and the end is sent last.
The operation is carried out once. Hosts of 1.0, whose calls have no link name, have neither this fault nor the proof.

Source: wrpc-transport-nats 0.21 to 0.29 (lib.rs); its fix, 0.31 (commit 2d3c810b).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from contracts.codec import MalformedError
from contracts.component_values import Limits, TooManyError
from contracts.long_values import LONG_BYTES, LongBytes
from contracts.wasmcloud1 import DEFAULT_LINK_NAME, LINK_HEADER, SOURCE_HEADER
from contracts.wrpc import ParameterReader, WrpcCall, encode_text, function_name
from provider import errors
from provider.lattice.wasmcloud1.turns import Turns
from provider.nats.frames import header_reader

REPEAT_SECONDS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Waits for the proof, with a repetition after each but the last: 1.3 s in all. The first is well over a round trip."""

IDLE_SECONDS = 5.0
"""Time for the next piece of parameters. A host sends them as fast as the connection takes them."""

EAGER_BYTES = 64 * 1024
"""Results up to this size are sent before the proof, and repeated. A larger one waits for it: half a round trip more,
and a caller that is gone does not make the provider send megabytes."""

_PACED_BYTES = 2 * 1024 * 1024
"""Results over this size are not sent all at once."""

_IDLE_LEVEL = len(REPEAT_SECONDS)
_NOT_WAITING = -1

_read_headers = header_reader(SOURCE_HEADER, LINK_HEADER)


class Outgoing(NamedTuple):
    """A message to publish. `reply` is b"" for all but a handshake."""

    subject: bytes
    reply: bytes
    payload: bytes | memoryview


class ExchangeLimits(Struct, frozen=True):
    """Limits on what callers may make this process remember.

    Attributes:
        parameters: Limits of one call.
        max_collecting: Calls whose parameters are incomplete.
        max_collected_bytes: Their parameters together.
        max_unproven: Answers without the proof. Beyond it the oldest are ended.
        max_unproven_bytes: These answers together.
        hold_seconds: Time for which a call with long parameters may wait for its turn.
    """

    parameters: Limits
    max_collecting: int
    max_collected_bytes: int
    max_unproven: int
    max_unproven_bytes: int
    hold_seconds: float = 1.6


class Exchange:
    """The conversation about one call. Only `Exchanges` changes it.

    Attributes:
        type_: Function that is called.
        header: Header block of the call, for traces.
        source_id: Id of the calling component; "" if the call does not tell it.
        link_name: Link name that the component has chosen.
        reply: Subject that the caller listens on.
        token: Last token of the subject that this process listens on.
        has_proof: True once nothing can be lost any more; always for a caller of 1.0.
        reader: Reader of the parameters; None once they are complete or given up.
        collected_bytes: Size of incomplete parameters, as counted.
        answer: The encoded result, b"" for a call that ends without one; None while there is no answer.
        is_sent: Whether the result was sent before the proof.
        level: Place in the order of repetitions, or `_NOT_WAITING`.
        is_done: True once the end has been sent.
        on_done: Called at that time, unless it is `None`.
    """

    __slots__ = (
        "answer",
        "collected_bytes",
        "has_proof",
        "header",
        "is_done",
        "is_sent",
        "level",
        "link_name",
        "on_done",
        "reader",
        "reply",
        "source_id",
        "token",
        "type_",
    )

    def __init__(self, type_: type[WrpcCall], token: bytes, reply: bytes, header: bytes) -> None:
        names = _read_headers(header) if header else {}
        link_name = names.get(LINK_HEADER)
        self.type_ = type_
        self.header = header
        self.source_id = names.get(SOURCE_HEADER, b"").rstrip().decode(errors="replace")
        self.link_name = DEFAULT_LINK_NAME if link_name is None else link_name.rstrip().decode(errors="replace")
        self.reply = reply
        self.token = token
        self.has_proof = link_name is None
        self.reader: ParameterReader | None = None
        self.collected_bytes = 0
        self.answer: bytes | LongBytes | None = None
        self.is_sent = False
        self.level = _NOT_WAITING
        self.is_done = False
        self.on_done: Callable[[], None] | None = None


class CallReceived(NamedTuple):
    """A call whose parameters are complete. `size_bytes` is their size."""

    exchange: Exchange
    call: WrpcCall
    size_bytes: int


class CallRefused(NamedTuple):
    """A call that is not carried out.

    Attributes:
        exchange: The conversation to answer with the error; None if there is nothing to answer, or it was ended already.
        operation: Short name of the function.
        error: The reason.
    """

    exchange: Exchange | None
    operation: str
    error: errors.ProviderError


CallEvent = CallReceived | CallRefused | None


class Exchanges:
    """The conversations of one process.

    Each method may leave messages in `outgoing`; the owner takes them out and publishes them in order.

    Args:
        inbox: Subject prefix of this process, below which callers send the rest of their parameters.
        limits: Limits on the memory for callers.
        is_inbox: Tells whether a subject that a caller names may be answered; see `reply_subjects`.

    Attributes:
        limits: Limits on the memory for callers, which may change.
        outgoing: Messages to publish.
        is_large: Whether there is a large result among them; the owner sets it back.
        repetitions: Number of times that a handshake was sent again.
        max_payload_bytes: The server's limit for a message, which the owner keeps up to date.
    """

    def __init__(self, inbox: bytes, limits: ExchangeLimits, is_inbox: Callable[[bytes], bool]) -> None:
        self.outgoing: list[Outgoing] = []
        self.is_large = False
        self.repetitions = 0
        self.max_payload_bytes = 1024 * 1024  # the default of a server
        self._inbox = inbox
        self.limits = limits
        self._is_inbox = is_inbox
        self._last_token = 0
        self._by_token: dict[bytes, Exchange] = {}
        self._waiting: tuple[dict[Exchange, float], ...] = tuple({} for _ in range(_IDLE_LEVEL + 1))
        """The exchanges that wait for the proof or for parameters, with the time at which each is due, by the number of
        repetitions made. All of one level wait equally long, so the first of each is due first."""
        self._turns: Turns[Exchange] = Turns(limits.parameters.max_bytes)
        """Calls that wait for their turns have no handshake, so their callers send no more: wRPC has no other word for that."""
        self._collecting = 0
        self._collected_bytes = 0
        self._unproven: dict[Exchange, None] = {}
        """The exchanges whose answer waits for the proof, the oldest first."""
        self._unproven_bytes = 0

    # --- what callers send

    def receive_call(self, type_: type[WrpcCall], reply: bytes, header: bytes, payload: bytes, now: float) -> CallEvent:
        """Receive the first message of a call.

        Args:
            type_: Function that is called, by the subject of the message.
            reply: Subject of the answer.
            header: Header block of the message.
            payload: The parameters, or their first part.
            now: Seconds of a steady clock.
        """
        if not reply:
            return None
        if not self._is_inbox(reply):
            return CallRefused(None, function_name(type_), errors.UnsafeReplySubjectError())
        self._last_token += 1
        exchange = Exchange(type_, b"%d" % self._last_token, reply, header)
        self._by_token[exchange.token] = exchange
        exchange.reader = reader = ParameterReader(type_, self.limits.parameters)
        self._collecting += 1
        handshake = len(self.outgoing)
        event = self._collect(exchange, reader, payload, now)
        if event is None and exchange.answer is None and not self._takes_turn(exchange, reader, now):
            self._stop_waiting(exchange)
        else:
            self.outgoing.insert(handshake, self._handshake(exchange))
        return event

    def receive_parameters(self, token: bytes, payload: bytes, now: float) -> CallEvent:
        """Receive a further part of parameters, or their end, which is empty. Either is the proof.

        Args:
            token: Token of the subject behind the inbox.
            payload: The part.
            now: Seconds of a steady clock.
        """
        exchange = self._by_token.get(token)
        if exchange is None:
            return None
        exchange.has_proof = True
        if exchange.answer is not None:
            self._finish(exchange)
        elif exchange.reader is not None:
            if payload:
                return self._collect(exchange, exchange.reader, payload, now)
            return self._fail(exchange, _cut_off(exchange, exchange.reader, "end"), now)
        return None

    def _collect(self, exchange: Exchange, reader: ParameterReader, payload: bytes, now: float) -> CallEvent:
        try:
            call = reader.feed(payload)
        except MalformedError as error:
            return self._fail(exchange, str(error), now)
        except TooManyError as error:
            is_size = error.unit == "bytes"
            refusal = (errors.InvocationTooLargeError if is_size else errors.TooManyKeysError)(
                error.count, error.maximum
            )
            self._stop_collecting(exchange)
            return CallRefused(exchange, function_name(exchange.type_), refusal)
        if call is not None:
            self._stop_collecting(exchange)
            return CallReceived(exchange, call, reader.held_bytes)
        return self._keep_collecting(exchange, reader, now)

    def _keep_collecting(self, exchange: Exchange, reader: ParameterReader, now: float) -> CallRefused | None:
        """Wait for the next part, unless this process waits for too much already."""
        limits = self.limits
        if self._turns.is_late(exchange, now):
            return self._fail(exchange, _cut_off(exchange, reader, "come too slowly"), now)
        self._collected_bytes += reader.held_bytes - exchange.collected_bytes
        exchange.collected_bytes = reader.held_bytes
        for name, have, maximum in (
            ("max_in_flight", self._collecting, limits.max_collecting),
            ("max_in_flight_bytes", self._collected_bytes, limits.max_collected_bytes),
        ):
            if have > maximum:
                self._stop_collecting(exchange)
                return CallRefused(exchange, function_name(exchange.type_), errors.OverloadedError(name, maximum))
        # A caller that has lost the handshake sends no more: it is repeated until something comes.
        self._wait(exchange, _IDLE_LEVEL if exchange.has_proof else 0, now)
        return None

    def _takes_turn(self, exchange: Exchange, reader: ParameterReader, now: float) -> bool:
        """Tell whether a caller may send the rest of its parameters now; long ones have to wait for room in memory."""
        size_bytes, limits = reader.expected_bytes, self.limits
        self._turns.room_bytes = limits.parameters.max_bytes
        return size_bytes < LONG_BYTES or self._turns.begin(exchange, size_bytes, now, limits.hold_seconds)

    def _end_turn(self, exchange: Exchange, now: float) -> None:
        """End the turn of a call, and begin those that have waited for it."""
        for begun in self._turns.end(exchange, now):
            self._shake_hands(begun)
            self._wait(begun, 0, now)

    def _stop_collecting(self, exchange: Exchange) -> None:
        reader, exchange.reader = exchange.reader, None
        if reader is not None:
            self._collecting -= 1
            self._collected_bytes -= exchange.collected_bytes
            self._stop_waiting(exchange)

    # --- what callers are sent

    def answer(self, exchange: Exchange, result: bytes | LongBytes, now: float) -> None:
        """Answer a call with an encoded result, which may be an error. Further answers are ignored.

        Args:
            exchange: The conversation.
            result: The result, which is not empty.
            now: Seconds of a steady clock.
        """
        if exchange.answer is not None:
            return
        self._stop_collecting(exchange)
        exchange.answer = result
        self._end_turn(exchange, now)
        if exchange.has_proof:
            self._finish(exchange)
            return
        if len(result) <= min(EAGER_BYTES, self.max_payload_bytes):
            self._send_result(exchange)
            exchange.is_sent = True
        self._await_proof(exchange, now)

    def _fail(self, exchange: Exchange, reason: str, now: float) -> CallRefused:
        """End a call whose parameters are no call, without a result. Only callers of 1.0 read the text."""
        self._stop_collecting(exchange)
        self._publish(exchange.reply + b".error", encode_text(reason))
        exchange.answer = b""
        self._end_turn(exchange, now)
        if exchange.has_proof:
            self._finish(exchange)
        else:
            self._await_proof(exchange, now)
        return CallRefused(None, function_name(exchange.type_), errors.MalformedInvocationError(reason))

    def _await_proof(self, exchange: Exchange, now: float) -> None:
        self._unproven[exchange] = None
        self._unproven_bytes += len(exchange.answer or b"")
        self._wait(exchange, 0, now)
        while len(self._unproven) > self.limits.max_unproven or self._unproven_bytes > self.limits.max_unproven_bytes:
            self._give_up(next(iter(self._unproven)))

    def _finish(self, exchange: Exchange) -> None:
        """Send the missing part of an answer, with its end, and forget the call."""
        if not exchange.is_sent:
            self._send_result(exchange)
        self._end(exchange)

    def _give_up(self, exchange: Exchange) -> None:
        """End a call whose caller gives no proof, with all messages once more in case that it listens by now."""
        self._shake_hands(exchange)
        self._send_result(exchange)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._publish(exchange.reply + b".results", b"")
        self._stop_waiting(exchange)
        if exchange in self._unproven:
            del self._unproven[exchange]
            self._unproven_bytes -= len(exchange.answer or b"")
        exchange.is_done, exchange.answer = True, b""
        if exchange.on_done is not None:
            exchange.on_done()
        del self._by_token[exchange.token]

    def _shake_hands(self, exchange: Exchange) -> None:
        self.outgoing.append(self._handshake(exchange))

    def _handshake(self, exchange: Exchange) -> Outgoing:
        return Outgoing(exchange.reply, b"%b.%b" % (self._inbox, exchange.token), b"")

    def _send_result(self, exchange: Exchange) -> None:
        result, size = exchange.answer or b"", self.max_payload_bytes
        subject = exchange.reply + b".results"
        self.is_large = self.is_large or len(result) > _PACED_BYTES
        if isinstance(result, bytes) and len(result) <= size:
            if result:
                self._publish(subject, result)
            return
        for part in result.parts if isinstance(result, LongBytes) else [memoryview(result)]:
            for at in range(0, len(part), size):
                self._publish(subject, part[at : at + size])

    def _publish(self, subject: bytes, payload: bytes | memoryview) -> None:
        self.outgoing.append(Outgoing(subject, b"", payload))

    # --- time

    @property
    def next_due(self) -> float | None:
        """The time at which `tick` has something to do; None if nothing waits."""
        firsts = [next(iter(level.values())) for level in self._waiting if level]
        held = self._turns.next_due
        return min(firsts if held is None else [*firsts, held], default=None)

    @property
    def unanswered(self) -> int:
        """Number of calls that have not been ended."""
        return len(self._by_token)

    def tick(self, now: float) -> list[CallRefused]:
        """Repeat the answers that are due, and end the calls whose caller has been silent for too long.

        Returns:
            The calls whose parameters did not become complete.
        """
        cut_off: list[CallRefused] = []
        for exchange, size_bytes in self._turns.give_up(now):
            self._shake_hands(exchange)
            error = errors.NoRoomError(size_bytes, self.limits.parameters.max_bytes)
            cut_off.append(CallRefused(exchange, function_name(exchange.type_), error))
        for number, level in enumerate(self._waiting):
            while level:
                exchange, due = next(iter(level.items()))
                if due > now:
                    break
                refusal = self._on_due(exchange, number, now)
                if refusal is not None:
                    cut_off.append(refusal)
        return cut_off

    def _on_due(self, exchange: Exchange, level: int, now: float) -> CallRefused | None:
        self._stop_waiting(exchange)
        # A call that is given up is sent all messages once more anyway; parameters may still come for some seconds.
        if level + 1 < _IDLE_LEVEL or (level < _IDLE_LEVEL and exchange.reader is not None):
            self.repetitions += 1
            self._shake_hands(exchange)
            if exchange.is_sent:
                self._send_result(exchange)
            self._wait(exchange, level + 1, now)
        elif exchange.reader is not None:
            exchange.has_proof = True  # nothing comes any more: the end is not repeated
            return self._fail(exchange, _cut_off(exchange, exchange.reader, "come no further"), now)
        else:
            self._give_up(exchange)
        return None

    def close(self, now: float) -> None:
        """End every call that is left, whatever its caller has seen: this process does not answer any more."""
        for exchange in list(self._by_token.values()):
            if exchange.answer is None:
                self._fail(exchange, str(errors.ShuttingDownError()), now)
            if not exchange.is_done:
                self._give_up(exchange)

    def _wait(self, exchange: Exchange, level: int, now: float) -> None:
        self._stop_waiting(exchange)
        exchange.level = level
        self._waiting[level][exchange] = now + (IDLE_SECONDS if level == _IDLE_LEVEL else REPEAT_SECONDS[level])

    def _stop_waiting(self, exchange: Exchange) -> None:
        if exchange.level != _NOT_WAITING:
            del self._waiting[exchange.level][exchange]
            exchange.level = _NOT_WAITING


def _cut_off(exchange: Exchange, reader: ParameterReader, fault: str) -> str:
    """Return the error of parameters that did not become complete."""
    return f"parameters of {function_name(exchange.type_)} {fault} after {reader.held_bytes} bytes"
