"""Connection settings of links, each against a server that requires them: first refused, then accepted.

While the server refuses a setting, every call is answered with an error that names the setting and shows no secret,
health names the link, and other links of the process go on. Once the server accepts it, the link heals by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nkeys
import pytest

from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.link_checks import reason, served
from tests.blackbox.nats.certificates import Authority
from tests.blackbox.nats.nats_server import free_port
from tests.blackbox.nats.operator_mode import Operator, SigningKey, creds_file
from tests.blackbox.nats.tcp_proxy import Proxy
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.integration.conftest import MakeActor, MakeServer


@dataclass(frozen=True)
class Case:
    """One way to connect.

    Attributes:
        setting: Link value that the error must name.
        values: Link values, besides the URL.
        right: Configuration of a server that accepts the values.
        wrong: Configuration of a server that refuses them.
        secrets: Texts that must not appear anywhere.
    """

    setting: str
    values: dict[str, str]
    right: str
    wrong: str
    secrets: list[str] = field(default_factory=list)


def password(folder: Path) -> Case:
    def server(text: str) -> str:
        return f'authorization {{ user: "ann", password: "{text}" }}'

    values = {"USER": "ann", "PASSWORD": "geheim-4711"}
    return Case("USER", values, server("geheim-4711"), server("another"), ["geheim-4711"])


def token(folder: Path) -> Case:
    def server(text: str) -> str:
        return f'authorization {{ token: "{text}" }}'

    return Case("TOKEN", {"TOKEN": "token-4711"}, server("token-4711"), server("another"), ["token-4711"])


def nkey(folder: Path) -> Case:
    def server(key: SigningKey) -> str:
        return f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"

    ours, other = SigningKey(nkeys.PREFIX_BYTE_USER), SigningKey(nkeys.PREFIX_BYTE_USER)
    return Case("NKEY_SEED", {"NKEY_SEED": ours.seed}, server(ours), server(other), [ours.seed])


def client_jwt(folder: Path) -> Case:
    ours, other = Operator(), Operator()
    user_token, seed = ours.user()
    values = {"CLIENT_JWT": user_token, "CLIENT_SEED": seed}
    return Case("CLIENT_JWT", values, ours.server_config(), other.server_config(), [user_token, seed])


def credentials(folder: Path) -> Case:
    ours, other = Operator(), Operator()
    user_token, seed = ours.user()
    path = folder / "user.creds"
    path.write_text(creds_file(user_token, seed))
    values = {"CREDS_FILE": str(path)}
    return Case("CREDS_FILE", values, ours.server_config(), other.server_config(), [user_token, seed])


def tls_server(authority: Authority, clients: Authority | None = None, further: str = "") -> str:
    certificate, key = authority.issue(f"server-{fresh()}")
    verify = f'ca_file: "{clients.file}", verify: true' if clients else ""
    return f'tls {{ cert_file: "{certificate}", key_file: "{key}", {verify}\n{further} }}'


def tls_ca_file(folder: Path) -> Case:
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    return Case("TLS_CA_FILE", {"TLS_CA_FILE": str(ours.file)}, tls_server(ours), tls_server(other))


def tls_ca(folder: Path) -> Case:
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    return Case("TLS_CA", {"TLS_CA": ours.pem}, tls_server(ours), tls_server(other))


def tls_certificate(folder: Path) -> Case:
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    certificate, key = ours.issue("client")
    values = {"TLS_CA_FILE": str(ours.file), "TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    secrets = [key.read_text().splitlines()[1]]
    return Case("TLS_CERT_FILE", values, tls_server(ours, ours), tls_server(ours, other), secrets)


def tls_no_certificate(folder: Path) -> Case:
    ours = Authority(folder, "ours")
    return Case("TLS_CERT_FILE", {"TLS_CA_FILE": str(ours.file)}, tls_server(ours), tls_server(ours, ours))


def tls_and_password(folder: Path) -> Case:
    ours, user = Authority(folder, "ours"), password(folder)
    server = tls_server(ours)
    values = {"TLS_CA_FILE": str(ours.file)} | user.values
    return Case("USER", values, f"{server}\n{user.right}", f"{server}\n{user.wrong}", user.secrets)


def no_credentials(folder: Path) -> Case:
    return Case("URL", {}, "", 'authorization { user: "ann", password: "x" }')


CASES = [
    password,
    token,
    nkey,
    client_jwt,
    credentials,
    tls_ca_file,
    tls_ca,
    tls_certificate,
    tls_no_certificate,
    tls_and_password,
    no_credentials,
]


async def refusal(actor: Actor, setting: str) -> str:
    """Wait for an error with a reason, which must name the setting."""
    message = await reason(actor)
    assert f"link value {setting}:" in message, message
    return message


async def healed(actor: Actor) -> None:
    key = fresh()
    await served(actor)
    await actor.set(key, "text")
    assert await actor.get(key) == "text"

    async def is_healthy() -> bool:
        return (await actor.host.health()).is_healthy

    await eventually(is_healthy, "good health", 5)


@pytest.mark.parametrize("make_case", CASES, ids=lambda make_case: make_case.__name__)
async def test_a_wrong_setting_is_named_and_the_link_heals_when_the_server_accepts_it(
    host: LatticeHost,
    make_actor: MakeActor,
    make_server: MakeServer,
    witness: Actor,
    tmp_path: Path,
    make_case: Callable[[Path], Case],
) -> None:
    case = make_case(tmp_path)
    server = make_server(case.wrong)
    server.start()
    actor = await make_actor(URL=server.url, **case.values)
    message = await refusal(actor, case.setting)
    health = await host.health()
    assert not health.is_healthy
    assert actor.public_key in health.message
    assert case.setting in health.message
    assert await witness.get("witness") == "here"
    server.stop()
    server.config = case.right
    server.start()
    await healed(actor)
    assert await witness.get("witness") == "here"
    for secret in case.secrets:
        assert secret not in message
        assert secret not in health.message
        assert secret not in host.provider.stderr
    assert str(server.port) not in message


async def test_a_missing_server_is_named_by_its_setting_and_the_link_heals_when_it_starts(
    host: LatticeHost, make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    server = make_server()
    actor = await make_actor(URL=server.url)
    message = await refusal(actor, "URL")
    assert str(server.port) not in message
    assert actor.public_key in (await host.health()).message
    assert await witness.get("witness") == "here"
    server.start()
    await healed(actor)


async def test_a_missing_or_broken_credentials_file_is_named_and_read_once_it_is_right(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path
) -> None:
    operator = Operator()
    server = make_server(operator.server_config())
    server.start()
    path = tmp_path / "late.creds"
    actor = await make_actor(URL=server.url, CREDS_FILE=str(path))
    await refusal(actor, "CREDS_FILE")
    path.write_text("no credentials at all")
    await refusal(actor, "CREDS_FILE")
    path.write_text(creds_file(*operator.user()))
    await healed(actor)


@pytest.mark.parametrize("setting", ["TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA"])
async def test_a_tls_file_that_cannot_be_read_is_named(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path, setting: str
) -> None:
    ours = Authority(tmp_path, "ours")
    server = make_server(tls_server(ours, ours))
    server.start()
    certificate, key = ours.issue("client")
    values = {"TLS_CA_FILE": str(ours.file), "TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    if setting == "TLS_CA":
        del values["TLS_CA_FILE"]
    values[setting] = "no certificate" if setting == "TLS_CA" else str(tmp_path / "missing.pem")
    message = await refusal_of_any(await make_actor(URL=server.url, **values))
    assert setting in message or (setting == "TLS_KEY_FILE" and "TLS_CERT_FILE" in message), message


async def refusal_of_any(actor: Actor) -> str:
    async def reason() -> str:
        message = await actor.error("Get", "k")
        return "" if "being opened" in message else message

    message: str = await eventually(reason, "a reason", 12)
    return message


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"BUCKET": "a b"}, "BUCKET"),
        ({"BUCKET": "a.b"}, "BUCKET"),
        ({"BACKEND": "redis"}, "BACKEND"),
        ({"CREATE": "perhaps"}, "CREATE"),
        ({"REPLICAS": "0"}, "REPLICAS"),
        ({"REPLICAS": "three"}, "REPLICAS"),
        ({"STORAGE": "tape"}, "STORAGE"),
        ({"TTL": "-1"}, "TTL"),
        ({"MAX_BYTES": "lots"}, "MAX_BYTES"),
        ({"MAX_VALUE_SIZE": "1Q"}, "MAX_VALUE_SIZE"),
        ({"CONSISTENCY": "eventual"}, "CONSISTENCY"),
        ({"URL": "http://127.0.0.1:4222"}, "URL"),
        ({"URL": "nats://"}, "URL"),
        ({"URL": "nats://127.0.0.1:999999"}, "URL"),
        ({"NKEY_SEED": "geheim-4712"}, "NKEY_SEED"),
        ({"CLIENT_JWT": "geheim-4712"}, "CLIENT_SEED"),
        ({"CLIENT_SEED": "SUAgeheim-4712"}, "CLIENT_SEED"),
        ({"USER": "ann"}, "PASSWORD"),
        ({"PASSWORD": "geheim-4712"}, "USER"),
        ({"TLS_CERT_FILE": "/nowhere"}, "TLS_KEY_FILE"),
        ({"TLS_KEY_FILE": "/nowhere"}, "TLS_CERT_FILE"),
        ({"JS_DOMAIN": "a.b"}, "JS_DOMAIN"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
async def test_an_invalid_value_is_named_at_once_and_not_shown(
    host: LatticeHost, make_actor: MakeActor, witness: Actor, values: dict[str, str], setting: str
) -> None:
    actor = await make_actor(**values)
    message = await actor.error("Get", "k")
    assert f"link value {setting}:" in message, message
    health = await host.health()
    assert not health.is_healthy
    assert setting in health.message
    assert actor.public_key in health.message
    assert await witness.get("witness") == "here"
    for text in (message, health.message, host.provider.stderr):
        assert "geheim-4712" not in text
    await host.put_link(host.link(actor.public_key, {"BUCKET": "healed-by-a-put"}))
    assert await actor.contains("k") is False


async def test_of_several_urls_the_first_may_be_dead(make_actor: MakeActor, make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    actor = await make_actor(URL=f"nats://127.0.0.1:{free_port()}, {server.url}")
    await healed(actor)


@pytest.mark.parametrize(
    "names",
    [
        ("URL", "USER", "PASSWORD"),
        ("NATS_URL", "user", "Password"),
        ("cluster_uri", "User", "password"),
        ("nats-url", "USER", "PASSWORD"),
        ("Cluster-Uri", "uSER", "pASSWORD"),
    ],
    ids="-".join,
)
async def test_names_of_settings_have_aliases_and_any_letter_case(
    make_actor: MakeActor, make_server: MakeServer, names: tuple[str, str, str]
) -> None:
    server = make_server('authorization { user: "ann", password: "x y" }')
    server.start()
    address = server.url.removeprefix("nats://") if names[0] == "nats-url" else server.url
    actor = await make_actor(**dict(zip(names, (address, "ann", "x y"), strict=True)))
    await healed(actor)


@pytest.mark.parametrize("name", ["CREDS_FILE", "CREDSFILE", "credsfile", "NATS_CREDS_FILE", "nats-creds-file"])
async def test_the_credentials_file_has_aliases(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path, name: str
) -> None:
    operator = Operator()
    server = make_server(operator.server_config())
    server.start()
    path = tmp_path / "user.creds"
    path.write_text(creds_file(*operator.user()))
    await healed(await make_actor(**{"URL": server.url, name: str(path)}))


async def test_credentials_that_are_revoked_while_the_link_is_open_are_named(
    host: LatticeHost, make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    case = password(Path())
    server = make_server(case.right)
    server.start()
    actor = await make_actor(URL=server.url, **case.values)
    assert await actor.increment("k") == 1
    server.stop()
    server.config = case.wrong
    server.start()
    message = await actor.error("Increment", {"key": "k", "value": 1})
    assert "geheim" not in message

    async def is_unhealthy() -> bool:
        return actor.public_key in (await host.health()).message

    await eventually(is_unhealthy, "bad health", 5)
    assert await witness.get("witness") == "here"
    server.stop()
    server.config = case.right
    server.start()
    await healed(actor)
    assert await actor.get("k") == "1"


@pytest.mark.parametrize("first", ["true", '"auto"', '"300ms"', '"1s"', "false"])
async def test_a_server_that_waits_for_the_tls_handshake_is_served_and_found_again(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path, first: str
) -> None:
    authority = Authority(tmp_path, "ours")
    server = make_server(tls_server(authority, further=f"handshake_first: {first}"))
    server.start()
    actor = await make_actor(URL=server.url.replace("nats:", "tls:"), TLS_CA_FILE=str(authority.file))
    await served(actor)
    server.restart()
    await served(actor)


async def test_a_false_authority_or_a_missing_certificate_is_named_also_when_the_handshake_is_first(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    server = make_server(tls_server(authority, authority, "handshake_first: true"))
    server.start()
    for file, setting in ((other.file, "TLS_CA_FILE"), (authority.file, "TLS_CERT_FILE")):
        message = await reason(await make_actor(URL=server.url, TLS_CA_FILE=str(file)))
        assert f"link value {setting}:" in message, message
        assert "another client certificate" not in message, "the link has none"


async def test_a_tls_server_that_greets_late_is_reached(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    server = make_server(tls_server(authority, further="timeout: 10"))
    server.start()
    async with Proxy(server.port, delay_seconds=0.7) as proxy:
        connection_settings = ConnectionSettings((proxy.url,), tls_ca_file=str(authority.file))
        async with Connection(connection_settings, "test", 20) as connection:
            assert connection.is_connected


async def test_a_server_whose_handshake_fails_does_not_keep_the_next_one_from_being_tried(
    make_server: MakeServer, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    wrong, right = make_server(tls_server(other)), make_server(tls_server(authority))
    wrong.start()
    right.start()
    connection_settings = ConnectionSettings((wrong.url, right.url), tls_ca_file=str(authority.file))
    async with Connection(connection_settings, "test", 10) as connection:
        assert connection.is_connected
