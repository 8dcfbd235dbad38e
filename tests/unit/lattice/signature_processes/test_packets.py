"""The bytes between the provider and its helpers: each side understands the other, and garbage is recognized."""

from __future__ import annotations

import pytest
from ed25519_zebra import ed_verify
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from provider.lattice.signature_processes.helper import HEAD_BYTES, answer
from provider.lattice.signature_processes.packets import AnswerError, decode_answer, encode_batch, next_number

CHECKS = st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.binary()))


@given(number=st.integers(1, 2**32 - 1), checks=CHECKS, valid=st.sets(st.integers(0, 50)))
def test_a_helper_checks_what_was_sent_and_its_verdicts_come_back_in_order(
    number: int, checks: list[tuple[bytes, bytes, bytes]], valid: set[int]
) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []

    def verify(signature: bytes, signed: bytes, key: bytes) -> bool:
        seen.append((key, signature, signed))
        return len(seen) - 1 in valid

    packet = answer(encode_batch(number, checks), verify)
    assert seen == checks
    assert [verdict == 1 for verdict in decode_answer(packet, number, len(checks))] == [
        position in valid for position in range(len(checks))
    ]


@given(packet=st.binary(max_size=20))
def test_only_the_answer_to_the_batch_is_one(packet: bytes) -> None:
    is_answer = packet[:HEAD_BYTES] == b"\0\0\0\7\0\2" and len(packet) == 8 and set(packet[6:]) <= {0, 1}
    if not is_answer:
        with pytest.raises(AnswerError):
            decode_answer(packet, 7, 2)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0\0\0\7\0\2",
        b"\0\0\0\7\0\2\1",
        b"\0\0\0\7\0\2\1\1\1",
        b"\0\0\0\7\0\2\1\2",
        b"\0\0\0\6\0\2\1\1",
        b"\0\0\0\7\0\3\1\1",
    ],
)
def test_an_answer_that_is_almost_right_is_refused(packet: bytes) -> None:
    assert decode_answer(b"\0\0\0\7\0\2\1\0", 7, 2) == b"\1\0"
    with pytest.raises(AnswerError):
        decode_answer(packet, 7, 2)


def test_a_verdict_is_that_of_the_signature_library() -> None:
    key = SigningKey.generate()
    signed = [key.sign(b"first"), key.sign(b"second")]
    public = bytes(key.verify_key)
    checks = [
        (public, signed[0].signature, b"first"),
        (public, signed[1].signature, b"first"),
        (bytes(32), b"\1" * 64, b""),
    ]
    assert decode_answer(answer(encode_batch(1, checks), ed_verify), 1, 3) == b"\1\0\0"


def test_what_a_library_returns_beside_true_is_no_valid_signature() -> None:
    packet = answer(encode_batch(1, [(bytes(32), bytes(64), b"")]), lambda *_: "yes")  # type: ignore[arg-type]
    assert decode_answer(packet, 1, 1) == b"\0"


def test_numbers_start_again_after_the_last_one_without_that_of_the_first_message() -> None:
    assert [next_number(number) for number in (0, 1, 2**32 - 2, 2**32 - 1)] == [1, 2, 2**32 - 1, 1]
