"""The operator's credentials stay with the operator's servers, and a link names only what it may."""

from __future__ import annotations

import pytest

from contracts.secret import Secret
from provider import errors
from provider.keyvalue.link_trust import LinkPolicy, join_values
from provider.nats.settings import ConnectionSettings

LATTICE = ConnectionSettings(servers=("nats://lattice:4222",))
LATTICE_WITH_CREDENTIALS = ConnectionSettings(LATTICE.servers, client_jwt=Secret("jwt"), client_seed=Secret("seed"))
CREDENTIALS = [
    {"CREDS_FILE": "/etc/user.creds"},
    {"CLIENT_JWT": "jwt", "CLIENT_SEED": "seed"},
    {"NKEY_SEED": "seed"},
    {"TOKEN": "token"},
    {"USER": "ann", "PASSWORD": "word"},
    {"TLS_CERT_FILE": "/etc/cert.pem", "TLS_KEY_FILE": "/etc/key.pem"},
]
every_credential = pytest.mark.parametrize("credential", CREDENTIALS, ids="-".join)


@every_credential
@pytest.mark.parametrize(
    "url",
    [
        "nats://elsewhere:4222",
        "nats://hub:4222,nats://elsewhere:4222",
        "nats://hub:4223",
        "tls://elsewhere",
        "nats://ann@hub:4222",
        "what is this",
    ],
)
def test_a_default_credential_goes_to_no_server_of_the_links_choice(credential: dict[str, str], url: str) -> None:
    defaults = {"URL": "nats://hub:4222", "BUCKET": "b"} | credential
    assert join_values(defaults, {"URL": url}, LATTICE) == {"BUCKET": "b", "URL": url}
    assert join_values(credential, {"URL": url}, LATTICE) == {"URL": url}


@every_credential
def test_a_default_credential_goes_to_the_servers_that_the_operator_or_the_lattice_names(
    credential: dict[str, str],
) -> None:
    hub = {"URL": "nats://hub:4222, nats://hub2:4222"}
    assert join_values(hub | credential, {"REPLICAS": "3"}, LATTICE) == hub | credential | {"REPLICAS": "3"}
    assert join_values(hub | credential, {"URL": "nats://hub2:4222"}, LATTICE).items() >= credential.items()
    assert join_values(credential, {}, LATTICE) == credential
    assert join_values(credential, {"URL": "nats://lattice:4222"}, LATTICE).items() >= credential.items()


@pytest.mark.parametrize("own", CREDENTIALS[:-1], ids="-".join)
def test_a_link_with_credentials_uses_no_others(own: dict[str, str]) -> None:
    for credential in CREDENTIALS[:-1]:
        assert join_values(credential, own, LATTICE) == own


@every_credential
def test_a_link_keeps_its_own_credentials_for_its_own_server(credential: dict[str, str]) -> None:
    given = credential | {"URL": "nats://elsewhere:4222"}
    assert join_values({"TOKEN": "operator's"}, given, LATTICE) == given


@pytest.mark.parametrize("authority", ["TLS_CA", "TLS_CA_FILE"])
def test_a_link_chooses_no_authority_for_credentials_that_are_not_its_own(authority: str) -> None:
    for defaults, lattice in [
        ({"TOKEN": "token"}, LATTICE),
        ({"URL": "nats://ann:word@hub"}, LATTICE),
        ({}, LATTICE_WITH_CREDENTIALS),
        ({}, ConnectionSettings(("nats://ann:word@lattice:4222",))),
    ]:
        with pytest.raises(errors.LinkError) as error:
            join_values(defaults, {authority: "ours"}, lattice)
        assert error.value.setting == authority
    for given in ({}, {"TOKEN": "token"}, {"URL": "tls://elsewhere"}):
        assert join_values({}, given | {authority: "ours"}, LATTICE)[authority] == "ours"
    given = {"URL": "tls://elsewhere", authority: "ours"}
    assert join_values({"TOKEN": "token"}, given, LATTICE_WITH_CREDENTIALS) == given


@pytest.mark.parametrize("name", ["CREDS_FILE", "TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"])
def test_a_file_of_a_link_must_be_in_a_listed_folder(name: str) -> None:
    policy = LinkPolicy(folders=("/etc/links", "/run/secrets/"))
    for allowed in ("/etc/links/a.pem", "/etc/links/deep/a.pem", "/run/secrets/a..b"):
        policy.check({name: allowed})
        LinkPolicy().check({name: allowed})
    for path in (
        "/etc/other.pem",
        "/etc/links",
        "/etc/links2/a",
        "/etc/links/../passwd",
        "a.pem",
        "~/a.pem",
        "//etc/links/a",
    ):
        with pytest.raises(errors.LinkError, match="link_files") as error:
            policy.check({name: path})
        assert error.value.setting == name
        LinkPolicy().check({name: path})
        with pytest.raises(errors.LinkError):
            LinkPolicy(folders=()).check({name: path})


def test_a_link_may_be_forbidden_to_name_servers() -> None:
    with pytest.raises(errors.LinkError, match="link_urls") as error:
        LinkPolicy(allows_urls=False).check({"URL": "nats://a"})
    assert error.value.setting == "URL"
    LinkPolicy(allows_urls=False).check({"TOKEN": "t"})
