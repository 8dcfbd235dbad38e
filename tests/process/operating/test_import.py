"""`import` copies a Redis database into a bucket: all kinds that actors know, their expiry, again and again."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.blackbox.host_families import RUST
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually_blocking
from tests.process.conftest import Hosts
from tests.process.operating.exporter_process import COMMAND, environment, run
from tests.process.operating.redis_server import PASSWORD, RedisServer, cluster, needs_redis


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    needs_redis()
    with RedisServer(tmp_path / "redis") as server:
        yield server


def fill(server: RedisServer) -> None:
    """Put keys of each kind, some of which no actor can read."""
    client = server.client
    client.set("user:1", "Анна")
    client.set("counter", 41)
    client.set("short-lived", "x", ex=3600)
    client.set("empty", "")
    client.set("bytes", b"\xff\x00")
    client.set("large", b"x" * 2_000_000)
    client.rpush("list", "a", "b", "a")
    client.rpush("long-list", *(f"element {number}" for number in range(100_000)))
    client.sadd("set", "x", "y")
    client.hset("hash", mapping={"a": "b"})
    client.zadd("sorted", {"a": 1})
    client.rpush("list-of-bytes", b"\xff")
    client.set(b"name \xff", "x")
    client.set("old", "of Redis")
    client.set("k" * 40_000, "x")


async def import_json(url: str, bucket: str, nats: str, *more: str) -> tuple[int, dict[str, Any], str]:
    done = await asyncio.to_thread(
        run, "import", url, bucket, "--nats", nats, "--redis-password", PASSWORD, "--json", *more
    )
    return done.returncode, json.loads(done.stdout), done.stderr


async def test_an_actor_reads_the_imported_keys_as_it_did_in_redis(
    redis_server: RedisServer, nats_server: NatsServer, hosts: Hosts
) -> None:
    fill(redis_server)
    host = await hosts(RUST)
    actor, bucket = host.actor(), f"b-{host.who.lattice}"
    await host.start_provider([host.link(actor, {"BUCKET": bucket, "KEY_PREFIX": "app."})])
    await host.set(actor, "old", "of the bucket")
    code, counts, errors = await import_json(redis_server.url, bucket, nats_server.url, "--prefix", "app.")

    assert code == 1, "some keys cannot be imported"
    assert counts["kinds"] == {"text": 5, "binary value": 1, "list": 2, "set": 1}
    assert (counts["put"], counts["kept"], counts["refused"], counts["complete"]) == (9, 1, 5, True)
    assert len(errors) < 2_000, "names are cut"
    for key in ("hash", "sorted", "list-of-bytes", "name"):
        assert f"not imported: '{key}'" in errors or f"b'{key} " in errors
    assert PASSWORD not in errors
    assert await host.get(actor, "user:1") == "Анна"
    assert await host.get(actor, "empty") == ""
    assert await host.get(actor, "old") == "of the bucket"
    assert await host.increment(actor, "counter") == 42
    assert await host.call(actor, "ListRange", {"listName": "list", "start": 0, "stop": -1}) == ["a", "b", "a"]
    assert len(await host.get(actor, "large") or "") == 2_000_000
    tail = await host.call(actor, "ListRange", {"listName": "long-list", "start": -2, "stop": -1})
    assert tail == ["element 99998", "element 99999"]
    assert sorted(await host.call(actor, "SetQuery", "set")) == ["x", "y"]
    entry = await host.call(actor, "KeyValueAtomics.GetEntry", "short-lived")
    assert 3500 < entry["expires"] <= 3600

    # Again, and now Redis is to win.
    code, counts, _ = await import_json(
        redis_server.url, bucket, nats_server.url, "--prefix", "app.", "--match", "[cou]*", "--replace"
    )
    assert (code, counts["put"]) == (0, 3), "counter, old and user:1"
    assert await host.get(actor, "counter") == "41"


async def test_an_interrupted_import_is_continued_by_the_same_command(
    redis_server: RedisServer, nats_server: NatsServer, hosts: Hosts
) -> None:
    host = await hosts(RUST)
    actor, bucket, keys = host.actor(), f"b-{host.who.lattice}", 6_000
    await host.start_provider([host.link(actor, {"BUCKET": bucket, "STORAGE": "memory"})])
    await host.set(actor, "key:0", "value:0")
    redis_server.client.mset({f"key:{number}": f"value:{number}" for number in range(keys)})
    command = [COMMAND, "import", redis_server.url, bucket, "--nats", nats_server.url, "--json"]
    variables = environment() | {"REDIS_PASSWORD": PASSWORD}

    def interrupt() -> tuple[int, str]:
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        eventually_blocking(lambda: redis_server.reads() > 0, "values that the import has read", 20)
        with redis_server.frozen():
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=20)
        return process.returncode, out

    code, out = await asyncio.to_thread(interrupt)
    first = json.loads(out)
    assert code == 1
    assert not first["complete"]
    code, second, _ = await import_json(redis_server.url, bucket, nats_server.url)
    assert code == 0
    assert second["complete"]
    assert second["kept"] >= first["put"] + 1, "and the one of the actor"
    assert second["put"] + second["kept"] >= keys
    for number in (0, 1, keys - 1):
        assert (await host.get(actor, f"key:{number}") or "").startswith(f"value:{number}")


async def test_servers_that_are_away_and_wrong_passwords_are_named_without_secrets(
    redis_server: RedisServer, nats_server: NatsServer, hosts: Hosts
) -> None:
    host = await hosts(RUST)
    actor, bucket = host.actor(), f"b-{host.who.lattice}"
    await host.start_provider([host.link(actor, {"BUCKET": bucket})])
    await host.set(actor, "first", "v")
    common = (bucket, "--nats", nats_server.url)
    wrong, away, unreadable, missing = await asyncio.gather(
        asyncio.to_thread(run, "import", f"redis://:s3cret@127.0.0.1:{redis_server.port}", *common),
        asyncio.to_thread(run, "import", f"redis://:s3cret@127.0.0.1:{free_port()}", *common),
        asyncio.to_thread(run, "import", "redis://:s3/cret@host", *common),
        asyncio.to_thread(run, "import", redis_server.url, "nowhere", "--nats", nats_server.url),
    )
    bare, no_number = await asyncio.gather(
        asyncio.to_thread(run, "import", redis_server.url, *common),
        asyncio.to_thread(run, "import", f"redis://:s3cret@127.0.0.1:{redis_server.port}/users", *common),
    )
    assert (bare.returncode, no_number.returncode) == (1, 2)
    assert "it wants a password; give it in the URL, or in REDIS_PASSWORD" in bare.stderr
    assert "expected the number of a database" in no_number.stderr
    assert "s3cret" not in no_number.stderr
    for done, text in (
        (wrong, "invalid"),
        (away, "refused"),
        (unreadable, "%2F"),
        (missing, "bucket not found: nowhere"),
    ):
        assert done.returncode == 1
        assert text in done.stderr.lower() or text in done.stderr
        assert "s3" not in done.stderr + done.stdout


async def test_all_masters_of_a_cluster_are_read(tmp_path: Path, nats_server: NatsServer, hosts: Hosts) -> None:
    needs_redis()
    page = (Path(__file__).parents[3] / "docs" / "performance.md").read_text(encoding="utf-8")
    (rules,) = re.findall(r"needs `(~[^`]*)`; a test", page)
    with cluster(tmp_path, 3) as servers:
        for server in servers:
            server.client.execute_command("ACL SETUSER", "importer", "on", f">{PASSWORD}", *rules.split())
        first = redis.RedisCluster(port=servers[0].port, host="127.0.0.1", password=PASSWORD)
        for number in range(60):
            first.set(f"key:{number}", number)
        first.rpush("list", "a", "b")
        first.sadd("set", "a")
        first.hset("hash", "a", "b")
        first.close()
        host = await hosts(RUST)
        actor, bucket = host.actor(), f"b-{host.who.lattice}"
        await host.start_provider([host.link(actor, {"BUCKET": bucket, "STORAGE": "memory"})])
        await host.set(actor, "first", "v")
        url = servers[1].url.replace("redis://", "redis://importer@")
        code, counts, errors = await import_json(url, bucket, nats_server.url)
    assert counts["kinds"] == {"text": 60, "list": 1, "set": 1}, errors
    assert (code, counts["refused"], counts["complete"]) == (1, 1, True), "the hash is left out"
