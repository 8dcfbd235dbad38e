"""The reasons for which an invocation is denied. Keys and signatures are real."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
import nkeys
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from nacl.signing import SigningKey

from contracts.lattice import Invocation, WasmCloudEntity, entity_url, invocation_hash, target_url
from contracts.nkeys import decode_public_key, is_usable
from provider import errors
from provider.lattice.claims import ClaimsVerifier, decode_token

NOW = 1_800_000_000
CLUSTER_PREFIX = 2 << 3


def nkey(prefix: int, public: bytes) -> str:
    raw = bytes([prefix]) + public
    return base64.b32encode(raw + nkeys.crc16_checksum(raw)).decode().rstrip("=")


def key_pair(seed: int) -> tuple[SigningKey, str]:
    signing = SigningKey(bytes([seed]) * 32)
    return signing, nkey(CLUSTER_PREFIX, bytes(signing.verify_key))


CLUSTER, ISSUER = key_pair(1)
STRANGER, STRANGER_ISSUER = key_pair(2)
FORGER, _ = key_pair(3)
ACTOR = WasmCloudEntity("M" + "A" * 55)
PROVIDER = WasmCloudEntity("V" + "A" * 55, "default", "wasmcloud:keyvalue")


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


HEADER: dict[str, Any] = {"typ": "jwt", "alg": "Ed25519"}


def sign(claims: dict[str, Any], key: SigningKey = CLUSTER, header: dict[str, Any] = HEADER) -> str:
    signing_input = f"{segment(json.dumps(header).encode())}.{segment(json.dumps(claims).encode())}"
    return f"{signing_input}.{segment(key.sign(signing_input.encode()).signature)}"


@dataclass(frozen=True)
class Case:
    """An invocation that is valid except for the changes of a test."""

    claims: dict[str, Any] = field(default_factory=dict)
    wascap: dict[str, Any] | None = field(default_factory=dict)
    key: SigningKey = CLUSTER
    host_id: str = "N" + "A" * 55
    msg: bytes = b"\xa3foo"
    token: str | None = None

    def build(self) -> Invocation:
        origin_url, url = entity_url(ACTOR), target_url(PROVIDER, "KeyValue.Get")
        wascap: dict[str, Any] = {
            "target_url": url,
            "origin_url": origin_url,
            "hash": invocation_hash(origin_url, url, "KeyValue.Get", b"\xa3foo"),
        }
        claims = {"jti": "j", "iat": NOW, "iss": ISSUER, "sub": "id", "wascap_revision": 3} | self.claims
        if self.wascap is not None:
            claims["wascap"] = wascap | self.wascap
        return Invocation(
            origin=ACTOR,
            target=PROVIDER,
            operation="KeyValue.Get",
            msg=self.msg,
            id="id",
            encoded_claims=self.token or sign(claims, self.key),
            host_id=self.host_id,
            content_length=len(self.msg),
        )


VERIFIER = ClaimsVerifier([ISSUER])


def test_a_valid_invocation_is_accepted() -> None:
    assert VERIFIER.verify(Case().build(), NOW).sub == "id"
    assert VERIFIER.verify(Case(claims={"exp": NOW, "nbf": NOW}).build(), NOW).exp == NOW
    assert VERIFIER.verify(Case(host_id=ISSUER).build(), NOW).iss == ISSUER


# In the order of the reference; each entry spoils an invocation in one way.
REASONS: list[tuple[type[errors.InvocationDeniedError], Callable[[Case], Case]]] = [
    (errors.ClaimsExpiredError, lambda case: replace(case, claims=case.claims | {"exp": NOW - 1})),
    (errors.SignatureInvalidError, lambda case: replace(case, key=FORGER)),
    (errors.ClaimsNotYetValidError, lambda case: replace(case, claims=case.claims | {"nbf": NOW + 1})),
    (errors.WascapMissingError, lambda case: replace(case, wascap=None)),
    (errors.HashMismatchError, lambda case: replace(case, msg=b"\xa3bar")),
    (errors.HostIdInvalidError, lambda case: replace(case, host_id="X")),
    (
        errors.TargetUrlMismatchError,
        lambda case: replace(case, wascap=(case.wascap or {}) | {"target_url": "wasmbus://x"}),
    ),
    (
        errors.OriginUrlMismatchError,
        lambda case: replace(case, wascap=(case.wascap or {}) | {"origin_url": "wasmbus://x"}),
    ),
    (
        errors.IssuerUnknownError,
        lambda case: replace(case, claims=case.claims | {"iss": STRANGER_ISSUER}, key=STRANGER),
    ),
]


@pytest.mark.parametrize(("reason", "spoil"), REASONS, ids=[reason.__name__ for reason, _ in REASONS])
def test_each_reason_has_its_error(reason: type[errors.InvocationDeniedError], spoil: Callable[[Case], Case]) -> None:
    with pytest.raises(reason):
        VERIFIER.verify(spoil(Case()).build(), NOW)


@pytest.mark.parametrize("first", range(len(REASONS)))
def test_of_several_reasons_the_first_of_the_reference_is_given(first: int) -> None:
    for reason, spoil in REASONS[first + 1 :]:
        if reason is errors.HashMismatchError and REASONS[first][0] is errors.WascapMissingError:
            continue
        with pytest.raises(REASONS[first][0]):
            VERIFIER.verify(REASONS[first][1](spoil(Case())).build(), NOW)


def test_the_hash_of_a_chunked_invocation_is_checked_when_its_payload_is_there() -> None:
    invocation = Case().build()
    chunked = Case(msg=b"").build()
    chunked.content_length = 4
    claims = VERIFIER.verify(chunked, NOW)
    VERIFIER.verify_hash(chunked, claims, invocation.msg)
    with pytest.raises(errors.HashMismatchError):
        VERIFIER.verify_hash(chunked, claims, b"\xa3bar")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "é.b.c",
        f"{segment(b'{}')}.{segment(b'{}')}.{segment(bytes(64))}",
        f"{segment(json.dumps(HEADER | {'alg': 'none'}).encode())}.{segment(b'{}')}.",
        sign({"jti": "j"}),
        sign({"jti": "j", "iat": "soon", "iss": ISSUER, "sub": "id"}),
        sign({"jti": "j", "iat": NOW, "iss": "not a key", "sub": "id"}),
        sign({"jti": "j", "iat": NOW, "iss": ISSUER[:-1] + "A", "sub": "id"}),
        sign({"jti": "j", "iat": NOW, "iss": ISSUER, "sub": "id"})[:-2],
        sign({"jti": "j", "iat": NOW, "iss": ISSUER, "sub": "id"}) + "==",
        "." * 1000,
        "A" * 100_000,
    ],
)
def test_a_text_that_is_not_a_token_is_malformed(token: str) -> None:
    with pytest.raises(errors.ClaimsMalformedError):
        VERIFIER.verify(Case(token=token or ".").build(), NOW)


@pytest.mark.parametrize("prefix", [0, 2 << 3, 12 << 3, 13 << 3, 14 << 3, 20 << 3, 21 << 3])
def test_an_issuer_may_be_a_key_of_any_kind(prefix: int) -> None:
    issuer = nkey(prefix, bytes(CLUSTER.verify_key))
    assert decode_public_key(issuer) == (prefix, bytes(CLUSTER.verify_key))
    assert ClaimsVerifier([issuer]).verify(Case(claims={"iss": issuer}).build(), NOW).iss == issuer


NEUTRAL, ORDER_TWO = (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")
ORDER_FOUR, ORDER_EIGHT = bytes(32), bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


@pytest.mark.parametrize("point", [NEUTRAL, ORDER_TWO, ORDER_FOUR, ORDER_EIGHT], ids=bytes.hex)
def test_a_point_of_small_order_is_not_a_valid_issuer(point: bytes) -> None:
    issuer = nkey(2 << 3, point)
    assert not is_usable(issuer)
    forged = Case(claims={"iss": issuer}).build()
    forged.encoded_claims = f"{forged.encoded_claims.rpartition('.')[0]}.{segment(NEUTRAL + bytes(32))}"
    with pytest.raises(errors.IssuerUnknownError):
        VERIFIER.verify(forged, NOW)


# --- the same thousands of tokens through PyJWT with cryptography

ORDER = 2**252 + 27742317777372353535851937790883648493
PYJWT = jwt.PyJWT(options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False})
PYJWT._jws.register_algorithm("Ed25519", OKPAlgorithm())
PUBLIC = Ed25519PublicKey.from_public_bytes(bytes(CLUSTER.verify_key))


def ours(token: str) -> bool:
    try:
        return VERIFIER.is_signed(decode_token(token))
    except errors.InvocationDeniedError:
        return False


def theirs(token: str) -> bool:
    try:
        PYJWT.decode(token, PUBLIC, algorithms=["Ed25519"])
    except (jwt.PyJWTError, ValueError):
        return False
    return True


def flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def malleated(signature: bytes) -> bytes:
    """Return R and S + L: the same equation, which a strict verifier refuses."""
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def forgeries(randomness: random.Random, count: int) -> list[str]:
    """Return valid and forged tokens, whose segments are all well-formed base64url: the decoders differ in the rest."""
    tokens = []
    for number in range(count):
        claims = {"jti": f"j{number}", "iat": NOW, "iss": ISSUER, "sub": f"id{number}"}
        key = randomness.choice([CLUSTER, CLUSTER, STRANGER])
        token = sign(claims, key)
        header, body, last = token.split(".")
        signature = base64.urlsafe_b64decode(last + "==")
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        other = sign(claims | {"jti": "other"}).split(".")
        tokens += [
            token,
            f"{header}.{body}.{segment(flip(signature, randomness.randrange(64), randomness.randrange(8)))}",
            f"{header}.{segment(flip(raw, randomness.randrange(len(raw)), randomness.randrange(8)))}.{last}",
            f"{header}.{body}.{segment(malleated(signature))}",
            f"{header}.{body}.{segment(signature[: randomness.randrange(64)])}",
            f"{header}.{body}.{segment(signature + b'x')}",
            f"{header}.{body}.{segment(bytes(64))}",
            f"{header}.{other[1]}.{last}",
            f"{header}.{body}.{other[2]}",
            f"{body}.{header}.{last}",
            f"{header}.{body}",
            f"{header}.{body}.{last}.{last}",
            sign(claims, key, HEADER | {"alg": "none"}),
            sign(claims, key, HEADER | {"alg": "HS256"}),
            sign(claims | {"extra": [1, {"deep": None}]}, key),
        ]
    return tokens


def test_pyjwt_with_cryptography_agrees_about_thousands_of_tokens() -> None:
    tokens = forgeries(random.Random(7), 220)
    verdicts = [(ours(token), theirs(token)) for token in tokens]
    assert [token for token, (mine, other) in zip(tokens, verdicts, strict=True) if mine != other] == []
    assert len(tokens) >= 3000
    assert sum(mine for mine, _ in verdicts) > 200
