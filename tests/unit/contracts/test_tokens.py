"""Tokens taken apart and put together, without any judgement about them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import lattice, tokens
from contracts.tokens import TokenMalformedError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "wasmbus.json").read_text())


def test_the_header_is_the_one_that_hosts_write() -> None:
    assert tokens.decode_segment(tokens.ENCODED_HEADER) == b'{"typ":"jwt","alg":"Ed25519"}'
    assert VECTORS["jwt"].startswith(tokens.ENCODED_HEADER.decode() + ".")


def test_the_token_of_the_reference_is_taken_apart_and_put_together_to_the_byte() -> None:
    token = tokens.decode_token(VECTORS["jwt"], json.loads)
    assert token.header == tokens.ENCODED_HEADER
    assert len(token.signature) == tokens.SIGNATURE_BYTES

    def sign(data: bytes) -> bytes:
        assert data == token.signing_input
        return token.signature

    assert tokens.encode_token(token.claims, sign) == VECTORS["jwt"]


def test_the_claims_of_an_invocation_are_those_of_the_reference() -> None:
    invocation = lattice.decode_invocation(bytes.fromhex(VECTORS["invocation_rust_host"]))
    theirs = tokens.decode_token(VECTORS["jwt"], json.loads).claims
    ours = tokens.invocation_claims(invocation, theirs["iss"], theirs["iat"])
    assert list(ours) == list(theirs)
    assert ours | {"jti": theirs["jti"]} == theirs


@given(st.binary(max_size=80))
def test_a_segment_is_base64url_without_padding(data: bytes) -> None:
    encoded = tokens.encode_segment(data)
    assert encoded == base64.urlsafe_b64encode(data).rstrip(b"=")
    assert tokens.decode_segment(encoded) == data


@pytest.mark.parametrize("segment", [b"a", b"YQ==", b"+/+/", b'a\\b"', b"a b c", b"\xff\xff\xff\xff", b"YWJj\n"])
def test_anything_else_is_not_a_segment(segment: bytes) -> None:
    with pytest.raises(TokenMalformedError, match="base64url without padding"):
        tokens.decode_segment(segment)


@pytest.mark.parametrize("encoded", ["", "a.b", "a.b.c.d", "\xfc.b.c", "\ud800.b.c"])
def test_a_token_has_three_segments(encoded: str) -> None:
    with pytest.raises(TokenMalformedError, match=r"three segments|a segment is not"):
        tokens.decode_token(encoded, json.loads)
