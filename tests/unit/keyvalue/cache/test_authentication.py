"""Signed messages: each passes once, on its own subject, in its own time, as it was signed; anything else does not."""

from __future__ import annotations

import gc
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.nkeys import KeyKind, encode_public_key, encode_seed
from contracts.secret import Secret
from provider.keyvalue.cache.messages import AddText, Deltas, Event, Heartbeat, Message, TransferRequest, pack
from provider.keyvalue.cache.trust import sequences, signed
from provider.keyvalue.cache.trust.authentication import Authentication
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal, Refusals

SENDER, RECEIVER, OUTSIDER = "sender-00001", "receiver-001", "outsider-001"
STATE, REPLAY = "cache.state", f"cache.replay.{RECEIVER}"
NOW_MS = 1_700_000_000_000
BEAT = Heartbeat({SENDER: 7}, 0, True, False)
MAX_BYTES = 2 * 1024 * 1024


def seed_of(number: int) -> tuple[Secret, str]:
    seed = encode_seed(KeyKind.CLUSTER, hashlib.sha256(b"%d" % number).digest())
    return seed.text, seed.public_key


CLUSTER, CLUSTER_KEY = seed_of(1)
OTHER, OTHER_KEY = seed_of(2)


def member(replica: str, seed: Secret = CLUSTER, *issuers: str, lattice: str = "lattice") -> Authentication:
    return Authentication(replica, ClusterKeys(lattice, seed, issuers or [CLUSTER_KEY]))


def send(sender: Authentication, message: Message = BEAT, subject: str = STATE, answers: int = 0) -> bytes:
    return sender.sign(subject, signed.KINDS[type(message)], pack(message), NOW_MS, answers)


def refusal(receiver: Authentication, data: bytes, subject: str = STATE, now_ms: int = NOW_MS) -> Refusal | None:
    """Return the reason for which a message is refused, or None if it passes."""
    try:
        head = receiver.check(data, subject, now_ms, 0.0)
        signed.message_of(head, data, MAX_BYTES)
    except ForeignMessageError as error:
        return error.refusal
    return None


messages: st.SearchStrategy[Message] = st.one_of(
    st.just(BEAT),
    st.builds(Deltas, st.integers(1, 9), st.just([Event(1, "k", AddText("long text " * 5000, 0), {}, [])])),
    st.builds(TransferRequest, st.text(max_size=9), st.integers(0, 9), st.none()),
)


@given(messages, st.integers(0, 2**60))
def test_a_signed_message_is_received_as_it_was_sent(message: Message, answers: int) -> None:
    data = send(member(SENDER), message, REPLAY, answers)
    head = member(RECEIVER).check(data, REPLAY, NOW_MS, 0.0)
    assert (head.sender, head.sequence, head.answers, head.time_ms) == (SENDER, 1, answers, NOW_MS)
    assert signed.message_of(head, data, MAX_BYTES) == message
    assert signed.is_from(data, SENDER)
    assert not signed.is_from(data, RECEIVER)


@given(messages, st.data())
def test_any_change_of_a_message_is_noticed(message: Message, data: st.DataObject) -> None:
    sound = send(member(SENDER), message)
    other = send(member(SENDER), TransferRequest("other", 1, None))
    changed = bytearray(sound)
    match data.draw(st.sampled_from(["flip", "cut", "extend", "splice"])):
        case "flip":
            at = data.draw(st.integers(5 * 8, len(sound) * 8 - 1))
            changed[at // 8] ^= 1 << at % 8
        case "cut":
            changed = changed[: data.draw(st.integers(0, len(sound) - 1))]
        case "extend":
            changed += data.draw(st.binary(min_size=1, max_size=20))
        case _:
            at = data.draw(st.integers(6, min(len(other), len(sound)) - 1))
            changed[at:] = other[at:]
    assert bytes(changed) in (sound, other) or refusal(member(RECEIVER), bytes(changed)) is not None


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(noise: bytes) -> None:
    receiver = member(RECEIVER)
    for data in (noise, b"kvrc\x02" + noise, send(member(SENDER))[:75] + noise):
        assert refusal(receiver, data) is not None


def test_every_byte_of_a_head_is_covered_by_the_signature() -> None:
    sound = send(member(SENDER))
    for at in range(5, len(sound)):
        changed = bytearray(sound)
        changed[at] ^= 1
        assert refusal(member(RECEIVER), bytes(changed)) is not None, f"byte {at}"


# --- the names that are covered


def test_a_message_passes_on_its_own_subject_only() -> None:
    data = send(member(SENDER), subject=REPLAY)
    for subject in (STATE, f"cache.replay.{SENDER}", REPLAY[:-1], f"{REPLAY}x"):
        assert refusal(member(RECEIVER), data, subject) is Refusal.SIGNATURE
    assert refusal(member(RECEIVER), data, REPLAY) is None


def test_a_message_passes_in_its_own_lattice_only() -> None:
    data = send(member(SENDER, lattice="one"), subject="two.state")
    assert refusal(member(RECEIVER, lattice="two"), data, "two.state") is Refusal.SIGNATURE
    # The border between two names is covered too.
    data = send(member(SENDER, lattice="one"), subject="xstate")
    assert refusal(member(RECEIVER, lattice="onex"), data, "state") is Refusal.SIGNATURE


def test_a_text_that_begins_otherwise_is_not_a_message_whatever_key_signed_it() -> None:
    """A host signs tokens whose content actors choose in part. None of them may pass for a message."""
    keys = ClusterKeys("lattice", CLUSTER, [])
    sound = send(member(SENDER))
    head, body = sound[:75], sound[155:]
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (b"lattice", STATE.encode()))
    covered = head + names + hashlib.sha256(body).digest()

    def message(covered: bytes) -> bytes:
        signature = keys.sign(covered)
        return head + signature + keys.tag(covered + signature) + body

    assert message(b"\0kvrc2\0" + covered) == sound, "the format is as described"
    for prefix in (b"", b"kvrc2\0", b"\0kvrc1\0", b"eyJ"):
        assert refusal(member(RECEIVER), message(prefix + covered)) is Refusal.SIGNATURE


def test_a_body_cannot_pass_for_another_kind_than_the_head_names() -> None:
    data = member(SENDER).sign(STATE, signed.DELTAS, pack(BEAT), NOW_MS)
    assert refusal(member(RECEIVER), data) is Refusal.CONTENT


# --- keys


def test_only_issuers_that_are_believed_pass_and_the_own_key_always_is() -> None:
    stranger = send(member(SENDER, OTHER, OTHER_KEY))
    assert refusal(member(RECEIVER), stranger) is Refusal.ISSUER
    assert refusal(member(RECEIVER, CLUSTER, CLUSTER_KEY, OTHER_KEY), stranger) is None
    assert refusal(member(RECEIVER, OTHER, CLUSTER_KEY), stranger) is None, "its own key, though no issuer names it"
    assert refusal(member(RECEIVER, OTHER, CLUSTER_KEY), send(member(SENDER))) is None


def test_the_name_of_an_issuer_does_not_help_without_its_key() -> None:
    theirs, ours = send(member(SENDER, OTHER)), ClusterKeys("lattice", CLUSTER, []).issuer
    assert refusal(member(RECEIVER), theirs[:7] + ours + theirs[39:]) is Refusal.SIGNATURE


def test_a_refused_message_is_not_kept_until_a_collection() -> None:
    """A flood of large messages would fill the memory: a provider collects seldom."""
    receiver, sound = member(RECEIVER, CLUSTER, CLUSTER_KEY, OTHER_KEY), send(member(SENDER))
    theirs = send(member(OUTSIDER, OTHER, OTHER_KEY))
    stranger, seed = seed_of(3)
    refused = {
        Refusal.SIGNATURE: [sound + b"x", theirs + b"x"],
        Refusal.ISSUER: [send(member(SENDER, stranger, seed))],
        Refusal.REPEATED: [sound],
        Refusal.FOREIGN: [b"", sound[:20]],
        Refusal.CONTENT: [member(OUTSIDER).sign(STATE, signed.DELTAS, pack(BEAT), NOW_MS)],
    }
    assert refusal(receiver, sound) is None
    seen = set()
    gc.collect()
    gc.disable()
    try:
        for data in itertools.chain.from_iterable(refused.values()):
            seen.add(refusal(receiver, data))
            seen.add(refusal(receiver, data, now_ms=NOW_MS + 3_600_000))
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert {Refusal.SIGNATURE, Refusal.ISSUER, Refusal.REPEATED, Refusal.TIME} <= seen


def test_keys_for_which_anyone_can_sign_are_not_believed() -> None:
    point_of_small_order = b"\1" + bytes(31)
    weak = encode_public_key(KeyKind.CLUSTER, point_of_small_order)
    keys = ClusterKeys("lattice", CLUSTER, [weak, "not a key", CLUSTER_KEY])
    assert not keys.is_believed(point_of_small_order)
    assert keys.is_believed(keys.issuer)


def test_a_text_that_is_no_seed_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(ValueError, match="not the seed") as refused:
        ClusterKeys("lattice", Secret("SECRET-TEXT"), [])
    assert "SECRET-TEXT" not in str(refused.value)
    assert CLUSTER.reveal() not in repr(ClusterKeys("lattice", CLUSTER, []))


# --- times and numbers


@pytest.mark.parametrize(
    ("receiver_ms", "expected"),
    [(0, None), (120_000, None), (120_001, Refusal.TIME), (-60_000, None), (-60_001, Refusal.TIME)],
)
def test_a_message_is_believed_for_two_minutes_and_from_clocks_up_to_a_minute_ahead(
    receiver_ms: int, expected: Refusal | None
) -> None:
    assert refusal(member(RECEIVER), send(member(SENDER)), now_ms=NOW_MS + receiver_ms) is expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_each_message_is_taken_once_in_any_order(order: list[int]) -> None:
    sender, receiver = member(SENDER), member(RECEIVER)
    sent = [send(sender) for _ in range(41)]
    taken = [number for number in order if refusal(receiver, sent[number]) is None]
    assert sorted(taken) == sorted(set(order))


@given(st.lists(st.integers(1, 5000) | st.integers(1, 2**60), max_size=60))
def test_no_number_is_new_twice_and_a_later_one_always_is(numbers: list[int]) -> None:
    sender, taken, highest = sequences.SenderHistory(), set[int](), 0
    for number in numbers:
        if sender.is_new(number):
            assert number not in taken
            sender.take(number)
            taken.add(number)
        else:
            assert number in taken or number <= highest - 1024
        highest = max(highest, number)
        assert not sender.is_new(number)
        assert sender.is_new(highest + 1)


def test_an_unsigned_number_does_not_keep_a_signed_one_from_being_taken() -> None:
    """An outsider that guesses the next number of a sender must not make its message count as repeated."""
    sender, receiver = member(SENDER), member(RECEIVER)
    assert refusal(receiver, send(sender)) is None
    following = send(sender)
    assert refusal(receiver, following[:-1] + bytes([following[-1] ^ 1])) is Refusal.SIGNATURE
    assert refusal(receiver, following) is None


# --- bounds


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    checks: list[int] = []
    is_signed = ClusterKeys.is_signed

    def check(data: bytes, signature: bytes, issuer: bytes) -> bool:
        checks.append(1)
        return is_signed(data, signature, issuer)

    monkeypatch.setattr(ClusterKeys, "is_signed", staticmethod(check))
    return checks


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data, number: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data, number: data[:39] + b"%012d" % number + data[51:],
    ],
    ids=["in the name of a known replica", "in the names of replicas that do not exist"],
)
def test_signatures_are_checked_in_vain_up_to_a_number_each_second(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes, int], bytes]
) -> None:
    sender, receiver = member(SENDER), member(RECEIVER, OTHER, CLUSTER_KEY)
    assert refusal(receiver, send(sender)) is None
    checks = counted(monkeypatch)
    data = send(sender)
    seen = {refusal(receiver, spoil(data, number)) for number in range(3000)}
    assert seen == {Refusal.SIGNATURE, Refusal.UNCHECKED}
    assert len(checks) <= 1001
    assert receiver.check(data, STATE, NOW_MS, 1.0).sequence == 2, "a second later there is room again"


def test_a_flood_in_the_name_of_the_own_key_costs_no_signature_check_and_silences_no_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, checks = member(RECEIVER), counted(monkeypatch)
    sender, newcomer = member(SENDER), member(OUTSIDER)
    assert refusal(receiver, send(sender)) is None
    checks.clear()
    recorded = send(sender)
    for number in range(3000):
        flipped = bytearray(recorded)
        flipped[39 + number % (len(recorded) - 39)] ^= 1 << number % 8
        assert refusal(receiver, bytes(flipped)) is not None
        assert refusal(receiver, recorded[:39] + b"%012d" % number + recorded[51:]) is Refusal.SIGNATURE
    assert checks == []
    assert refusal(receiver, send(sender)) is None
    assert refusal(receiver, send(newcomer)) is None


def test_a_flood_in_one_name_does_not_silence_the_others_who_sign_with_another_key() -> None:
    flooded, other, receiver = member(SENDER), member(OUTSIDER), member(RECEIVER, OTHER, CLUSTER_KEY)
    for sender in (flooded, other):
        assert refusal(receiver, send(sender)) is None
    forged = bytearray(send(flooded))
    forged[100] ^= 1
    for _ in range(2000):
        refusal(receiver, bytes(forged))
    assert refusal(receiver, send(flooded)) is Refusal.UNCHECKED
    assert refusal(receiver, send(other)) is None


def test_strangers_cost_no_signature_check(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, checks = member(RECEIVER), counted(monkeypatch)
    sender = member(SENDER)
    old = send(sender)
    assert refusal(receiver, old) is None
    checks.clear()
    for data, now_ms in (
        (send(member(SENDER, OTHER, OTHER_KEY)), NOW_MS),
        (old, NOW_MS),
        (send(sender), NOW_MS + 200_000),
        (send(sender)[:100], NOW_MS),
    ):
        assert refusal(receiver, data, now_ms=now_ms) is not None
    assert checks == []


def test_the_number_of_senders_is_bounded_and_idle_ones_are_forgotten_when_their_messages_are_too_old() -> None:
    senders = sequences.Senders()
    for number in range(5000):
        senders.add(f"sender-{number:05}", float(number))
    assert senders.get("sender-00000") is None
    assert senders.get("sender-04999") is not None
    senders.drop_idle(5099.0, 100.0)
    assert senders.get("sender-04998") is None
    assert senders.get("sender-04999") is not None


# --- reports


def test_refusals_are_counted_by_reason_and_logged_once_a_minute() -> None:
    refusals = Refusals()
    assert [refusals.note(Refusal.ISSUER, float(second)) for second in range(0, 130, 10)].count(True) == 3
    assert not refusals.note(Refusal.ISSUER, 130.0)
    assert refusals.note(Refusal.REPEATED, 130.0)
    assert refusals.recent(131.0) == {Refusal.ISSUER: 14, Refusal.REPEATED: 1}
    assert refusals.signs_of_others(131.0, 2.5) == [Refusal.ISSUER]
    assert refusals.signs_of_others(140.0, 2.5) == []
    assert refusals.recent(190.0) == {}
    refusals.note(Refusal.ISSUER, 200.0)
    assert refusals.recent(200.0) == {Refusal.ISSUER: 1}


def test_the_guide_explains_each_reason_that_health_gives() -> None:
    guide = (Path(__file__).parents[4] / "docs/operating.md").read_text(encoding="utf-8")
    assert [refusal for refusal in Refusal if f"| `{refusal.value}` |" not in guide] == []


def test_the_difference_between_clocks_is_told() -> None:
    receiver = member(RECEIVER)
    receiver.check(send(member(SENDER)), STATE, NOW_MS + 20_000, 5.0)
    receiver.check(send(member(OUTSIDER)), STATE, NOW_MS - 7_000, 9.0)
    assert receiver.drift_ms(0.0) == 20_000
    assert receiver.drift_ms(6.0) == 7_000
    assert receiver.drift_ms(10.0) == 0
