"""The files of deploy/ name options and variables that exist, open no port to others, and are the ones that the docs show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from provider.commands.app import app
from provider.commands.exporter.command import DEFAULT_PORT
from provider.state_proxy import variables

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNIT = (DEPLOY / "keyvalue-nats-exporter.service").read_text(encoding="utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def containers(name: str) -> Iterator[dict[str, Any]]:
    for document in documents(name):
        if document["kind"] == "Deployment":
            yield from document["spec"]["template"]["spec"]["containers"]


def command_lines() -> Iterator[list[str]]:
    """Yield the command lines of our commands in all files, and in the comments that tell how to use them."""
    yield from (COMPOSE["services"][name]["command"] for name in ("lattice", "exporter"))
    yield next(containers("kubernetes/exporter.yaml"))["args"]
    for text in (UNIT, (DEPLOY / "compose.yaml").read_text(encoding="utf-8")):
        for line in re.findall(r"(?:bin/|lattice )keyvalue-nats ((?!<)[a-z].*)", text):
            yield shlex.split(line)


def options_of(command: str) -> tuple[set[str], set[str]]:
    """Return the options of a command, and the environment variables in their place."""
    root: Any = get_command(app)
    found = root.named(command)
    parameters = found.get_params(typer.Context(found, info_name=command))
    names = {name for parameter in parameters for name in parameter.opts}
    return names, {str(parameter.envvar) for parameter in parameters if getattr(parameter, "envvar", None)}


@pytest.mark.parametrize("line", list(command_lines()), ids=" ".join)
def test_each_command_line_has_options_that_exist(line: list[str]) -> None:
    names, _ = options_of(line[0])
    assert {word for word in line[1:] if word.startswith("--")} <= names


def test_each_variable_exists() -> None:
    _, of_exporter = options_of("exporter")
    (exporter,) = containers("kubernetes/exporter.yaml")
    assert {variable["name"] for variable in exporter["env"]} <= of_exporter
    assert set(re.findall(r"\b(NATS_[A-Z]+)=?", UNIT)) <= of_exporter
    _, proxy = containers("kubernetes/state-proxy.yaml")
    known = {value for name, value in vars(variables).items() if name.isupper() and isinstance(value, str)}
    assert {variable["name"] for variable in proxy["env"]} <= known


def test_ports_are_open_to_this_machine_alone_and_are_the_ones_of_the_exporter() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}" in ports
    (exporter,) = containers("kubernetes/exporter.yaml")
    assert exporter["ports"][0]["containerPort"] == DEFAULT_PORT
    for name, host in (("prometheus.yml", "127.0.0.1"), ("prometheus-compose.yml", "exporter")):
        targets = documents(name)[0]["scrape_configs"][0]["static_configs"][0]["targets"]
        assert targets == [f"{host}:{DEFAULT_PORT}"]


def test_both_containers_of_an_actor_share_the_folder_of_the_socket() -> None:
    actor, proxy = containers("kubernetes/state-proxy.yaml")
    (mount,) = proxy["volumeMounts"]
    assert mount in actor["volumeMounts"]
    socket = next(variable["value"] for variable in proxy["env"] if variable["name"] == "CONNECTOR_SOCKET")
    assert Path(socket).parent == Path(mount["mountPath"])


@pytest.mark.parametrize(("file", "page"), [("wadm-0.x.yaml", "running.md"), ("wadm-1.x.yaml", "wasmcloud1.md")])
def test_the_docs_show_the_manifest(file: str, page: str) -> None:
    assert (DEPLOY / file).read_text(encoding="utf-8") in (ROOT / "docs" / page).read_text(encoding="utf-8")
    manifest = documents(file)[0]
    assert {component["type"] for component in manifest["spec"]["components"]} & {"capability"}
