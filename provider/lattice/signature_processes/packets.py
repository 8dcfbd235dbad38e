"""The bytes between the provider and a helper process. Pure. `helper` describes their form, and reads batches."""

from __future__ import annotations

from collections.abc import Iterable

from provider.lattice.signature_processes.helper import COUNT_BYTES, HEAD_BYTES, LENGTH_BYTES, NUMBER_BYTES

SignedBytes = tuple[bytes, bytes, bytes]
"""The input of a signature check: the key, the signature, and the signed bytes."""

_LAST_NUMBER = 2 ** (8 * NUMBER_BYTES) - 1


class AnswerError(Exception):
    """An answer that does not belong to its batch: the helper that gave it cannot be trusted."""


def next_number(number: int) -> int:
    """Return the number of the batch after this one. 0 is the number of the message by which a helper is ready."""
    return number + 1 if number < _LAST_NUMBER else 1


def encode_batch(number: int, checks: Iterable[SignedBytes]) -> bytes:
    """Encode a batch. The keys have 32 bytes, the signatures 64, and the signed bytes are shorter than 64 KiB."""
    parts = [b""]
    for key, signature, signed in checks:
        parts += (key, signature, len(signed).to_bytes(LENGTH_BYTES, "big"), signed)
    parts[0] = _head(number, (len(parts) - 1) // 4)
    return b"".join(parts)


def decode_answer(packet: bytes, number: int, count: int) -> bytes:
    """Return the verdicts of an answer: for each token of the batch 1 if its signature is valid, else 0.

    Raises:
        AnswerError: It is the answer to another batch, or no answer.
    """
    verdicts = packet[HEAD_BYTES:]
    if packet[:HEAD_BYTES] != _head(number, count) or len(verdicts) != count or verdicts.strip(b"\0\1"):
        raise AnswerError
    return verdicts


def _head(number: int, count: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES, "big") + count.to_bytes(COUNT_BYTES, "big")
