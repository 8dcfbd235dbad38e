"""The manifests for wadm have the structure that wadm reads, and values that a link takes.

Source: wasmCloud/wadm, src/model/mod.rs (0.x) and crates/wadm-types/src/lib.rs (1.x).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from provider.keyvalue.given_values import canonical_values
from provider.keyvalue.link_config import parse_link
from provider.nats.settings import ConnectionSettings

DEPLOY = Path(__file__).parents[3] / "deploy"


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    annotations: dict[str, str]


class Trait(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    properties: dict[str, Any]


class Component(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: str
    properties: dict[str, Any]
    traits: list[Trait] = []


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    components: list[Component]


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    apiVersion: str  # noqa: N815  (its name on the wire)
    kind: str
    metadata: Metadata
    spec: Spec


class Config(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    properties: dict[str, str] | None = None


class Target(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    config: list[Config] = []


class Link(msgspec.Struct, forbid_unknown_fields=True):
    """The properties of the trait `link` of 1.x."""

    target: Target
    namespace: str
    package: str
    interfaces: list[str]
    name: str = "default"


class LinkDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """The properties of the trait `linkdef` of 0.x."""

    target: str
    values: dict[str, str]


class Capability(msgspec.Struct, forbid_unknown_fields=True):
    """The properties of a provider of 0.x."""

    image: str
    contract: str
    link_name: str = "default"
    config: str = "{}"


class Provider(msgspec.Struct, forbid_unknown_fields=True):
    """The properties of a provider of 1.x."""

    image: str
    config: list[Config] = []


def manifest(file: str) -> Manifest:
    read = msgspec.convert(yaml.safe_load((DEPLOY / file).read_text(encoding="utf-8")), Manifest)
    assert (read.apiVersion, read.kind) == ("core.oam.dev/v1beta1", "Application")
    assert read.metadata.annotations["version"]
    names = [component.name for component in read.spec.components]
    assert len(names) == len(set(names))
    return read


def check_values(values: dict[str, str]) -> None:
    given = canonical_values(values)
    assert given.remarks == []
    servers = ConnectionSettings(servers=("nats://127.0.0.1",))
    parse_link(given.known, lattice="l", link_name="n", lattice_connection=servers, own=given.known)


@pytest.mark.parametrize("file", ["wadm-0.x.yaml", "wadm-1.x.yaml"])
def test_an_application_has_a_caller_that_is_linked_to_the_provider(file: str) -> None:
    caller, provider = manifest(file).spec.components
    is_old = file == "wadm-0.x.yaml"
    assert (caller.type, provider.type) == ("actor" if is_old else "component", "capability")
    scaler, trait = caller.traits
    # Without a scaler wadm puts the link, and starts nothing that could use it.
    assert (scaler.type, scaler.properties) == ("spreadscaler", {"replicas" if is_old else "instances": 1})
    if is_old:
        old = msgspec.convert(trait.properties, LinkDefinition)
        capability = msgspec.convert(provider.properties, Capability)
        assert (trait.type, old.target, capability.contract) == ("linkdef", provider.name, "wasmcloud:keyvalue")
        check_values(old.values)
        check_values(json.loads(capability.config))
        return
    link = msgspec.convert(trait.properties, Link)
    assert (trait.type, link.target.name, link.namespace, link.package) == ("link", provider.name, "wasi", "keyvalue")
    assert set(link.interfaces) <= {"store", "atomics", "batch"}
    for config in (*link.target.config, *msgspec.convert(provider.properties, Provider).config):
        check_values(config.properties or {})
