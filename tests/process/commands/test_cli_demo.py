"""`keyvalue-nats demo` and the benchmark, run as child processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.keyvalue import REQUESTS
from contracts.wrpc import CALLS
from provider.commands.dev_lattice.lattice_connection import connected
from provider.commands.dev_lattice.nats_server import NatsServer

PROJECT_FOLDER = Path(__file__).parents[3]
COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=PROJECT_FOLDER)


def test_the_demonstration_shows_all_operations_and_functions_and_keeps_every_promise() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for operation in REQUESTS:
        assert f" {operation.removeprefix('KeyValue.')} " in done.stdout
    for type_ in CALLS:
        assert f" {type_.function} " in done.stdout
    assert "64 different" in done.stdout
    assert "NOT AS PROMISED" not in done.stdout


@pytest.mark.timeout(150)
@pytest.mark.slow
def test_bench_writes_everything_that_it_measured(tmp_path: Path) -> None:
    arguments = ("--ops", "200", "--speed-only", "--in-flight", "16", "--workload", "Get", "--workload", "Increment")
    files = (tmp_path / "bench.json", tmp_path / "bench.svg")
    done = run_bench(*arguments, "--json", str(files[0]), "--plot", str(files[1]))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(files[0].read_text())
    assert [(row["workload"], row["in_flight"], row["measured"]["errors"]) for row in report["rows"]] == [
        ("Get", 16, 0),
        ("Increment", 16, 0),
    ]
    assert all(value > 0 for value in report["yardsticks"].values())
    cache = report["cache"]
    assert [(row["workload"], row["measured"]["errors"]) for row in cache["speed"]["rows"]] == [("Get", 0)]
    assert all(value > 0 for value in {**cache["propagation"], **cache["merging"]}.values())
    assert files[1].read_text().startswith("<?xml")


def test_an_unknown_kind_of_plot_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = run_bench("--plot", str(tmp_path / "bench.txt"))
    assert done.returncode == 2
    assert ".svg or .png" in done.stderr


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_an_unwritable_file_is_refused_before_anything_is_measured(option: str, tmp_path: Path) -> None:
    done = run_bench(option, str(tmp_path / "none" / "bench.svg"))
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'none'}" in done.stderr


async def test_nothing_remains_on_a_server_that_belongs_to_the_user() -> None:
    async with NatsServer() as server:
        done = await asyncio.to_thread(run, "demo", "--nats", server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        async with connected(server.url) as connection:
            reply = await connection.request("$JS.API.STREAM.NAMES", b"", timeout=2)
    assert json.loads(reply.data)["total"] == 0
