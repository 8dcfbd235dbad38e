"""Redis as a yardstick for large values, on a machine that has redis-server and redis-benchmark. Nothing depends on it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.pages.pages_report import RedisRow
from tests.bench.workloads import LARGE_LIST_KEY, LARGE_SET_KEY, RANGE_ELEMENTS
from tests.blackbox.waiting import eventually_blocking

_RANDOM = "x" * 18 + "__rand_int__"
"""An element of 30 bytes: redis-benchmark puts twelve digits in the place of the name."""

_AMONG_MANY = ("-r", str(10**9))
"""Elements among which are chosen: nearly every one is new."""

_TEXT_ROUNDS = 5


def has_redis() -> bool:
    """Tell whether this machine can measure Redis."""
    return all(map(shutil.which, ("redis-server", "redis-benchmark")))


async def measure_redis(elements: int, operations: int, text_bytes: int) -> list[RedisRow]:
    """Fill a Redis with the same large values, and measure the commands that the operations stand for."""
    middle = elements // 2
    ranged = ("LRANGE", LARGE_LIST_KEY, str(middle), str(middle + RANGE_ELEMENTS - 1))
    add, append = ("SADD", LARGE_SET_KEY, _RANDOM), ("RPUSH", LARGE_LIST_KEY, _RANDOM)
    async with _redis() as socket:
        for command in (add, append):
            await _benchmark(socket, elements, 1, "-P", "100", *_AMONG_MANY, *command)
        return [
            await _benchmark(socket, operations, 64, *_AMONG_MANY, *add),
            await _benchmark(socket, operations // 10, 1, *_AMONG_MANY, *add),
            await _benchmark(socket, operations, 64, *_AMONG_MANY, *append),
            await _benchmark(socket, operations // 10, 1, *ranged),
            await _benchmark(socket, _TEXT_ROUNDS, 1, "-d", str(text_bytes), "-t", "set"),
            await _benchmark(socket, _TEXT_ROUNDS, 1, "-d", str(text_bytes), "-t", "get"),
        ]


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[str]:
    """Run a Redis without files of its own; yield the path of its socket."""
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "redis.sock")
        options = ("--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder)
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec("redis-server", *options, stdout=nowhere, stderr=nowhere)
        try:
            await asyncio.to_thread(eventually_blocking, Path(socket).exists, "an answer of redis-server")
            yield socket
        finally:
            process.terminate()
            await process.wait()


async def _benchmark(socket: str, count: int, clients: int, *command: str) -> RedisRow:
    """Run redis-benchmark once."""
    options = ("-s", socket, "-n", str(count), "-c", str(clients), "--csv", "--precision", "3")
    process = await asyncio.create_subprocess_exec(
        "redis-benchmark", *options, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    (row,) = csv.DictReader(output.decode().splitlines())
    name = row["test"].split(" ")[0]
    p50_us = float(row["p50_latency_ms"]) * 1000
    return RedisRow(command=name, clients=clients, per_second=float(row["rps"]), p50_us=p50_us)
