"""The short road of `kv get` against the long one: the same output and exit code for every command that it takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nats.js.client import JetStreamContext

from provider.keyvalue.keys import encode_key
from tests.blackbox.nats.nats_buckets import with_jetstream
from tests.blackbox.nats.nats_server import NatsServer, free_port

DRIVER = """
import io, json, os, signal, sys
from provider.commands.app import main
from provider.commands.kv.short_read import short_get

def outcome(road):
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        code = road()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return [code, sys.stdout.buffer.getvalue().hex(), sys.stderr.buffer.getvalue().hex()]
    finally:
        sys.stdout, sys.stderr = out, err

for variables, words in json.load(sys.stdin):
    os.environ.update(variables)
    sys.argv = ["keyvalue-nats", "kv", "get", *words]
    print(json.dumps([outcome(lambda: short_get(words, os.environ)), outcome(main)]))
    for name in variables:
        del os.environ[name]
"""
"""Runs commands on both roads, in one process: most of the time of a command is its start."""

FOREVER_MS = 4_000_000_000_000
LAST_WEEK_MS = 1_700_000_000_000
TEXTS = (b"", b"v", b"a\nb\tc", "grün ✓".encode(), b"\x1b[31mred\x07", b"\xff\x00\xfe", b"x" * 70_000, b'["a"]', b"12")
KINDS = ("", "text", "counter", "list", "set", "binary value", "paged", "tomorrow's")
ENDS: tuple[dict[str, str], ...] = (
    *({}, {"Expires-At": str(FOREVER_MS)}, {"Expires-At": str(LAST_WEEK_MS)}, {"Expires-At": "soon"}),
    *({"Nats-TTL": "3h"}, {"Nats-TTL": "never"}, {"Op-Id": "AbC.7"}),
)
MARKERS = ({"KV-Operation": "DEL"}, {"KV-Operation": "PURGE"}, {"Nats-Marker-Reason": "MaxAge"})
BUCKETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "history": {"max_msgs_per_subject": 5},
    "aging": {"max_age": 3600},
    "foreign": {"subjects": ["$KV.foreign.k"]},
    "lossy": {"retention": "workqueue"},
}

Command = tuple[dict[str, str], list[str]]
Outcome = tuple[int | None, bytes, bytes]


class Roads(NamedTuple):
    """The outcomes of one command. The code of the short road is `None` if it has left the command to the long one."""

    short: Outcome
    long: Outcome


def run(folder: Path, url: str, commands: list[Command]) -> list[Roads]:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env={"XDG_RUNTIME_DIR": str(folder), "NATS_URL": url},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [[(code, bytes.fromhex(out), bytes.fromhex(err)) for code, out, err in json.loads(line)]
                for line in done.stdout.splitlines()]  # fmt: skip
    return [Roads(*each) for each in outcomes]


def timeless(outcome: Outcome) -> Outcome:
    """Return an outcome without the time that is left, which may have gone on by a second."""
    code, out, err = outcome
    return code, re.sub(rb"expires in [0-9a-z.]+", b"expires in a while", out), err


def check_same(roads: Roads, command: Command) -> None:
    if roads.short[0] is None:
        assert roads.short == (None, b"", b""), command
    else:
        assert timeless(roads.short) == timeless(roads.long), command


def messages() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return payload and headers of many messages, by key: every kind with every text and with every end, and markers."""
    found: dict[str, tuple[bytes, dict[str, str]]] = {}
    for kind in KINDS:
        named = {"Kv-Kind": kind} if kind else {}
        for text in TEXTS:
            found[f"k.{len(found)}"] = text, named
        for end in ENDS:
            found[f"k.{len(found)}"] = b"v", named | end
    found |= {f"marker.{number}": (b"", headers) for number, headers in enumerate(MARKERS)}
    found |= {encode_key(key): (b"v", {}) for key in ("user:1", "a b", ".x", "=_lease")}
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:

        async def fill(jetstream: JetStreamContext) -> None:
            for name, settings in BUCKETS.items():
                config: dict[str, Any] = {
                    "name": f"KV_{name}",
                    "subjects": [f"$KV.{name}.>"],
                    "allow_msg_ttl": True,
                } | settings
                config |= {"max_age": config.get("max_age", 0) * 10**9, "allow_direct": True}
                config.setdefault("max_msgs_per_subject", 1)
                answer = await jetstream._api_request(f"$JS.API.STREAM.CREATE.KV_{name}", json.dumps(config).encode())
                assert "error" not in answer
            for name in ("plain", "history", "aging"):
                for key, (payload, headers) in messages().items():
                    await jetstream.publish(f"$KV.{name}.{key}", payload, headers=headers or None)

        with_jetstream(server.url, fill)
        yield server


@pytest.mark.parametrize("bucket", ["plain", "history", "aging"])
def test_every_message_is_read_as_on_the_long_road(server: NatsServer, tmp_path: Path, bucket: str) -> None:
    forms: list[list[str]] = [[], ["--json"], ["--raw"]]
    stored = messages() | {"missing": (b"", {})}
    commands: list[Command] = [({}, [bucket, key, *forms[number % 3]]) for number, key in enumerate(stored)]
    outcomes = run(tmp_path, server.url, commands)
    for command, roads, (_, headers) in zip(commands, outcomes, stored.values(), strict=True):
        check_same(roads, command)
        is_left = headers.get("Kv-Kind") == "paged" or headers.get("Expires-At") == str(LAST_WEEK_MS)
        assert (roads.short[0] is None) is is_left, command


def test_only_plain_commands_are_taken(server: NatsServer, tmp_path: Path) -> None:
    host = server.url.removeprefix("nats://")
    taken: list[Command] = [
        ({}, ["plain", "k.1"]),
        ({}, ["plain", "user:1"]),
        ({}, ["plain", "user:1", "--json"]),
        ({"NATS_URL": "nats://127.0.0.1:1"}, ["--nats", server.url, "plain", "k.1"]),
        ({"NATS_URL": host}, ["plain", "k.1", "--raw"]),
        ({"NATS_URL": f"localhost:{host.rpartition(':')[2]}/"}, ["plain", "k.1"]),
        ({}, ["plain", "-s", host, "k.1"]),
    ]
    left: list[Command] = [
        *(({}, words) for words in ([], ["plain"], ["plain", "k.1", "k.2"], ["plain", ""], ["pl ain", "k.1"], ["-h"])),
        *(({}, ["plain", "k.1", word]) for word in ("--", "--jsn", "-5", "--raw=1", "--revision", "--help", "-x")),
        *(({}, ["plain", "k.1", *words]) for words in (["--json", "--raw"], ["--timeout", "2s"], ["--consistency", "fast"])),
        *(({}, [bucket, "k"]) for bucket in ("foreign", "lossy", "nowhere")),
        ({}, ["plain", "grün"]),
        ({}, ["plain", "=_lease"]),
        ({"NATS_TIMEOUT": "2s"}, ["plain", "k.1"]),
        ({"NATS_USER": "ann", "NATS_PASSWORD": "secret"}, ["plain", "k.1"]),
        ({"NATS_CREDS": "/nowhere"}, ["plain", "k.1"]),
        ({"NATS_URL": f"nats://ann:secret@{host}"}, ["plain", "k.1"]),
        ({"NATS_URL": f"{server.url},{server.url}"}, ["plain", "k.1"]),
        ({"NATS_URL": f"tls://{host}"}, ["plain", "k.1", "--timeout", "1s"]),
        ({"NATS_URL": f"nats://127.0.0.1:{free_port()}"}, ["plain", "k.1"]),
        ({"NATS_URL": "nats://127.0.0.1:99999"}, ["plain", "k.1"]),
        ({"NATS_URL": ":::"}, ["plain", "k.1"]),
    ]  # fmt: skip
    outcomes = run(tmp_path, server.url, [*taken, *left])
    for command, roads in zip([*taken, *left], outcomes, strict=True):
        check_same(roads, command)
        assert (roads.short[0] is not None) is (command in taken), command


def test_a_server_that_asks_for_a_user_or_does_not_answer_is_left_to_the_long_road(tmp_path: Path) -> None:
    with NatsServer(tmp_path, "authorization { user: ann, password: secret }") as server:
        (refused,) = run(tmp_path, server.url, [({}, ["b", "k"])])
        assert refused.short == (None, b"", b"")
        assert b"authorization" in refused.long[2].lower()
        server.freeze()
        try:
            began = time.monotonic()
            (frozen,) = run(tmp_path, server.url, [({"NATS_TIMEOUT": "1s"}, ["b", "k"])])
            (waited,) = run(tmp_path, server.url, [({}, ["b", "k", "--timeout", "1s"])])
        finally:
            server.thaw()
        assert time.monotonic() - began < 60
        assert frozen.short == waited.short == (None, b"", b"")
