"""The start from standard input. Invalid host data ends the provider with exit code 1 and one line without secrets."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.host_families import HARNESS, OTP, RUST, HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import PROJECT_FOLDER, LatticeHost
from tests.blackbox.nats.nats_server import free_port
from tests.process.conftest import Hosts

PROVIDER_TOML = (PROJECT_FOLDER / "provider.toml").read_text(encoding="utf-8")
EXIT_SECONDS = 5.0
CONFIG_SECRET = "hidden-in-config"


async def refusal(host: LatticeHost, line: bytes, **variables: str) -> str:
    """Start a provider that must not come up, and return the one line it prints."""
    host.launch(line, variables=variables)
    assert await host.provider.exited(EXIT_SECONDS) == 1
    printed = host.provider.stderr
    assert printed.count("\n") == 1, printed
    assert printed.endswith("\n"), printed
    assert "Traceback" not in printed
    for secret in (host.who.cluster.seed, host.who.host.seed, CONFIG_SECRET):
        assert secret not in printed
    return printed


def encoded(value: Any) -> bytes:
    return base64.b64encode(json.dumps(value).encode()) + b"\r\n"


NOT_HOST_DATA = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "white space": b"  \t \n",
    "no base64": b"this is not base64!\n",
    "base64url": base64.urlsafe_b64encode(b"\xfb\xff\xfe" * 20) + b"\n",
    "a cut base64": b"abcde\n",
    "no JSON": base64.b64encode(b"{host_id: hidden-in-config}") + b"\n",
    "cut JSON": base64.b64encode(b'{"host_id": "N') + b"\n",
    "no UTF-8": base64.b64encode(b'{"host_id": "\xff\xfe"}') + b"\n",
    "a text": encoded("hidden-in-config"),
    "null": encoded(None),
    "an array": encoded([1, 2]),
    "an empty object": encoded({}),
    "deep nesting": base64.b64encode(b"[" * 100_000) + b"\n",
    "bytes": bytes(range(256)) + b"\n",
}


@pytest.mark.parametrize("line", NOT_HOST_DATA.values(), ids=NOT_HOST_DATA.keys())
async def test_a_line_that_is_not_host_data_is_refused(hosts: Hosts, line: bytes) -> None:
    host = await hosts(OTP)
    host.family = RUST  # closes standard input, so that a provider that continues to read sees its end
    printed = await refusal(host, line)
    assert "host data" in printed


@pytest.mark.parametrize(
    "name", ["host_id", "lattice_rpc_prefix", "link_name", "provider_key", "invocation_seed", "cluster_issuers"]
)
async def test_a_missing_field_is_named(hosts: Hosts, name: str) -> None:
    host = await hosts(RUST)
    data = host.host_data([host.link(host.actor())], {"password": CONFIG_SECRET})
    del data[name]
    assert name in await refusal(host, host.family.encode_line(data))


WRONG: list[tuple[str, Any]] = [
    ("host_id", 5),
    ("host_id", ""),
    ("lattice_rpc_prefix", ["default"]),
    ("lattice_rpc_prefix", "with space"),
    ("lattice_rpc_prefix", "wild.*"),
    ("lattice_rpc_prefix", ""),
    ("link_name", {}),
    ("link_name", "new\nline"),
    ("provider_key", True),
    ("provider_key", ">"),
    ("invocation_seed", 5),
    ("cluster_issuers", "C"),
    ("cluster_issuers", []),
    ("cluster_issuers", [5]),
    ("cluster_issuers", ["no key at all", ""]),
    ("cluster_issuers", ["C" + "A" * 55]),
    ("link_definitions", "none"),
    ("link_definitions", {"a": 1}),
    ("default_rpc_timeout_ms", "soon"),
    ("lattice_rpc_url", 4222),
    ("lattice_rpc_url", "http://[broken"),
    ("config_json", {"max_in_flight": 8}),
    ("config_json", "{hidden-in-config"),
    ("config_json", '["hidden-in-config"]'),
    ("config_json", '{"max_in_flight": "hidden-in-config"}'),
    ("config_json", '{"max_in_flight": 0}'),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
async def test_a_field_of_the_wrong_kind_is_named(hosts: Hosts, name: str, value: Any) -> None:
    host = await hosts(RUST)
    printed = await refusal(host, host.family.encode_line(host.host_data([], **{name: value})))
    assert name in printed


async def test_an_unreachable_lattice_is_an_error_after_the_time_limit(hosts: Hosts) -> None:
    host = await hosts(RUST)
    data = host.host_data(
        [], {"connect_timeout_seconds": 1}, lattice_rpc_url=f"nats://someone:{CONFIG_SECRET}@127.0.0.1:{free_port()}"
    )
    assert "cannot connect to the lattice" in await refusal(host, host.family.encode_line(data))


@pytest.mark.parametrize("way", ["config_json", "environment"])
async def test_an_unknown_setting_in_a_custom_provider_toml_is_named(hosts: Hosts, tmp_path: Path, way: str) -> None:
    path = tmp_path / "provider.toml"
    path.write_text(PROVIDER_TOML.replace("[limits]", "[limits]\nmax_flight = 7"), encoding="utf-8")
    host = await hosts(RUST)
    config = {"provider_toml": str(path)} if way == "config_json" else None
    variables = {} if config else {"KEYVALUE_NATS_PROVIDER_TOML": str(path)}
    printed = await refusal(host, host.family.encode_line(host.host_data([], config)), **variables)
    assert "max_flight" in printed
    assert str(path) in printed


@pytest.mark.parametrize(
    ("broken", "named"),
    [("[link]\nbuckett = 'x'", "buckett"), ("[link]\nreplicas = 'x'", "replicas"), ("[limits", "provider.toml")],
)
async def test_an_invalid_provider_toml_is_named(hosts: Hosts, tmp_path: Path, broken: str, named: str) -> None:
    path = tmp_path / "provider.toml"
    identity = PROVIDER_TOML.partition("[limits]")[0]
    path.write_text(f"{identity}\n{broken}\n", encoding="utf-8")
    host = await hosts(RUST)
    printed = await refusal(host, host.family.encode_line(host.host_data([], {"provider_toml": str(path)})))
    assert named in printed


async def test_a_custom_provider_toml_applies(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "provider.toml"
    path.write_text(PROVIDER_TOML + '\nbucket = "from_the_file"\n', encoding="utf-8")
    host = await hosts(RUST)
    actor = host.actor()
    await host.start_provider([host.link(actor)], {"provider_toml": str(path)})
    await host.set(actor, "k", "v")
    reply = await host.client.request("$JS.API.DIRECT.GET.KV_from_the_file.$KV.from_the_file.k", b"", timeout=5)
    assert reply.data == b"v"


async def test_host_data_of_2000_links_starts_and_serves_the_first_and_the_last(host: LatticeHost) -> None:
    actors = [host.actor() for _ in range(2000)]
    links = [host.link(actor, {"BUCKET": f"many_{host.who.lattice}"}) for actor in actors]
    assert len(host.family.encode_line(host.host_data(links))) > 4 * 64 * 1024
    await host.start_provider(links)
    await host.set(actors[0], "k", "v")
    assert await host.get(actors[-1], "k") == "v"
    assert (await host.health()).is_healthy


@pytest.mark.parametrize("family", [OTP, HARNESS], ids=["otp", "harness"], indirect=True)
async def test_the_line_may_have_unknown_keys_and_unusual_encodings(host: LatticeHost, family: HostFamily) -> None:
    actor = host.actor()
    data = host.host_data([host.link(actor)], unheard_of={"a": [1]}, structured_logging=True)
    data["clusterIssuers"] = data.pop("cluster_issuers")
    line = base64.b64encode(json.dumps(data).encode())
    host.launch({"otp": line.rstrip(b"="), "harness": b" " + line + b" "}[family.name] + b"\n")
    await host.ready()
    await host.set(actor, "k", "v")
    assert await host.get(actor, "k") == "v"


async def test_issuers_may_be_keys_of_any_kind_and_unusable_ones_are_ignored(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    account = KeyPair.generate("A")
    issuers = ["no key", account.public, host.who.cluster.public]
    await host.start_provider([host.link(actor)], cluster_issuers=issuers)
    await host.set(actor, "k", "v")
    invocation = host.invocation(actor, "KeyValue.Contains", b"\xa1k", claims={"iss": account.public}, key=account)
    response = await host.invoke(invocation)
    assert (response.error, response.msg) == (None, b"\xc3")


async def test_no_secret_of_host_data_is_logged(host: LatticeHost) -> None:
    actor = host.actor()
    values = {"PASSWORD": CONFIG_SECRET, "USER": "someone", "UNHEARD_OF": CONFIG_SECRET}
    await host.start_provider([host.link(actor, values)], {"token": CONFIG_SECRET}, log_level="debug")
    await host.health()
    await host.shutdown()
    await host.provider.exited()
    for secret in (CONFIG_SECRET, host.who.cluster.seed, host.who.host.seed):
        assert secret not in host.provider.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_the_imports_unwinds_none_of_them(tmp_path: Path, number: signal.Signals) -> None:
    # The initialization of an extension module that is left by an exception may crash the interpreter at its end.
    (tmp_path / "msgspec.py").write_text(
        f"import os\ntry:\n    os.kill(os.getpid(), {int(number)})\n    sum(range(1000))\nfinally:\n    os.write(2, b'unwound')\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(tmp_path), str(PROJECT_FOLDER)])
    done = subprocess.run(
        [sys.executable, "-m", "provider"],
        env={"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
