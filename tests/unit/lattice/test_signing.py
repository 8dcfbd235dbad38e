"""Invocations that this provider signs are accepted by its own verifier."""

from __future__ import annotations

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import lattice
from contracts.lattice import WasmCloudEntity
from contracts.secret import Secret
from provider import errors
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.signing import InvocationSigner
from tests.blackbox.key_pairs import KeyPair

CLUSTER, HOST, PROVIDER, ACTOR = (KeyPair.generate(kind) for kind in "CNVM")
SIGNER = InvocationSigner(HOST.public, Secret(CLUSTER.seed))
ORIGIN = WasmCloudEntity(PROVIDER.public, "default", "wasmcloud:keyvalue")


@given(st.binary(max_size=100), st.integers(0, 2**40))
def test_a_signed_invocation_is_verified_against_the_cluster(msg: bytes, now: int) -> None:
    signed = SIGNER.sign("id-1", ORIGIN, ACTOR.public, "KeyValueWatch.HandleChange", msg, now + 0.5)
    sent = lattice.decode_invocation(lattice.encode_invocation(signed))
    claims = ClaimsVerifier([CLUSTER.public]).verify(sent, now)
    assert (claims.iss, claims.sub, claims.iat) == (CLUSTER.public, "id-1", now)
    assert (claims.exp, claims.nbf) == (None, None)
    assert claims.wascap is not None
    assert claims.wascap.target_url == f"wasmbus://{ACTOR.public}/KeyValueWatch.HandleChange"
    assert claims.wascap.origin_url == f"wasmbus://wasmcloud/keyvalue/default/{PROVIDER.public}"
    assert (sent.host_id, sent.content_length) == (HOST.public, len(msg))


def test_another_cluster_does_not_accept_it() -> None:
    signed = SIGNER.sign("id-1", ORIGIN, ACTOR.public, "KeyValueWatch.HandleChange", b"", 1)
    with pytest.raises(errors.IssuerUnknownError):
        ClaimsVerifier([KeyPair.generate("C").public]).verify(signed, 1)


@pytest.mark.parametrize("seed", ["", "SC", "not a seed", CLUSTER.public], ids=["none", "short", "text", "public key"])
def test_a_text_that_is_not_a_seed_is_refused_without_being_shown(seed: str) -> None:
    with pytest.raises(ValueError, match=r"^expected the seed of an nkey$"):
        InvocationSigner(HOST.public, Secret(seed))


def test_the_issuer_is_the_public_key_of_the_seed() -> None:
    assert nkeys.from_seed(bytearray(CLUSTER.seed.encode())).public_key.decode() == CLUSTER.public
