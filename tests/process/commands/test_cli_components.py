"""`keyvalue-nats dev --host 1.x` and `keyvalue-nats call`: a component without wasmCloud."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.commands.dev_terminal import COMMAND, Dev, dev, environment


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("runtime"), "--host", "1.x", "--watch", "w.*") as started:
        yield started


def test_a_component_calls_by_the_commands_of_an_actor(lattice: Dev) -> None:
    assert lattice.output("Set", "user:1", "Ann") == "ok\n"
    assert lattice.output("Increment", "visits", "5000000000") == "5000000000\n"
    assert 'key="user:1"  value="Ann"  exists=true' in lattice.output("GetMany", "user:1", "none")
    assert set(lattice.output("list-keys").split()) >= {"user:1", "visits"}
    missing = lattice.call("Get", "none")
    assert (missing.returncode, missing.stdout, missing.stderr) == (0, "", "(no value)\n")


def test_bytes_that_are_no_text_are_written_from_a_file_and_read_into_a_pipe(lattice: Dev, tmp_path: Path) -> None:
    binary = bytes(range(256))
    (tmp_path / "binary").write_bytes(binary)
    assert lattice.output("Set", "photo", f"@{tmp_path}/binary") == "ok\n"
    read = subprocess.run(
        [COMMAND, "call", "Get", "photo"], env=environment(lattice.runtime_folder), capture_output=True, check=True
    )
    assert read.stdout == binary
    shown = json.loads(lattice.output("Get", "photo", "--json"))
    assert shown == {"operation": "store.get", "result": {"value_base64": b64encode(binary).decode(), "exists": True}}


def test_the_changes_that_the_component_is_called_with_are_shown(lattice: Dev) -> None:
    lattice.output("Set", "w.a", "changed")
    assert lattice.wait_for("on-set").split()[1:] == ["on-set", "w.a", "'changed'"]
    lattice.output("Del", "w.a")
    assert lattice.wait_for("on-delete").split()[1:] == ["on-delete", "w.a"]


def test_an_error_goes_to_standard_error_with_exit_code_1(lattice: Dev) -> None:
    failed = lattice.call("Set", "", "v")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "key is empty" in failed.stderr
