import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.archive import ArchiveClaims, ProviderMetadata, cached_folder, cached_name
from contracts.nkeys import parse_seed
from provider.commands.errors import MalformedArchiveError
from provider.commands.par.archive_claims import decode_claims, problems, sign_claims
from provider.commands.par.archive_file import Contents, Executable
from tests.blackbox.key_pairs import KeyPair
from tests.unit.commands.par.files import EXECUTABLE, NOW, TARGET, claims, token

ISSUER = KeyPair.generate("A")
SUBJECT = KeyPair.generate("V")
HASH = hashlib.sha256(EXECUTABLE).hexdigest().upper()
ENTRY = Executable(TARGET, len(EXECUTABLE), HASH)


def found(encoded: str, *entries: Executable, now: float = NOW) -> str:
    return "; ".join(problems(Contents(encoded, entries or (ENTRY,)), decode_claims(encoded), now))


def good(**changed: Any) -> dict[str, Any]:
    return claims(ISSUER.public, SUBJECT.public, **changed)


def made(**changed: Any) -> ArchiveClaims:
    metadata = ProviderMetadata(contract_id="wasmcloud:keyvalue", vendor="v", target_hashes={TARGET: HASH}, **changed)
    return ArchiveClaims(jti="j", iat=NOW, iss=ISSUER.public, sub=SUBJECT.public, wascap=metadata, wascap_revision=3)


def test_a_valid_archive_of_another_tool_has_no_problems() -> None:
    assert found(token(good(), ISSUER)) == ""


def test_an_archive_for_hosts_of_1x_alone_has_no_contract_and_may_have_its_interfaces() -> None:
    metadata = {"name": "n", "vendor": "v", "target_hashes": {TARGET: HASH, "world.wasm": HASH}}
    world = Executable("world.wasm", len(EXECUTABLE), HASH)
    assert found(token(good(wascap=metadata), ISSUER), ENTRY, world) == ""


def test_other_tools_verify_the_claims_that_this_project_signs() -> None:
    header, body, signature = sign_claims(made(revision=7, version="1.2.3"), parse_seed(ISSUER.seed)).split(".")
    ISSUER.signing_key.verify_key.verify(f"{header}.{body}".encode(), base64.urlsafe_b64decode(signature + "=="))
    read = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"typ": "jwt", "alg": "Ed25519"}
    assert read == good(
        wascap={
            "capid": "wasmcloud:keyvalue",
            "vendor": "v",
            "rev": 7,
            "ver": "1.2.3",
            "target_hashes": {TARGET: HASH},
        }
    )


def test_claims_signed_by_this_project_have_no_problems() -> None:
    assert found(sign_claims(made(), parse_seed(ISSUER.seed))) == ""


def test_without_a_revision_the_claim_is_absent() -> None:
    body = sign_claims(made(), parse_seed(ISSUER.seed)).split(".")[1]
    assert b"rev" not in base64.urlsafe_b64decode(body + "==").replace(b"wascap_revision", b"")


WRONG = {
    "signed by another": (token(good(), KeyPair.generate("A")), "not signed by their issuer"),
    "another algorithm": (token(good(), ISSUER, {"typ": "jwt", "alg": "none"}), "header"),
    "an issuer of another kind": (token(good(iss=SUBJECT.public), SUBJECT), "issuer is not a key of kind account"),
    "an issuer that is not a key": (token(good(iss="Abc"), ISSUER), "issuer is not a public key"),
    "a subject of another kind": (token(good(sub=ISSUER.public), ISSUER), "subject is not a key of kind service"),
    "a subject that is not a key": (token(good(sub=""), ISSUER), "subject is not a public key"),
    "expired": (token(good(exp=NOW - 1), ISSUER), "expired"),
    "not valid yet": (token(good(nbf=NOW + 1), ISSUER), "not valid yet"),
    "revision 0": (token(good(wascap=good()["wascap"] | {"rev": 0}), ISSUER), "revision is 0"),
    "no vendor": (token(good(wascap=good()["wascap"] | {"vendor": ""}), ISSUER), "vendor is empty"),
}


@pytest.mark.parametrize(("encoded", "reason"), WRONG.values(), ids=WRONG.keys())
def test_each_problem_of_the_claims_is_reported(encoded: str, reason: str) -> None:
    assert reason in found(encoded)


def test_a_claim_changed_after_signing_is_detected() -> None:
    header, _, signature = token(good(), ISSUER).split(".")
    body = token(good(iat=NOW + 1), ISSUER).split(".")[1]
    assert "not signed by their issuer" in found(f"{header}.{body}.{signature}")


def test_every_target_is_compared_with_its_hash() -> None:
    encoded = token(good(), ISSUER)
    other = Executable("aarch64-linux", 1, HASH)
    assert (
        found(encoded, Executable(TARGET, 1, HASH[::-1]))
        == f"the executable for {TARGET} is not the one that was signed"
    )
    assert "hold no hash of aarch64-linux" in found(encoded, ENTRY, other)
    assert f"the executable for {TARGET} is missing" in found(encoded, other)
    assert "no executable" in "; ".join(problems(Contents(encoded, ()), decode_claims(encoded), NOW))


NO_TOKENS = ["", "a.b", "a.b.c.d", "ü.b.c", "!.!.!", "e30.e30.", "bnVsbA.e30.AAAA", token([], ISSUER)]


@pytest.mark.parametrize("encoded", [*NO_TOKENS, token(good(iat="now"), ISSUER), token(good(wascap=None), ISSUER)])
def test_a_text_that_is_not_a_token_is_refused(encoded: str) -> None:
    with pytest.raises(MalformedArchiveError, match="its claims"):
        decode_claims(encoded)


@given(
    st.text(max_size=200)
    | st.lists(st.binary().map(base64.urlsafe_b64encode), max_size=4).map(lambda parts: b".".join(parts).decode())
)
def test_any_text_is_a_token_or_refused(encoded: str) -> None:
    try:
        decode_claims(encoded)
    except MalformedArchiveError as error:
        assert str(error)  # noqa: PT017  (no other exception comes out)


@pytest.mark.parametrize(("revision", "folder"), [(None, NOW), (0, NOW), (-1, NOW), (3, 3)])
def test_hosts_cache_by_revision_and_without_one_by_the_time_of_signing(revision: int | None, folder: int) -> None:
    assert cached_folder(made(revision=revision)) == f"wasmcloudcache/{SUBJECT.public}/{folder}"


def test_the_cached_name_has_letters_digits_and_underscores() -> None:
    assert cached_name("wasmcloud:keyvalue", "My-Link.1") == "wasmcloud_keyvalue_my_link_1"
