"""`check` against real servers: the faults that it finds, its words for them, and that it changes nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import PROJECT_FOLDER
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.operator_mode import SigningKey
from tests.blackbox.nats.permissions import listed
from tests.process.operating.exporter_process import COMMAND, SECONDS, environment, run

PROVIDER, CLUSTER = KeyPair.generate("V"), KeyPair.generate("C")
USER = SigningKey(nkeys.PREFIX_BYTE_USER)
FEW = '"$JS.API.INFO", "$JS.API.STREAM.INFO.KV_users", "$KV.users.>", "$JS.API.DIRECT.GET.KV_users"'


def config() -> str:
    """A server with an administrator, a user with the listed permissions, one with few, and one without an inbox."""
    names = {"LATTICE": "default", "PROVIDER": PROVIDER.public, "LINK": "default"}
    block, _, _ = listed(PROJECT_FOLDER / "docs" / "operating.md", names, ["users"])
    return f"""
    no_auth_user: admin
    authorization {{ users: [
      {{ user: admin, password: a }}
      {{ nkey: {USER.public}
        {block}
      }}
      {{ user: few, password: secret-of-few, permissions {{ publish: [{FEW}], subscribe: ["_INBOX.>"] }} }}
      {{ user: deaf, password: d, permissions {{ publish: ">", subscribe: "x" }} }}
    ] }}
    """


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("check"), config()) as server:
        assert run("kv", "add", "users", "--nats", server.url).returncode == 0
        yield server


def check(*arguments: str) -> tuple[int, dict[tuple[str, str], str]]:
    """Run a check; return its exit code, and the texts and advice by state and subject."""
    done = run("check", "--json", *arguments)
    assert done.stderr == ""
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {(item["state"], item["about"]): f"{item['text']} {item['advice']}" for item in found}


def url_of(server: NatsServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}@")


def host_data(server: NatsServer, **changes: Any) -> bytes:
    link = {
        "actor_id": "MACTOR",
        "provider_id": PROVIDER.public,
        "link_name": "default",
        "contract_id": "wasmcloud:keyvalue",
        "values": {"BUCKET": "users", "WATCH": ">"},
    }
    fields = {
        "host_id": "NHOST",
        "lattice_rpc_prefix": "default",
        "link_name": "default",
        "provider_key": PROVIDER.public,
        "invocation_seed": CLUSTER.seed,
        "cluster_issuers": [CLUSTER.public],
        "lattice_rpc_url": server.url,
        "lattice_rpc_user_seed": USER.seed,
        "link_definitions": [link, link | {"values": {"BACKEND": "cache"}}],
    }
    return json.dumps(fields | changes).encode()


async def test_a_user_with_the_listed_permissions_passes_and_nothing_is_changed(
    server: NatsServer, tmp_path: Path
) -> None:
    before = run("kv", "info", "users", "--json", "--nats", server.url).stdout
    file = tmp_path / "host-data.json"
    file.write_bytes(host_data(server))
    code, found = await asyncio.to_thread(check, str(file))
    assert [item for item in found if item[0] in ("warning", "failed")] == []
    assert code == 0
    for about in (
        f"server {server.url}",
        "key invocation_seed",
        f"permission subscribe wasmbus.rpc.default.{PROVIDER.public}.default.>",
        "permission publish $JS.ACK.KV_users.>",
        "permission subscribe kvcache.default.default.state",
        "jetstream",
        "bucket users",
        "clock",
    ):
        assert ("ok", about) in found
    assert ("note", "permission publish $KV.users=pages.>") in found, "that block of the page is not granted"
    assert run("kv", "info", "users", "--json", "--nats", server.url).stdout == before, "no probe has been delivered"


async def test_what_is_missing_is_named_with_its_reason_and_the_way_out(server: NatsServer) -> None:
    values = ("--link-value", "BUCKET=users", "--link-value", "REPLICAS=3")
    (code, few), (deaf_code, deaf) = await asyncio.gather(
        asyncio.to_thread(check, "--nats", url_of(server, "few:secret-of-few"), *values),
        asyncio.to_thread(check, "--nats", url_of(server, "deaf:d"), *values),
    )
    assert code == deaf_code == 1
    consumers = few["failed", "permission publish $JS.API.CONSUMER.CREATE.KV_users"]
    assert "for the sweep of expired values" in consumers
    assert "docs/operating.md" in consumers
    assert ("failed", "permission publish $JS.API.DIRECT.GET.KV_users.>") in few
    assert ("ok", "permission publish $KV.users.>") in few
    assert ("ok", "permission publish $JS.API.DIRECT.GET.KV_users") in few
    assert ("warning", "permission publish $JS.API.STREAM.CREATE.KV_users") in few
    assert ("note", "permission publish $JS.API.STREAM.MSG.GET.KV_users") in few, "one replica does not need it"
    assert "3 is asked for, but the bucket has 1" in few["warning", "bucket users"]
    assert ("failed", "permission subscribe _INBOX.>") in deaf
    assert "no answer arrives" in deaf["note", "jetstream"]
    assert "secret-of-few" not in str(few)


async def test_a_server_that_cannot_be_used_is_told_by_its_reason(server: NatsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        urls = {
            "name": "nats://no-such-host.invalid:4222",
            "port": f"nats://127.0.0.1:{free_port()}",
            "mute": f"nats://127.0.0.1:{mute.getsockname()[1]}",
            "refused": url_of(server, "few:wrong"),
        }
        code, found = await asyncio.to_thread(check, "--nats", ",".join(urls.values()), "--timeout", "1s")
    assert code == 1
    shown = {word: url.replace("few:wrong@", "") for word, url in urls.items()}
    texts = {word: found["failed", f"server {url}"] for word, url in shown.items()}
    assert "cannot be resolved" in texts["name"]
    assert "connection refused" in texts["port"]
    assert "does not answer within 1 s" in texts["mute"]
    assert "authorization violation" in texts["refused"].lower()
    assert "give credentials" in texts["refused"]


async def greet_as_a_shell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_stranger_on_the_port_a_file_and_tls_each_have_their_advice(server: NatsServer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.creds"
    broken.write_text("no credentials")
    greeter = await asyncio.start_server(greet_as_a_shell, "127.0.0.1", 0)
    stranger = f"nats://127.0.0.1:{greeter.sockets[0].getsockname()[1]}"
    tls = server.url.replace("nats://", "tls://")
    (_, of_stranger), (_, of_file), (_, of_tls) = await asyncio.gather(
        asyncio.to_thread(check, "--nats", stranger),
        asyncio.to_thread(check, "--nats", server.url, "--creds", str(broken)),
        asyncio.to_thread(check, "--nats", tls),
    )
    greeter.close()
    await greeter.wait_closed()
    assert "is not a NATS server" in of_stranger["failed", f"server {stranger}"]
    assert of_file["failed", f"server {server.url}"] == (
        "is not asked: file is not a NATS credentials file Correct --creds, or the file."
    )
    assert "Take TLS out of the settings" in of_tls["failed", f"server {tls}"]


async def test_a_link_that_the_provider_ignores_is_named(server: NatsServer, tmp_path: Path) -> None:
    file = tmp_path / "host-data.json"
    link = {"actor_id": "MACTOR", "provider_id": "VOTHER", "link_name": "default", "contract_id": "c", "values": {}}
    file.write_bytes(host_data(server, link_definitions=[link]))
    code, found = await asyncio.to_thread(check, str(file))
    assert code == 3
    assert "for another provider" in found["warning", "link default of MACTOR"]


async def test_warnings_alone_and_wrong_command_lines_have_exit_codes_of_their_own(server: NatsServer) -> None:
    urls = f"{server.url},nats://127.0.0.1:{free_port()}"
    line = host_data(server, lattice_rpc_url=urls, invocation_seed=KeyPair.generate("C").seed, lattice_rpc_user_seed="")
    warned, wrong = await asyncio.gather(
        asyncio.to_thread(
            subprocess.run,
            [COMMAND, "check", "-"],
            input=line,
            env=environment(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        ),
        asyncio.to_thread(run, "check", "/no/such/file", "--lattice", "other"),
    )
    text = warned.stdout.decode()
    assert warned.returncode == 3, text
    assert "warning key invocation_seed: " in text
    assert text.splitlines()[-1].endswith("2 warning, 0 failed"), "one server of two suffices"
    assert wrong.returncode == 2
    assert "--lattice" in wrong.stderr


async def test_a_server_without_jetstream_is_told_as_such(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "plain", has_jetstream=False) as server:
        code, found = await asyncio.to_thread(check, "--nats", server.url, "--link-value", "BUCKET=users")
    assert code == 1
    assert "Enable JetStream" in found["failed", "jetstream"]
