"""The conversations of calls over wRPC: every call is ended, and no answer is lost by a caller that listens late."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import wrpc
from contracts.component_values import Limits
from contracts.long_values import LongBytes
from provider import errors
from provider.lattice.wasmcloud1.exchanges import (
    EAGER_BYTES,
    IDLE_SECONDS,
    CallReceived,
    CallRefused,
    Exchange,
    ExchangeLimits,
    Exchanges,
)
from provider.lattice.wasmcloud1.reply_subjects import inbox_check, is_prefix
from tests.unit.lattice.simulated_component import INBOX, Caller, Simulation

LIMITS = ExchangeLimits(Limits(3_000_000, 100), 10, 100_000, 10, 1_000_000)
HEADER = b"NATS/1.0\r\nsource-id: comp\r\nlink-name: other\r\n\r\n"
OF_1_0 = b"NATS/1.0\r\nsource-id: comp\r\n\r\n"
ENCODED = wrpc.encode_parameters(wrpc.Get("default", "k"))
RESULT = wrpc.encode_result(wrpc.Get, b"value")
ENOUGH_SECONDS = 30.0


def new(limits: ExchangeLimits = LIMITS) -> Exchanges:
    return Exchanges(INBOX, limits, inbox_check(["_INBOX"]))


def sent(exchanges: Exchanges) -> list[tuple[bytes, bytes, bytes]]:
    outgoing, exchanges.outgoing = exchanges.outgoing, []
    return [(message.subject, message.reply, bytes(message.payload)) for message in outgoing]


def received(exchanges: Exchanges, header: bytes = HEADER, now: float = 0.0) -> CallReceived:
    event = exchanges.receive_call(wrpc.Get, b"_INBOX.c", header, ENCODED, now)
    assert isinstance(event, CallReceived)
    return event


HANDSHAKE = (b"_INBOX.c", INBOX + b".1", b"")
ANSWER = (b"_INBOX.c.results", b"", RESULT)
END = (b"_INBOX.c.results", b"", b"")


# --- the order of messages


def test_a_caller_with_the_proof_is_sent_result_and_end_together() -> None:
    exchanges = new()
    event = received(exchanges)
    assert (event.exchange.source_id, event.exchange.link_name, event.call) == (
        "comp",
        "other",
        wrpc.Get("default", "k"),
    )
    assert sent(exchanges) == [HANDSHAKE]
    exchanges.receive_parameters(b"1", b"", 0.001)
    exchanges.answer(event.exchange, RESULT, 0.002)
    assert sent(exchanges) == [ANSWER, END]
    assert (exchanges.unanswered, exchanges.next_due) == (0, None)


def test_an_early_answer_waits_for_the_proof_with_its_end() -> None:
    exchanges = new()
    exchanges.answer(received(exchanges).exchange, RESULT, 0.0)
    assert sent(exchanges) == [HANDSHAKE, ANSWER]
    exchanges.receive_parameters(b"1", b"", 0.001)
    assert sent(exchanges) == [END]
    assert (exchanges.unanswered, exchanges.next_due) == (0, None)


def test_without_the_proof_handshake_and_answer_are_repeated_ever_more_slowly() -> None:
    exchanges = new()
    exchanges.answer(received(exchanges).exchange, RESULT, 0.0)
    sent(exchanges)
    times = []
    while (due := exchanges.next_due) is not None:
        exchanges.tick(due)
        times.append((round(due, 2), sent(exchanges)))
    repeated = [HANDSHAKE, ANSWER]
    assert times == [(at, repeated) for at in (0.02, 0.06, 0.14, 0.3, 0.62)] + [(1.26, [*repeated, END])]


def test_a_caller_of_1_0_is_sent_everything_at_once_and_nothing_twice() -> None:
    exchanges = new()
    event = received(exchanges, OF_1_0)
    assert event.exchange.link_name == "default"
    exchanges.answer(event.exchange, RESULT, 0.0)
    assert sent(exchanges) == [HANDSHAKE, ANSWER, END]
    assert exchanges.next_due is None


def test_a_result_of_several_messages_is_held_back_until_the_proof() -> None:
    exchanges = new()
    exchanges.max_payload_bytes = 4
    exchanges.answer(received(exchanges).exchange, RESULT, 0.0)
    exchanges.tick(0.02)
    assert sent(exchanges) == [HANDSHAKE, HANDSHAKE]
    exchanges.receive_parameters(b"1", b"", 0.03)
    pieces = [(b"_INBOX.c.results", b"", RESULT[at : at + 4]) for at in range(0, len(RESULT), 4)]
    assert sent(exchanges) == [*pieces, END]


def test_an_operation_is_answered_once() -> None:
    exchanges = new()
    exchange = received(exchanges, OF_1_0).exchange
    exchanges.answer(exchange, RESULT, 0.0)
    exchanges.answer(exchange, b"\x00\x00", 0.0)
    assert sent(exchanges) == [HANDSHAKE, ANSWER, END]
    exchanges.receive_parameters(b"1", b"late", 0.0)
    assert sent(exchanges) == []


# --- the answers that would be lost


@given(
    registers_after=st.floats(0, 0.9),
    latency=st.floats(0.0001, 0.008),
    work_seconds=st.sampled_from([0.0, 0.0005, 0.005, 0.1]),
    size=st.sampled_from([0, 100, EAGER_BYTES, 200_000]),
    first_bytes=st.sampled_from([0, 3, 8, 1_000_000]),
    value=st.binary(max_size=3000),
)
def test_a_caller_that_listens_late_gets_its_whole_answer(
    registers_after: float, latency: float, work_seconds: float, size: int, first_bytes: int, value: bytes
) -> None:
    call = wrpc.Set("default", "k", value)
    result = wrpc.encode_result(wrpc.Get, bytes(size))
    simulation = Simulation(new(LIMITS), lambda call: result, work_seconds, latency)
    simulation.exchanges.max_payload_bytes = 65_536
    caller = Caller(call=call, reply=b"_INBOX.c", registers_after=registers_after, first_bytes=first_bytes)
    simulation.start(caller)
    simulation.run(ENOUGH_SECONDS)
    assert caller.has_ended
    assert caller.result.startswith(result), "what is behind the value is ignored"
    assert simulation.carried_out == [call]
    assert simulation.exchanges.unanswered == 0


def test_a_caller_that_is_gone_costs_a_few_messages_and_is_forgotten() -> None:
    simulation = Simulation(new(), lambda call: RESULT)
    simulation.start(Caller(call=wrpc.Get("b", "k"), reply=b"_INBOX.c", registers_after=1e9))
    simulation.run(ENOUGH_SECONDS)
    assert (simulation.published, simulation.exchanges.repetitions, simulation.exchanges.unanswered) == (15, 5, 0)


# --- calls that cannot be carried out


@pytest.mark.parametrize("header", [HEADER, OF_1_0])
def test_undecodable_parameters_end_the_call_with_an_error_for_1_0(header: bytes) -> None:
    exchanges = new()
    event = exchanges.receive_call(wrpc.Get, b"_INBOX.c", header, b"\x01\xff\x01k", 0.0)
    assert isinstance(event, CallRefused)
    assert event.exchange is None
    exchanges.receive_parameters(b"1", b"", 0.001)
    handshake, (subject, _, text), *rest = sent(exchanges)
    assert (handshake, subject, rest) == (HANDSHAKE, b"_INBOX.c.error", [END])
    assert wrpc.decode_text(text) == "malformed parameters of store.get: text that is not UTF-8, before byte 2"
    assert exchanges.unanswered == 0


def test_parameters_that_end_too_early_end_the_call() -> None:
    exchanges = new()
    assert exchanges.receive_call(wrpc.Get, b"_INBOX.c", HEADER, ENCODED[:4], 0.0) is None
    event = exchanges.receive_parameters(b"1", b"", 0.1)
    assert isinstance(event, CallRefused)
    assert str(event.error) == "parameters of store.get end after 4 bytes"
    assert sent(exchanges)[-1] == END


def test_parameters_that_stop_coming_end_the_call() -> None:
    for silent_from_the_start in (True, False):
        exchanges = new()
        exchanges.receive_call(wrpc.Get, b"_INBOX.c", HEADER, ENCODED[:4], 0.0)
        if not silent_from_the_start:
            exchanges.receive_parameters(b"1", ENCODED[4:6], 0.01)
        refused = []
        now = 0.0
        while (due := exchanges.next_due) is not None:
            now = due
            refused += exchanges.tick(now)
        assert len(refused) == 1
        assert sent(exchanges)[-1] == END
        assert now == pytest.approx(IDLE_SECONDS + (1.26 if silent_from_the_start else 0.01))


def test_too_many_keys_and_too_many_bytes_are_refused_with_an_answer() -> None:
    exchanges = new()
    event = exchanges.receive_call(wrpc.GetMany, b"_INBOX.c", HEADER, b"\x01b\x65", 0.0)
    assert isinstance(event, CallRefused)
    assert event.exchange is not None
    assert "max_keys_per_call" in str(event.error)
    event = exchanges.receive_call(wrpc.Set, b"_INBOX.c", HEADER, b"\x01b\x01k\xff\xff\xff\x7f", 0.0)
    assert isinstance(event, CallRefused)
    assert "max_invocation_bytes" in str(event.error)


# --- bounds


def test_incomplete_parameters_are_bounded_in_number_and_bytes() -> None:
    exchanges = new(ExchangeLimits(Limits(3_000_000, 100), 3, 1000, 10, 1000))
    part = wrpc.encode_parameters(wrpc.Set("b", "k", bytes(2000)))
    events = [exchanges.receive_call(wrpc.Set, b"_INBOX.c", HEADER, part[:10], 0.0) for _ in range(4)]
    assert [type(event) for event in events] == [type(None)] * 3 + [CallRefused]
    over = exchanges.receive_parameters(b"1", part[10:1100], 0.0)
    assert isinstance(over, CallRefused)
    assert over.exchange is not None
    exchanges.answer(over.exchange, RESULT, 0.0)
    assert exchanges.receive_call(wrpc.Set, b"_INBOX.c", HEADER, part[:10], 0.0) is None, "its place is free again"


LONG = wrpc.encode_parameters(wrpc.Set("default", "k", b"v" * 2_000_000))
FIRST_BYTES = 1_000_000


def test_long_parameters_wait_for_their_turn_without_a_handshake() -> None:
    exchanges = new(ExchangeLimits(Limits(3_000_000, 100), 10, 30_000_000, 10, 1_000_000, hold_seconds=5.0))
    replies = [b"_INBOX.%d" % number for number in range(3)]
    for reply in replies:
        assert exchanges.receive_call(wrpc.Set, reply, OF_1_0, LONG[:FIRST_BYTES], 0.0) is None
    assert [subject for subject, *_ in sent(exchanges)] == replies[:1]
    # Short ones are served meanwhile.
    assert isinstance(exchanges.receive_call(wrpc.Get, b"_INBOX.c", OF_1_0, ENCODED, 0.1), CallReceived)
    sent(exchanges)
    for number in (1, 2):
        call = exchanges.receive_parameters(b"%d" % number, LONG[FIRST_BYTES:], 0.2)
        assert isinstance(call, CallReceived)
        assert isinstance(call.call, wrpc.Set)
        assert bytes(call.call.value) == b"v" * 2_000_000
        assert sent(exchanges) == [], "the memory is in use until the call is answered"
        exchanges.answer(call.exchange, RESULT, 0.3)
        assert replies[number] in [subject for subject, *_ in sent(exchanges)]
    # Nothing comes any more of the last one, which has its turn.
    late: list[CallRefused] = []
    while (due := exchanges.next_due) is not None:
        late += exchanges.tick(due)
    assert len(late) == 1


def test_a_call_whose_turn_does_not_come_is_refused_with_an_answer() -> None:
    exchanges = new(ExchangeLimits(Limits(3_000_000, 100), 10, 30_000_000, 10, 1_000_000, hold_seconds=2.0))
    for reply in (b"_INBOX.1", b"_INBOX.2"):
        assert exchanges.receive_call(wrpc.Set, reply, OF_1_0, LONG[:FIRST_BYTES], 0.0) is None
    sent(exchanges)
    for at in (0.5, 1.0, 1.5):  # the first one is slow
        exchanges.receive_parameters(b"1", b"v", at)
    (refused,) = exchanges.tick(2.0)
    assert refused.exchange is not None
    assert isinstance(refused.error, errors.NoRoomError)
    exchanges.answer(refused.exchange, RESULT, 2.0)
    assert [subject for subject, *_ in sent(exchanges)] == [b"_INBOX.2", b"_INBOX.2.results", b"_INBOX.2.results"]


def test_a_call_that_has_room_does_not_wait_for_one_that_has_given_up() -> None:
    exchanges = new(ExchangeLimits(Limits(4_500_000, 100), 10, 30_000_000, 10, 1_000_000, hold_seconds=2.0))
    larger = wrpc.encode_parameters(wrpc.Set("default", "k", b"v" * 4_000_000))
    for reply, parameters, at in ((b"_INBOX.1", LONG, 0.0), (b"_INBOX.2", larger, 0.0), (b"_INBOX.3", LONG, 1.5)):
        assert exchanges.receive_call(wrpc.Set, reply, OF_1_0, parameters[:FIRST_BYTES], at) is None
    for at in (0.5, 1.0, 1.5):  # the first one is slow
        exchanges.receive_parameters(b"1", b"v", at)
    sent(exchanges)
    (refused,) = exchanges.tick(2.0)
    assert refused.exchange is not None
    exchanges.answer(refused.exchange, RESULT, 2.0)
    assert b"_INBOX.3" in [subject for subject, *_ in sent(exchanges)]


def test_long_parameters_that_come_too_slowly_end_the_call() -> None:
    exchanges = new(ExchangeLimits(Limits(3_000_000, 100), 10, 30_000_000, 10, 1_000_000, hold_seconds=99.0))
    for reply in (b"_INBOX.1", b"_INBOX.2"):
        exchanges.receive_call(wrpc.Set, reply, OF_1_0, LONG[:FIRST_BYTES], 0.0)
    now, refused = 0.0, None
    while refused is None:
        now += 1.0
        assert now < 60
        refused = exchanges.receive_parameters(b"1", b"v", now)
    assert isinstance(refused, CallRefused)
    assert "too slowly" in str(refused.error)
    assert b"_INBOX.2" in [subject for subject, *_ in sent(exchanges)], "the next one has its turn"


def test_a_long_list_has_its_turn_alone_and_its_elements_are_in_memory_once() -> None:
    pairs: list[tuple[str, bytes | LongBytes]] = [(f"k{number}", bytes([number]) * 900_000) for number in range(30)]
    encoded = wrpc.encode_parameters(wrpc.SetMany("default", pairs))
    reader = wrpc.ParameterReader(wrpc.SetMany, Limits(30_000_000, 100))
    call = None
    for at in range(0, len(encoded), FIRST_BYTES):
        call = reader.feed(encoded[at : at + FIRST_BYTES])
        assert reader.held_bytes == min(at + FIRST_BYTES, len(encoded))
        assert call is not None or reader.expected_bytes == 30_000_000
        assert len(reader._cursor.buffer) < 3 * FIRST_BYTES
    assert call == wrpc.SetMany("default", pairs)


def test_answers_without_the_proof_are_bounded_and_the_oldest_is_ended_first() -> None:
    exchanges = new(ExchangeLimits(Limits(1000, 100), 10, 1000, 2, 1000))
    calls = [received(exchanges).exchange for _ in range(3)]
    for exchange in calls:
        exchanges.answer(exchange, RESULT, 0.0)
    assert [exchange.is_done for exchange in calls] == [True, False, False]
    assert sent(exchanges)[-3:] == [HANDSHAKE, ANSWER, END]
    big = received(exchanges).exchange
    exchanges.answer(big, bytes(1001), 0.0)
    assert exchanges.unanswered == 0


def test_closing_ends_every_call() -> None:
    exchanges = new()
    exchanges.receive_call(wrpc.Get, b"_INBOX.collecting", HEADER, ENCODED[:4], 0.0)
    exchanges.receive_call(wrpc.Get, b"_INBOX.working", HEADER, ENCODED, 0.0)
    answered = exchanges.receive_call(wrpc.Get, b"_INBOX.answered", HEADER, ENCODED, 0.0)
    assert isinstance(answered, CallReceived)
    exchanges.answer(answered.exchange, RESULT, 0.0)
    sent(exchanges)
    exchanges.close(0.1)
    ended = {subject for subject, _, payload in sent(exchanges) if subject.endswith(b".results") and not payload}
    assert ended == {b"_INBOX.collecting.results", b"_INBOX.working.results", b"_INBOX.answered.results"}
    assert (exchanges.unanswered, exchanges.next_due) == (0, None)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("call"),
            st.sampled_from([HEADER, OF_1_0]),
            st.sampled_from([ENCODED, ENCODED[:3], b"", b"\x01\xff", b"\x01b\x01k\xff\xff\xff\x7f"]),
        ),
        st.tuples(st.just("parameters"), st.integers(1, 12), st.sampled_from([b"", b"ault\x01k", b"\x00" * 50])),
        st.tuples(st.just("answer"), st.integers(0, 11), st.sampled_from([RESULT, bytes(120)])),
        st.tuples(st.just("time"), st.sampled_from([0.01, 0.1, 6.0]), st.just(b"")),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_call_is_ended_exactly_once_whatever_happens(steps: list[tuple[str, Any, bytes]]) -> None:
    exchanges = new(ExchangeLimits(Limits(1000, 100), 3, 60, 3, 250))
    exchanges.max_payload_bytes = 100
    known: list[Exchange] = []
    now, messages = 0.0, sent(exchanges)
    for number, (kind, argument, payload) in enumerate(steps):
        if kind == "call":
            event = exchanges.receive_call(wrpc.Get, b"_INBOX.%d" % number, argument, payload, now)
        elif kind == "parameters":
            event = exchanges.receive_parameters(b"%d" % argument, payload, now)
        else:
            event = None
        if kind == "answer" and argument < len(known):
            exchanges.answer(known[argument], payload, now)
        if kind == "time":
            now += argument
            exchanges.tick(now)
        if event is not None and event.exchange is not None:
            known.append(event.exchange)
        messages += sent(exchanges)
    exchanges.close(now)
    messages += sent(exchanges)
    calls = {subject for subject, reply, _ in messages if reply}
    ends = [subject for subject, _, payload in messages if subject.endswith(b".results") and not payload]
    assert sorted(ends) == sorted(call + b".results" for call in calls)
    assert all(exchange.is_done for exchange in known)
    left = (exchanges._collecting, exchanges._collected_bytes, exchanges._unproven_bytes, exchanges.unanswered)
    assert left == (0, 0, 0, 0)
    assert exchanges.next_due is None


def test_calls_leave_nothing_for_the_garbage_collector() -> None:
    exchanges, event = new(), None
    gc.collect()
    gc.disable()
    try:
        for payload in (ENCODED, b"\x01\xff", ENCODED[:3], b"\x01b\x01k\xff\xff\xff\x7f") * 20:
            event = exchanges.receive_call(wrpc.Get, b"_INBOX.c", HEADER, payload, 0.0)
            if event is not None and event.exchange is not None:
                exchanges.answer(event.exchange, RESULT, 0.0)
        exchanges.close(0.0)
        exchanges.outgoing.clear()
        event = None
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- subjects that a caller names


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.API.STREAM.DELETE.KV_b",
        b"$KV.b.k",
        b"wasmbus.rpc.default.x",
        b"_INBOX",
        b"_INBOX.",
        b"_INBOX.a..b",
        b"_INBOX.*",
        b"_INBOX.a.>",
        b"_INBOX.$JS",
        b"_INBOXa.b",
        b"x_INBOX.a",
        b"_INBOX.a\tb",
        b"_INBOX.\xff",
        b"_INBOX." + b"a" * 250,
    ],
)
def test_nothing_is_published_to_a_subject_that_is_not_an_inbox(reply: bytes) -> None:
    exchanges = new()
    event = exchanges.receive_call(wrpc.Get, reply, HEADER, ENCODED, 0.0)
    assert isinstance(event, CallRefused)
    assert (event.exchange, exchanges.outgoing, exchanges.unanswered) == (None, [], 0)


def test_a_call_without_a_reply_subject_is_ignored() -> None:
    exchanges = new()
    assert exchanges.receive_call(wrpc.Get, b"", HEADER, ENCODED, 0.0) is None
    assert exchanges.outgoing == []


def test_an_operator_may_name_other_prefixes() -> None:
    is_inbox = inbox_check(["_INBOX", "_R_.shop"])
    assert is_inbox(b"_R_.shop.x.1")
    assert is_inbox(b"_INBOX.kcvLJoltcf3QRYwxmqQ13N.kcvLJoltcf3QRYwxmqQ160")
    assert not is_inbox(b"_R_.other.x")
    assert [is_prefix(text) for text in ("_R_.shop", "", ">", "$JS.API", "a b", "a..b", "a.")] == [True] + [False] * 6


@given(st.binary(max_size=60))
def test_an_inbox_is_never_a_subject_of_the_server(subject: bytes) -> None:
    if inbox_check(["_INBOX"])(subject):
        assert subject.startswith(b"_INBOX.")
        assert not set(subject) & set(b"$*> \r\n\t\x00")
