"""Figures of the state-proxy connector: `python tests/state_proxy_figures.py [REQUESTS]`. It asserts nothing about time.

It compares a read of 100 bytes through the connector, by Python's own HTTP client on an open connection, with a get of the
same key by nats-py, in turns. Then it measures the memory, idle and after many requests, and the listing of many keys.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nats

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT_FOLDER))

from tests.blackbox.connector_process import ConnectorProcess, UnixConnection  # noqa: E402
from tests.blackbox.nats.nats_buckets import make_bucket  # noqa: E402
from tests.blackbox.nats.nats_server import NatsServer  # noqa: E402  (found by the line above)

BUCKET = "figures"
KEY = "user_1.json"
ROUNDS = 16
READS_PER_ROUND = 500
LISTED_KEYS = 20_000


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name, NatsServer(Path(name) / "server") as server:
        make_bucket(server.url, BUCKET, direct=True)  # as `nats kv add` makes it
        variables = {"NATS_URL": server.url, "NATS_KV_BUCKET": BUCKET, "PYTHONDONTWRITEBYTECODE": None}
        with ConnectorProcess(Path(name) / "compiling", variables):
            pass
        with ConnectorProcess(Path(name) / "connector", variables) as connector, connector.connection() as client:
            print(f"idle: {_mebibytes(connector)}")
            client.ask("PUT", f"/keys/{KEY}", b"x" * 100)
            _compare(server.url, client)
            for number in range(requests // 2):
                client.ask("PUT", f"/keys/many/{number}.json", b"x" * 500)
                client.ask("GET", f"/keys/many/{number}.json")
            print(f"after {requests} requests of {requests // 2} keys: {_mebibytes(connector)}")
            for _ in range(50):
                client.ask("PUT", "/keys/large", b"x" * 1_000_000)
                client.ask("GET", "/keys/large")
            print(f"after 100 requests of a megabyte: {_mebibytes(connector)}")
        make_bucket(server.url, "listed")
        asyncio.run(_fill(server.url))
        variables["NATS_KV_BUCKET"] = "listed"
        with ConnectorProcess(Path(name) / "listing", variables) as connector, connector.connection() as client:
            listing = _milliseconds(lambda: client.ask("GET", "/keys/?delimiter=/"), 1)
            first = _milliseconds(lambda: client.ask("HEAD", "/keys/absent"), 1)
            later = _milliseconds(lambda: client.ask("HEAD", "/keys/absent"), 20)
            print(f"{LISTED_KEYS} keys: listing {listing:.0f} ms; stat of nothing {first:.0f} ms, then {later:.1f} ms")


def _compare(url: str, client: UnixConnection) -> None:
    ours, raw = [], []
    for _ in range(ROUNDS):
        ours.append(_milliseconds(lambda: _read(client), READS_PER_ROUND))
        raw.append(asyncio.run(_raw(url)))
    read, get = statistics.median(ours), statistics.median(raw)
    print(f"read p50 {read * 1000:.0f} µs / get over nats-py p50 {get * 1000:.0f} µs = {read / get:.2f}")


def _read(client: UnixConnection) -> bytes:
    client.request("GET", f"/keys/{KEY}")
    return client.getresponse().read()


def _milliseconds(act: Callable[[], object], count: int) -> float:
    """Return the median time of a function."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def _raw(url: str) -> float:
    client = await nats.connect(url)
    bucket = await client.jetstream().key_value(BUCKET)
    took = []
    for _ in range(READS_PER_ROUND):
        began = time.perf_counter()
        await bucket.get(KEY)
        took.append(time.perf_counter() - began)
    await client.close()
    return statistics.median(took) * 1000


async def _fill(url: str) -> None:
    client = await nats.connect(url)
    for number in range(LISTED_KEYS):
        await client.publish(f"$KV.listed.folder_{number % 100}/{number}.json", b"x" * 100)
        if number % 1000 == 999:
            await client.flush()
    await client.close()


def _mebibytes(connector: ConnectorProcess) -> str:
    return f"{connector.resident_bytes / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
