"""The wire as the reference implementations write it, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts import host, keyvalue, lattice, operations
from contracts.host import HostFamily

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "wasmbus.json").read_text())


@pytest.mark.parametrize("name", ["invocation_rust_host", "invocation_otp_host"])
def test_an_invocation_decodes_and_encodes_to_the_byte(name: str) -> None:
    data = bytes.fromhex(VECTORS[name])
    invocation = lattice.decode_invocation(data)
    assert lattice.encode_invocation(invocation) == data
    assert invocation.operation == VECTORS["operation"]
    assert invocation.msg.hex() == VECTORS["msg"]
    assert invocation.encoded_claims == VECTORS["jwt"]
    assert invocation.origin == lattice.WasmCloudEntity(VECTORS["keys"]["actor"])
    assert operations.decode_request(invocation.operation, invocation.msg) == keyvalue.Get("foo")


def test_a_response_decodes_and_encodes_to_the_byte() -> None:
    data = bytes.fromhex(VECTORS["invocation_response_get_bar"])
    response = lattice.decode_invocation_response(data)
    assert lattice.encode_invocation_response(response) == data
    assert operations.decode_response(keyvalue.Get, response.msg) == keyvalue.GetResponse("bar", True)
    assert operations.encode_response(keyvalue.GetResponse("bar", True)) == response.msg


def test_a_link_definition_decodes_and_encodes_to_the_byte() -> None:
    data = bytes.fromhex(VECTORS["link_definition"])
    link = lattice.decode_link_definition(data)
    assert lattice.encode_link_definition(link) == data
    assert link.hash_id == VECTORS["link_definition_hash"]


def test_health_encodes_to_the_byte() -> None:
    assert lattice.encode_health(lattice.HealthCheckResponse(True)).hex() == VECTORS["health_response_healthy"]


def test_the_hash_and_the_urls_equal_those_of_the_reference() -> None:
    msg = bytes.fromhex(VECTORS["msg"])
    invocation = lattice.decode_invocation(bytes.fromhex(VECTORS["invocation_rust_host"]))
    assert lattice.entity_url(invocation.origin) == VECTORS["origin_url"]
    assert lattice.target_url(invocation.target, invocation.operation) == VECTORS["target_url"]
    hashed = lattice.invocation_hash(VECTORS["origin_url"], VECTORS["target_url"], VECTORS["operation"], msg)
    assert hashed == VECTORS["invocation_hash"]


@pytest.mark.parametrize("case", VECTORS["url_cases"])
def test_an_entity_has_the_url_of_the_reference(case: dict[str, str]) -> None:
    entity = lattice.WasmCloudEntity(case["public_key"], case["link_name"], case["contract_id"])
    assert lattice.entity_url(entity) == case["url"]


@pytest.mark.parametrize(("name", "family"), [("stdin_rust_host", HostFamily.RUST), ("stdin_otp_host", HostFamily.OTP)])
def test_the_family_of_the_host_follows_from_its_line(name: str, family: HostFamily) -> None:
    host_data = host.decode_host_data(VECTORS[name].encode())
    assert host_data.family is family
    assert host_data.host_id == VECTORS["keys"]["host_public"]
    assert host_data.cluster_issuers == [VECTORS["keys"]["cluster_public"]]
    assert host_data.invocation_seed.reveal() == VECTORS["keys"]["cluster_seed"]
    assert host_data.link_definitions[0].values == {"URL": "redis://127.0.0.1:6379"}
    assert host.decode_host_data(host.encode_host_data(host_data)) == host_data
