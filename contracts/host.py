"""Host data: the line that a host writes to the provider's standard input."""

from __future__ import annotations

import enum
from typing import Any

from msgspec import Struct, field, structs

from contracts import codec
from contracts.lattice import LinkDefinition, check_subject_token, link_definition_from
from contracts.secret import Secret

TEST_HOST_ID = "_TEST_"
"""The `host_id` with which the test harness of wasmbus-rpc starts a provider. Source: WELD rpc-rs lib.rs."""

DEFAULT_RPC_URL = "nats://127.0.0.1:4222"
DEFAULT_RPC_TIMEOUT_MS = 2000
"""The default of both families of hosts."""


class HostFamily(enum.Enum):
    """The kind of host that wrote the line. They differ in the meaning of the end of standard input."""

    OTP = "otp"
    """The host keeps standard input open for as long as it lives, so its end means that the host is gone."""

    RUST = "rust"
    """The host closes standard input after the line."""

    TEST_HARNESS = "test-harness"
    """Link definitions and health are JSON. Standard input is closed after the line."""


class OtelConfig(Struct, frozen=True):
    """The exporter of traces that the host asks for. None or an empty text means no exporter."""

    traces_exporter: str | None = None
    exporter_otlp_endpoint: str | None = None


class HostData(Struct, frozen=True, kw_only=True):
    """The settings that a host gives the provider at start. Unknown keys of the line are ignored.

    Source: wasmcloud-otp v0.63.2 virtual_host.ex; wasmCloud v0.82.0 crates/core/src/lib.rs.
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


_KNOWN = frozenset(HostData.__struct_fields__) - {"family", "unreadable_links"}
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
    value = codec.with_known_names(value, _KNOWN, _ALIASES)
    family = HostFamily.OTP if _OTP_KEYS & value.keys() else HostFamily.RUST
    given = {key: item for key, item in value.items() if item is not None and key in _KNOWN}
    host_data = codec.to_struct(given | _tolerated(given), HostData, _WHAT)
    for name in ("host_id", "lattice_rpc_prefix", "link_name", "provider_key"):
        check_subject_token(name, getattr(host_data, name), _WHAT)
    if not host_data.cluster_issuers:
        raise codec.MalformedError(_WHAT, "field cluster_issuers: empty, so no invocation could ever be verified")
    if host_data.host_id == TEST_HOST_ID:
        family = HostFamily.TEST_HARNESS
    return structs.replace(host_data, family=family)


def encode_host_data(host_data: HostData) -> bytes:
    r"""Encode the line as a Rust host writes it: padded base64 of JSON, followed by `\r\n`."""
    value = codec.to_plain(host_data)
    del value["family"], value["unreadable_links"]
    if host_data.family is not HostFamily.OTP:
        del value["js_domain"], value["lattice_rpc_tls"]
    return codec.encode_base64(codec.pack_json(value)).encode() + b"\r\n"


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
