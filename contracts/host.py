"""Host data: the line that a host writes to the provider's standard input."""

from __future__ import annotations

import enum
from typing import Any

from msgspec import Struct, field, structs

from contracts import codec
from contracts.lattice import LinkDefinition, check_subject_token, link_definition_from
from contracts.sealed import SecretValues
from contracts.secret import Secret
from contracts.wasmcloud1 import Wasmcloud1, is_wasmcloud1, join_settings, plain_wasmcloud1, wasmcloud1_from

TEST_HOST_ID = "_TEST_"
"""The `host_id` with which the test harness of wasmbus-rpc starts a provider. Source: WELD rpc-rs lib.rs."""

DEFAULT_RPC_URL = "nats://127.0.0.1:4222"
DEFAULT_RPC_TIMEOUT_MS = 2000
"""The default of both families of hosts."""


class HostFamily(enum.Enum):
    """The kind of host that wrote the line. They differ in the meaning of the end of standard input, and in the calls."""

    OTP = "otp"
    """The host keeps standard input open for as long as it lives, so its end means that the host is gone."""

    RUST = "rust"
    """The host closes standard input after the line."""

    WASMCLOUD1 = "wasmcloud1"
    """A host of wasmCloud 1.x: components call over wRPC, and nothing is signed. It closes standard input too."""

    TEST_HARNESS = "test-harness"
    """Link definitions and health are JSON. Standard input is closed after the line."""


class OtelConfig(Struct, frozen=True):
    """The exporter of traces that the host asks for. None or an empty text means no exporter."""

    traces_exporter: str | None = None
    exporter_otlp_endpoint: str | None = None


class HostData(Struct, frozen=True, kw_only=True):
    """The settings that a host gives the provider at start. Unknown keys of the line are ignored.

    Source: wasmcloud-otp v0.63.2 virtual_host.ex; wasmCloud v0.82.0 and v1.9.2 crates/core/src/lib.rs.

    Attributes:
        invocation_seed: Seed of the cluster's key; empty from a host of 1.x, which has none.
        cluster_issuers: Public keys that invocations are believed of; empty likewise.
        link_definitions: Links in force, of a wasmbus host. Those of 1.x are in `wasmcloud1`.
        wasmcloud1: The part that only hosts of 1.x have; None from any other.
    """

    host_id: str
    lattice_rpc_prefix: str
    link_name: str
    provider_key: str
    invocation_seed: Secret
    cluster_issuers: list[str]
    lattice_rpc_user_jwt: Secret = Secret("")
    lattice_rpc_user_seed: Secret = Secret("")
    lattice_rpc_url: str = DEFAULT_RPC_URL
    lattice_rpc_tls: bool = False
    instance_id: str = ""
    link_definitions: list[LinkDefinition] = field(default_factory=list)
    config_json: Secret = Secret("")
    """An opaque text, usually JSON, that may hold credentials; empty if the host gives none."""
    default_rpc_timeout_ms: int = DEFAULT_RPC_TIMEOUT_MS
    js_domain: str | None = None
    structured_logging: bool = False
    log_level: str = ""
    otel_config: OtelConfig = OtelConfig()
    family: HostFamily = HostFamily.RUST
    """Derived from the keys of the line."""
    unreadable_links: list[str] = field(default_factory=list)
    """Derived from the line: the fault of each link definition that could not be read."""
    wasmcloud1: Wasmcloud1 | None = None


_DERIVED = ("family", "unreadable_links", "wasmcloud1")
_KNOWN = frozenset(HostData.__struct_fields__).difference(_DERIVED)
_ALIASES = codec.camel_and_snake(*_KNOWN) | {"enable_structured_logging": "structured_logging"}
_OTP_KEYS = frozenset({"js_domain", "lattice_rpc_tls"})
_WHAT = "host data"


def decode_host_data(line: bytes) -> HostData:
    r"""Decode the line: base64 of a JSON object, padded or not, that ends in `\n`, `\r\n` or nothing.

    A missing key, `null` and, for optional texts, `""` all mean that a setting is not given.

    Raises:
        codec.MalformedError: The line is not valid. The reason names the fault and the field, but never the content.
    """
    encoded = line.strip()
    if not encoded:
        raise codec.MalformedError(_WHAT, "nothing on standard input, where a lattice host writes one line of base64")
    value = codec.unpack_json(codec.decode_base64(encoded, _WHAT), _WHAT)
    if not isinstance(value, dict):
        raise codec.MalformedError(_WHAT, f"expected a JSON object, got {type(value).__name__}")
    if is_wasmcloud1(value):
        return _decode_wasmcloud1(value)
    value = codec.with_known_names(value, _KNOWN, _ALIASES)
    family = HostFamily.OTP if _OTP_KEYS & value.keys() else HostFamily.RUST
    given = {key: item for key, item in value.items() if item is not None and key in _KNOWN}
    host_data = codec.to_struct(given | _tolerated(given), HostData, _WHAT)
    _check_subject_tokens(host_data)
    if not host_data.cluster_issuers:
        raise codec.MalformedError(_WHAT, "field cluster_issuers: empty, so no invocation could ever be verified")
    if host_data.host_id == TEST_HOST_ID:
        family = HostFamily.TEST_HARNESS
    return structs.replace(host_data, family=family)


def encode_host_data(host_data: HostData) -> bytes:
    r"""Encode the line as a Rust host writes it: padded base64 of JSON, followed by `\r\n`."""
    value = codec.to_plain(host_data)
    for name in _DERIVED:
        del value[name]
    if host_data.wasmcloud1 is not None:
        for name in _NOT_OF_WASMCLOUD1:
            del value[name]
        value |= plain_wasmcloud1(host_data.wasmcloud1) | {"env_values": {}}
    elif host_data.family is not HostFamily.OTP:
        del value["js_domain"], value["lattice_rpc_tls"]
    return codec.encode_base64(codec.pack_json(value)).encode() + b"\r\n"


_NOT_OF_WASMCLOUD1 = ("invocation_seed", "config_json", "js_domain", "lattice_rpc_tls")
_SHARED = _KNOWN - {*_NOT_OF_WASMCLOUD1, "cluster_issuers", "link_definitions", "otel_config"}
"""The fields that mean the same to hosts of 1.x."""


def _decode_wasmcloud1(value: dict[str, Any]) -> HostData:
    """Decode plain host data of a host of 1.x. Its configs and secrets become the settings of `config_json`."""
    part = wasmcloud1_from(value, _WHAT)
    try:
        _ = part.secret_box
    except ValueError:
        fields = "host_xkey_public_key and provider_xkey_private_key"
        raise codec.MalformedError(_WHAT, f"fields {fields}: expected a curve key and the seed of one") from None
    given = {key: item for key, item in value.items() if item is not None and key in _SHARED}
    given.setdefault("link_name", "default")
    common = {name: item for name, item in _tolerated(given).items() if name in _SHARED}
    nothing = {"invocation_seed": "", "cluster_issuers": []}
    host_data = codec.to_struct(given | common | nothing, HostData, _WHAT)
    _check_subject_tokens(host_data)
    config_json = provider_settings(part.config, part.secrets)
    return structs.replace(host_data, family=HostFamily.WASMCLOUD1, wasmcloud1=part, config_json=config_json)


def provider_settings(config: dict[str, str], secrets: SecretValues) -> Secret:
    """Join a provider's configs and secrets of 1.x to the text that other hosts give as `config_json`; empty without any."""
    values = join_settings(config, secrets)
    return Secret(codec.pack_json(values).decode() if values else "")


def _check_subject_tokens(host_data: HostData) -> None:
    for name in ("host_id", "lattice_rpc_prefix", "link_name", "provider_key"):
        check_subject_token(name, getattr(host_data, name), _WHAT)


def _tolerated(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in which hosts differ, in the form that `HostData` has."""
    links = given.get("link_definitions", [])
    if not isinstance(links, list):
        raise codec.MalformedError(_WHAT, "field link_definitions: expected array")
    readable: list[LinkDefinition] = []
    unreadable: list[str] = []
    for number, link in enumerate(links):
        try:
            readable.append(link_definition_from(link, f"{_WHAT}, link definition {number}"))
        except codec.MalformedError as error:
            unreadable.append(str(error))
    timeout_ms = given.get("default_rpc_timeout_ms", 0)
    return {
        "lattice_rpc_url": given.get("lattice_rpc_url") or DEFAULT_RPC_URL,
        "lattice_rpc_tls": given.get("lattice_rpc_tls", 0) in (True, 1, "1", "true"),
        "link_definitions": readable,
        "unreadable_links": unreadable,
        "default_rpc_timeout_ms": timeout_ms or DEFAULT_RPC_TIMEOUT_MS,
    }
