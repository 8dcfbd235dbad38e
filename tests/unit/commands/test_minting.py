import base64
import json

from msgspec import structs

from contracts import keyvalue, lattice
from contracts.nkeys import KeyKind, decode_public_key, parse_seed
from contracts.tokens import decode_token
from provider.commands.dev_lattice.actor import Signer, with_payload
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.start import make_identity
from provider.commands.minting import TokenMinter, is_signed, make_seed
from provider.lattice.claims import ClaimsVerifier

NOW = 1_700_000_000


def signed(request: keyvalue.Request) -> tuple[DevIdentity, lattice.Invocation]:
    link = make_identity("default", "default")
    return link, Signer(link).sign(request, issued_at=NOW)


def test_a_token_has_the_header_that_hosts_write_to_the_byte() -> None:
    token = TokenMinter(make_seed(KeyKind.CLUSTER)).mint({"a": 1})
    header, claims, signature = token.split(".")
    assert base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)) == b'{"typ":"jwt","alg":"Ed25519"}'
    assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))) == {"a": 1}
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64


def test_the_provider_accepts_what_the_development_lattice_signs() -> None:
    link, invocation = signed(keyvalue.Set("k", "ü", 0))
    claims = ClaimsVerifier([parse_seed(link.cluster_seed.reveal()).public_key]).verify(invocation, NOW)
    assert claims.sub == invocation.id
    assert claims.iat == NOW


def test_an_invocation_survives_the_wire() -> None:
    _, invocation = signed(keyvalue.Get("k"))
    assert lattice.decode_invocation(lattice.encode_invocation(invocation)) == invocation


def test_the_content_length_is_that_of_the_payload_also_after_it_was_altered() -> None:
    _, invocation = signed(keyvalue.Get("k"))
    altered = with_payload(invocation, keyvalue.Get("another, longer key"))
    assert altered.content_length == len(altered.msg) > len(invocation.msg)
    assert altered.encoded_claims == invocation.encoded_claims
    assert structs.replace(altered, msg=b"", content_length=0) == structs.replace(invocation, msg=b"", content_length=0)


def test_every_invocation_has_a_new_id() -> None:
    link = make_identity("default", "default")
    signer = Signer(link)
    assert len({signer.sign(keyvalue.Get("k")).id for _ in range(100)}) == 100


def test_a_token_is_signed_by_its_minter_and_by_no_other_key() -> None:
    minter, other = TokenMinter(make_seed(KeyKind.ACCOUNT)), make_seed(KeyKind.ACCOUNT)
    token = decode_token(minter.mint({"a": 1}), json.loads)
    assert token.claims == {"a": 1}
    assert is_signed(token, decode_public_key(minter.public_key)[1])
    assert not is_signed(token, decode_public_key(other.public_key)[1])
    assert not is_signed(
        structs.replace(token, signature=token.signature[:-1]), decode_public_key(minter.public_key)[1]
    )
