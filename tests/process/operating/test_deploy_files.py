"""The files of deploy/, read by the programs that they are for. A program that is missing skips its test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.process.operating.exporter_process import COMMAND, SECONDS

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICE = "keyvalue-nats-exporter.service"
INSTALLED = "/opt/keyvalue-nats/bin/keyvalue-nats"
KUBERNETES = ("1.28", "1.31", "1.34")
"""Releases of the last years; the schemas of one come with each."""


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def compose() -> Sequence[str]:
    """Return the command of Compose, the plugin of Docker or the program of its own."""
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        return "docker", "compose"
    pytest.skip("there is no docker-compose")


def test_compose_takes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_IMAGE", "other/nats:1")
    read = yaml.safe_load(output(*compose(), "-f", str(DEPLOY / "compose.yaml"), "config"))
    assert set(read["services"]) == {"nats", "lattice", "exporter", "prometheus"}
    assert read["services"]["nats"]["image"] == "other/nats:1"
    for service in read["services"].values():
        for volume in service.get("volumes", ()):
            source = str(volume).partition(":")[0]
            assert not source.startswith("/") or Path(source).is_file(), "a file that is mounted exists"
        if "build" in service:
            build = service["build"]
            assert (Path(build["context"]) / build["dockerfile"]).is_file()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / SERVICE
    text = (DEPLOY / SERVICE).read_text(encoding="utf-8")
    assert INSTALLED in text
    unit.write_text(text.replace(INSTALLED, COMMAND), encoding="utf-8")
    found = output("systemd-analyze", "verify", "--man=no", str(unit))
    assert [line for line in found.splitlines() if SERVICE in line] == []


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_knows_every_field_of_the_manifests(path: Path) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="there is no kubernetes-validate")
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert documents
    for release in KUBERNETES:
        for document in documents:
            schemas.validate(document, release, strict=True)
