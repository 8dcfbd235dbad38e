"""Host data, links, secrets and records of hosts of wasmCloud 1.x."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, wasmcloud1
from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily, decode_host_data, encode_host_data
from contracts.nkeys import KeyKind, encode_seed
from contracts.sealed import SecretBox, decode_secrets, encode_secrets
from contracts.secret import Secret
from contracts.wasmcloud1 import ControlSubjects, Link, OtelSettings

XKEY: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "xkey.json").read_text())
SEALED = bytes.fromhex(XKEY["sealed_hex"])

LINK = {
    "source_id": "kv-comp",
    "target": "kv-prov",
    "name": "default",
    "wit_namespace": "wasi",
    "wit_package": "keyvalue",
    "interfaces": ["store", "atomics", "batch"],
    "source_config": {},
    "target_config": {"REPLICAS": "3", "BUCKET": "users"},
    "source_secrets": None,
    "target_secrets": list(SEALED),
}
HOST_DATA: dict[str, Any] = {
    "host_id": "NAXMFPTB",
    "lattice_rpc_prefix": "smoke",
    "link_name": "default",
    "lattice_rpc_user_jwt": "",
    "lattice_rpc_user_seed": "",
    "lattice_rpc_url": "nats://127.0.0.1:55833",
    "provider_key": "kv-prov",
    "env_values": {},
    "instance_id": "35ab3d05-62f1-4a6d-b66a-93cbdea48e7c",
    "link_definitions": [LINK],
    "cluster_issuers": [],
    "config": {"X": "1", "BUCKET": "provider-wide"},
    "secrets": {"seed": {"kind": "String", "value": "s3cret-seed"}, "BUCKET": {"kind": "Bytes", "value": [98, 50]}},
    "host_xkey_public_key": XKEY["host_public"],
    "provider_xkey_private_key": XKEY["provider_seed"],
    "default_rpc_timeout_ms": 2000,
    "structured_logging": False,
    "log_level": "info",
    "otel_config": {
        "enable_observability": False,
        "protocol": "Http",
        "additional_ca_paths": [],
        "trace_level": "info",
    },
}


def line(value: Any) -> bytes:
    return base64.b64encode(json.dumps(value).encode()) + b"\r\n"


def decoded(**changes: Any) -> HostData:
    return decode_host_data(line({**HOST_DATA, **changes}))


# --- host data


def test_the_line_of_a_1x_host_tells_its_family() -> None:
    host_data = decoded()
    part = host_data.wasmcloud1
    assert part is not None
    assert host_data.family is HostFamily.WASMCLOUD1
    assert (host_data.provider_key, host_data.lattice_rpc_prefix) == ("kv-prov", "smoke")
    assert part.links[0].target_config == {"REPLICAS": "3", "BUCKET": "users"}
    assert part.links[0].target_secrets == SEALED
    assert part.config == HOST_DATA["config"]


def test_the_secrets_of_a_provider_count_before_its_configs() -> None:
    assert json.loads(decoded().config_json.reveal()) == {"X": "1", "BUCKET": "b2", "seed": "s3cret-seed"}


def test_no_secret_of_host_data_is_shown() -> None:
    shown = repr(decoded())
    assert not any(text in shown for text in ("s3cret", XKEY["provider_seed"], "provider-wide", "users", "120, 107"))


def test_the_line_of_a_1_0_host_lacks_keys_and_secrets() -> None:
    given = {name: value for name, value in HOST_DATA.items() if not name.endswith("_key") and name != "secrets"}
    nulls = {"enable_traces": None, "enable_metrics": None, "enable_logs": None, "observability_endpoint": None}
    given |= {"provider_key": "kv-prov", "otel_config": nulls, "link_definitions": [{**LINK, "target_secrets": None}]}
    del given["default_rpc_timeout_ms"], given["log_level"]
    host_data = decode_host_data(line(given))
    part = host_data.wasmcloud1
    assert part is not None
    assert (part.host_xkey, bool(part.provider_xkey_seed), host_data.default_rpc_timeout_ms) == ("", False, 2000)
    assert part.otel == OtelSettings()


def test_the_line_of_a_wasmbus_host_stays_one_of_that_family() -> None:
    seed = encode_seed(KeyKind.CLUSTER, bytes(32))
    given = {**HOST_DATA, "invocation_seed": seed.text.reveal(), "cluster_issuers": [seed.public_key]}
    assert decode_host_data(line({**given, "link_definitions": []})).family is HostFamily.RUST
    with pytest.raises(MalformedError, match="invocation_seed"):
        decode_host_data(line({**given, "invocation_seed": None, "config": None}))


def test_an_unreadable_link_is_named_and_the_others_count() -> None:
    part = decoded(link_definitions=[{**LINK, "target_secrets": [300]}, LINK]).wasmcloud1
    assert part is not None
    assert len(part.links) == 1
    assert part.unreadable_links == [
        "malformed host data, link 0: field target_secrets: expected an array of bytes",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"a": 1}},
        {"secrets": {"a": {"kind": "Number", "value": 1}}},
        {"provider_key": "a b"},
        {"provider_key": None},
        {"link_definitions": {}},
        {"host_xkey_public_key": 7},
        {"host_xkey_public_key": "XNOKEY"},
        {"provider_xkey_private_key": XKEY["host_public"]},
    ],
    ids=["config", "secrets", "id", "no id", "links", "key", "no key", "no seed"],
)
def test_a_wrong_field_is_an_error_that_shows_no_secret(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError) as caught:
        decoded(**change)
    assert not any(text in str(caught.value) for text in ("s3cret", "XNOKEY", XKEY["provider_seed"]))


def test_host_data_survives_encoding() -> None:
    host_data = decoded()
    assert decode_host_data(encode_host_data(host_data)) == host_data


# --- links and records


def test_a_link_survives_encoding_and_shows_no_setting() -> None:
    link = wasmcloud1.link_from(LINK)
    assert wasmcloud1.decode_link(wasmcloud1.encode_link(link)) == link
    assert link.identity == ("kv-comp", "kv-prov", "wasi", "keyvalue", "default")
    assert "users" not in repr(link)


def test_a_deleted_link_may_lack_name_and_settings() -> None:
    payload = (
        b'{"source_id":"a","target":"b","wit_namespace":"wasi","wit_package":"keyvalue","source_config":null,"x":1}'
    )
    link = wasmcloud1.decode_link(payload)
    assert link == Link(source_id="a", target="b", wit_namespace="wasi", wit_package="keyvalue")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_link_or_malformed(data: bytes) -> None:
    for decode in (wasmcloud1.decode_link, wasmcloud1.decode_component_record, wasmcloud1.decode_config):
        try:
            decode(data)
        except MalformedError:
            continue


def test_a_record_has_the_names_of_configs() -> None:
    link = {**LINK, "target_config": ["users", "SECRET_seed"], "source_config": []}
    record = json.dumps({"url": "file://x", "links": [link, {"source_id": 1}, "no"]}).encode()
    found = wasmcloud1.decode_component_record(record)
    assert [(link.source_id, link.target_config) for link in found] == [("kv-comp", ["users", "SECRET_seed"])]


def test_the_subjects_of_a_provider() -> None:
    subjects = ControlSubjects("smoke", "my.kv", "default", "XKEY")
    assert subjects.put_link == "wasmbus.rpc.smoke.XKEY.linkdefs.put"
    assert subjects.delete_link == "wasmbus.rpc.smoke.my.kv.linkdefs.del"
    assert subjects.shutdown == "wasmbus.rpc.smoke.my.kv.default.shutdown"
    assert subjects.health == "wasmbus.rpc.smoke.my.kv.health"
    assert subjects.update_config == "wasmbus.rpc.smoke.my.kv.config.update"
    assert subjects.queue == "smoke.my.kv"


# --- secrets


def test_the_golden_box_opens_and_closes_to_the_byte() -> None:
    provider = SecretBox(Secret(XKEY["provider_seed"]), XKEY["host_public"])
    host = SecretBox(Secret(XKEY["host_seed"]), XKEY["provider_public"])
    assert (provider.public_key, host.public_key) == (XKEY["provider_public"], XKEY["host_public"])
    assert provider.open(SEALED) == XKEY["plain"].encode()
    assert host.seal(XKEY["plain"].encode(), bytes.fromhex(XKEY["nonce_hex"])) == SEALED
    assert decode_secrets(provider.open(SEALED)) == {"client_seed": Secret("s3cret"), "tls": None}


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_box_with_one_changed_byte_does_not_open(at: int, change: int) -> None:
    forged = bytearray(SEALED)
    forged[at] ^= change
    with pytest.raises(MalformedError):
        SecretBox(Secret(XKEY["provider_seed"]), XKEY["host_public"]).open(bytes(forged))


@pytest.mark.parametrize("size", [0, 4, 28, 29, len(SEALED) - 1])
def test_a_box_that_is_cut_off_does_not_open(size: int) -> None:
    with pytest.raises(MalformedError):
        SecretBox(Secret(XKEY["provider_seed"]), XKEY["host_public"]).open(SEALED[:size])


def test_only_curve_keys_make_a_box() -> None:
    user = encode_seed(KeyKind.USER, bytes(32))
    for seed, key in ((user.text, XKEY["host_public"]), (Secret(XKEY["provider_seed"]), user.public_key)):
        with pytest.raises(ValueError, match="not a curve key"):
            SecretBox(seed, key)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_secrets_survive_encoding(texts: dict[str, str]) -> None:
    secrets = {name: Secret(text) for name, text in texts.items()}
    assert decode_secrets(encode_secrets(secrets)) == secrets


def test_malformed_secrets_are_never_shown() -> None:
    for value in ({"a": {"kind": "String", "value": 1}}, ["s3cret"], {"a": "s3cret"}):
        with pytest.raises(MalformedError) as caught:
            decode_secrets(codec.pack_json(value))
        assert "s3cret" not in str(caught.value)


# --- OpenTelemetry


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        (OtelSettings(), ""),
        (OtelSettings(enable_observability=True), "http://127.0.0.1:4318/v1/traces"),
        (OtelSettings(enable_observability=True, enable_traces=False), ""),
        (OtelSettings(enable_traces=True, protocol="Grpc"), "http://127.0.0.1:4317"),
        (OtelSettings(enable_traces=True, observability_endpoint="http://c:4318"), "http://c:4318/v1/traces"),
        (OtelSettings(enable_traces=True, observability_endpoint="http://c:4318/"), "http://c:4318/v1/traces"),
        (OtelSettings(enable_traces=True, observability_endpoint="http://c/otlp"), "http://c/otlp"),
        (
            OtelSettings(enable_traces=True, traces_endpoint="http://t/x", observability_endpoint="http://c"),
            "http://t/x",
        ),
    ],
)
def test_the_endpoint_of_a_signal(settings: OtelSettings, endpoint: str) -> None:
    assert settings.endpoint("traces") == endpoint
