import base64

import nkeys
import pytest

from provider.commands.dev_lattice.keys import (
    KeyKind,
    cluster_public_key,
    encode_public_key,
    make_cluster_seed,
    make_public_key,
)


@pytest.mark.parametrize(
    ("kind", "letter"),
    [(KeyKind.CLUSTER, "C"), (KeyKind.SERVER, "N"), (KeyKind.MODULE, "M"), (KeyKind.SERVICE, "V")],
)
def test_a_public_key_has_56_characters_and_the_letter_of_its_kind(kind: KeyKind, letter: str) -> None:
    key = make_public_key(kind)
    assert len(key) == 56
    assert key[0] == letter


def test_the_checksum_of_a_public_key_is_the_one_that_nkeys_computes() -> None:
    raw = base64.b32decode(encode_public_key(KeyKind.SERVICE, bytes(range(32))))
    assert raw[1:33] == bytes(range(32))
    assert nkeys.crc16_checksum(raw[:-2]) == raw[-2:]


def test_the_public_key_of_a_cluster_seed_is_the_one_that_nkeys_derives() -> None:
    seed = make_cluster_seed()
    pair = nkeys.from_seed(bytearray(seed.reveal().encode()))
    assert cluster_public_key(seed) == pair.public_key.decode()
    assert seed.reveal().startswith("SC")


def test_the_constants_of_the_reference_encode_to_themselves() -> None:
    """Source: wasmCloud v0.82.0 crates/host/src/wasmbus/mod.rs, test constants."""
    known = "VC3IJSRK3KIJUD5PQIEU2UNWT4PQCRYTAXFC4PDLTCMDX7L77YRUGCXW"
    raw = base64.b32decode(known)[1:33]
    assert encode_public_key(KeyKind.SERVICE, raw) == known


def test_a_fresh_seed_differs_from_the_last_one() -> None:
    assert make_cluster_seed() != make_cluster_seed()
