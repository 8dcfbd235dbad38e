"""Keys as text: the same as other implementations write them, and nothing else is accepted."""

from __future__ import annotations

import base64

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from contracts.nkeys import (
    KeyKind,
    decode_public_key,
    encode_public_key,
    encode_seed,
    is_usable,
    key_pair,
    parse_seed,
)
from tests.blackbox.key_pairs import KeyPair

RAW = bytes(range(32))
LETTERS = {
    KeyKind.ACCOUNT: "A",
    KeyKind.CLUSTER: "C",
    KeyKind.MODULE: "M",
    KeyKind.SERVER: "N",
    KeyKind.OPERATOR: "O",
    KeyKind.USER: "U",
    KeyKind.SERVICE: "V",
    KeyKind.CURVE: "X",
}


@pytest.mark.parametrize("kind", KeyKind)
def test_a_public_key_has_56_characters_and_the_letter_of_its_kind(kind: KeyKind) -> None:
    key = encode_seed(kind, RAW).public_key
    assert len(key) == 56
    assert key[0] == LETTERS[kind]
    public = PrivateKey(RAW).public_key if kind is KeyKind.CURVE else SigningKey(RAW).verify_key
    assert decode_public_key(key) == (kind, bytes(public))


@pytest.mark.parametrize("kind", KeyKind)
def test_a_seed_has_58_characters_the_letters_of_its_kind_and_is_read_back(kind: KeyKind) -> None:
    seed = encode_seed(kind, RAW)
    text = seed.text.reveal()
    assert len(text) == 58
    assert text[:2] == "S" + LETTERS[kind]
    assert parse_seed(f" {text}\n") == seed
    assert seed.raw() == RAW


@pytest.mark.parametrize("kind", [KeyKind.ACCOUNT, KeyKind.CLUSTER, KeyKind.SERVER, KeyKind.OPERATOR, KeyKind.USER])
def test_seeds_and_public_keys_are_those_that_the_package_nkeys_makes(kind: KeyKind) -> None:
    seed = encode_seed(kind, RAW)
    assert seed.text.reveal() == nkeys.encode_seed(RAW, kind).decode()
    assert seed.public_key == key_pair(seed.text.reveal()).public_key.decode()


@pytest.mark.parametrize("kind", "ACMNUV")
def test_seeds_and_public_keys_are_those_that_were_encoded_by_hand(kind: str) -> None:
    pair = KeyPair.generate(kind)
    assert parse_seed(pair.seed).public_key == pair.public


def test_the_checksum_of_a_public_key_is_the_one_that_nkeys_computes() -> None:
    raw = base64.b32decode(encode_public_key(KeyKind.SERVICE, RAW))
    assert raw[1:33] == RAW
    assert nkeys.crc16_checksum(raw[:-2]) == raw[-2:]


def test_the_constants_of_the_reference_encode_to_themselves() -> None:
    """Source: wasmCloud v0.82.0 crates/host/src/wasmbus/mod.rs, test constants."""
    known = "VC3IJSRK3KIJUD5PQIEU2UNWT4PQCRYTAXFC4PDLTCMDX7L77YRUGCXW"
    kind, raw = decode_public_key(known)
    assert encode_public_key(KeyKind(kind), raw) == known


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.decode("latin-1")))
def test_any_other_text_is_neither_a_seed_nor_a_public_key(text: str) -> None:
    with pytest.raises(ValueError, match="not the seed of an nkey"):
        parse_seed(text)
    with pytest.raises(ValueError):  # noqa: PT011  (the callers word it)
        decode_public_key(text)
    assert not is_usable(text)


@given(st.integers(0, 56), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_wrong_letter_makes_a_seed_invalid(position: int, letter: str) -> None:
    """Except the last letter, of which two bits mean nothing."""
    text = encode_seed(KeyKind.SERVICE, RAW).text.reveal()
    if text[position] != letter:
        with pytest.raises(ValueError, match="seed"):
            parse_seed(text[:position] + letter + text[position + 1 :])


def test_a_public_key_is_not_a_seed_and_a_seed_not_a_public_key() -> None:
    seed = encode_seed(KeyKind.CLUSTER, RAW)
    with pytest.raises(ValueError, match="seed"):
        parse_seed(seed.public_key)
    with pytest.raises(ValueError, match="public"):
        decode_public_key(seed.text.reveal())


@pytest.mark.parametrize("text", ["", "SC", "nonsense", encode_seed(KeyKind.MODULE, RAW).text.reveal(), "\ud800"])
def test_there_is_no_key_pair_of_a_text_that_is_not_a_seed_of_nats(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected the seed of an nkey$"):
        key_pair(text)


def test_a_point_of_small_order_is_not_a_usable_key() -> None:
    neutral = (1).to_bytes(32, "little")
    assert not is_usable(encode_public_key(KeyKind.CLUSTER, neutral))
    assert is_usable(encode_seed(KeyKind.CLUSTER, RAW).public_key)


def test_a_seed_does_not_appear_in_its_repr() -> None:
    seed = encode_seed(KeyKind.SERVICE, RAW)
    assert seed.text.reveal() not in f"{seed!r} {seed}"
