"""The differences between lattice hosts: OTP 0.60-0.63, Rust 0.78-0.82, and the `_TEST_` harness of wasmbus-rpc.

A family defines the messages of the host to a provider, and how strictly the host decodes the answers. An answer that the
real host could not decode is a `HostCannotReadError`.

Source: wasmcloud-otp v0.60.0-v0.63.2, wasmCloud v0.78.0-v0.82.0, wasmbus-rpc v0.15.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack

from tests.blackbox.key_pairs import KeyPair

CONTRACT_ID = "wasmcloud:keyvalue"
_OTEL_VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")
_INTERPRETER_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
"""Variables that a real host does not pass on. Some interpreters need them, and so does coverage of child processes."""


class HostCannotReadError(AssertionError):
    """A message of the provider that the real host would reject or silently misread."""


@dataclass(frozen=True)
class HostIdentity:
    """The names and keys of a host and its provider in one lattice."""

    lattice: str
    link_name: str
    server: str
    """Host and port of the server."""
    cluster: KeyPair
    host: KeyPair
    provider: KeyPair
    instance_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Response:
    """An answer to an invocation as the host has decoded it. `is_chunked`: `msg` is in the object store."""

    msg: bytes
    error: str | None
    is_chunked: bool
    content_length: int


@dataclass(frozen=True)
class Health:
    """An answer to a health request."""

    is_healthy: bool
    message: str


class HostFamily:
    """A family of hosts: the common parts, which are few."""

    name: ClassVar[str]
    line_end: ClassVar[bytes]
    keeps_stdin_open: ClassVar[bool]
    request_threshold_bytes: ClassVar[int]
    call_seconds: ClassVar[float]
    """Time for which a caller of this host waits for an answer."""
    shutdown_seconds: ClassVar[float]
    object_time_key: ClassVar[str]
    put_deliveries: ClassVar[int]
    """Number of times that one `linkdefs.put` arrives."""
    health_payload: ClassVar[bytes]

    def host_data(self, who: HostIdentity, links: list[dict[str, Any]], config_json: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def encode_line(self, host_data: dict[str, Any]) -> bytes:
        return base64.b64encode(json.dumps(host_data).encode()) + self.line_end

    def environment(self) -> dict[str, str]:
        raise NotImplementedError

    def link(self, who: HostIdentity, actor: str, values: dict[str, Any], contract_id: str) -> dict[str, Any]:
        return {
            "actor_id": actor,
            "provider_id": who.provider.public,
            "link_name": who.link_name,
            "contract_id": contract_id,
            "values": values,
        }

    def encode_link(self, link: dict[str, Any]) -> bytes:
        return _pack(link)

    def shutdown_host_id(self, who: HostIdentity) -> str:
        return who.host.public

    def issuer(self, who: HostIdentity) -> KeyPair:
        return who.cluster

    def invocation_id(self) -> str:
        return str(uuid.uuid4())

    def target(self, who: HostIdentity) -> dict[str, str]:
        return {"public_key": who.provider.public, "contract_id": CONTRACT_ID, "link_name": who.link_name}

    def invocation_fields(self, who: HostIdentity) -> dict[str, Any]:
        """Return the fields of an invocation that only this family has, or has in its own way."""
        raise NotImplementedError

    def read_health(self, data: bytes) -> Health:
        return _health(_unpack(data))

    def read_response(self, data: bytes, invocation_id: str) -> Response:
        raise NotImplementedError


class OtpHost(HostFamily):
    """The Elixir host. Source: wasmcloud-otp v0.60.0-v0.63.2."""

    name = "otp"
    line_end = b"\n"
    keeps_stdin_open = True
    request_threshold_bytes = 700 * 1024
    call_seconds = 2.0
    shutdown_seconds = 2.0
    object_time_key = "modified"
    put_deliveries = 2
    health_payload = b"\x81\xabplaceholder\xc3"

    def host_data(self, who: HostIdentity, links: list[dict[str, Any]], config_json: str | None) -> dict[str, Any]:
        return {
            "cluster_issuers": [who.cluster.public],
            "config_json": config_json or "",
            "default_rpc_timeout_ms": 2000,
            "env_values": {},
            "host_id": who.host.public,
            "instance_id": who.instance_id,
            "invocation_seed": who.cluster.seed,
            "js_domain": None,
            "lattice_rpc_prefix": who.lattice,
            "lattice_rpc_tls": 0,
            "lattice_rpc_url": who.server,
            "lattice_rpc_user_jwt": "",
            "lattice_rpc_user_seed": "",
            "link_definitions": links,
            "link_name": who.link_name,
            "log_level": "info",
            "provider_key": who.provider.public,
            "structured_logging": False,
        }

    def environment(self) -> dict[str, str]:
        """Return the host's own environment, without empty OTEL variables."""
        return {name: value for name, value in os.environ.items() if name not in _OTEL_VARIABLES or value}

    def link(self, who: HostIdentity, actor: str, values: dict[str, Any], contract_id: str) -> dict[str, Any]:
        return {"id": link_hash(actor, contract_id, who.link_name), **super().link(who, actor, values, contract_id)}

    def invocation_fields(self, who: HostIdentity) -> dict[str, Any]:
        return {"host_id": who.cluster.public}

    def read_response(self, data: bytes, invocation_id: str) -> Response:
        """Decode it like rpc_invocations.ex, where `nil` is greater than every number."""
        answer = _unpack(data, raw=True)
        if not isinstance(answer, dict):
            raise HostCannotReadError(f"a response is a map: {answer!r}")
        fields = {name.decode(): value for name, value in answer.items()}
        if "error" in fields and fields["error"] is not None:
            return Response(b"", _text(fields["error"]), is_chunked=False, content_length=0)
        msg = fields.get("msg")
        if not isinstance(msg, bytes):
            raise HostCannotReadError(f"msg must be bin or str: {msg!r}")
        length = fields.get("content_length", len(msg))
        if type(length) is not int:
            raise HostCannotReadError(
                f"content_length is not a number, so the response would be read as empty: {length!r}"
            )
        return Response(msg, None, length > len(msg), length)


class RustHost(HostFamily):
    """The Rust host. Source: wasmCloud v0.78.0-v0.82.0."""

    name = "rust"
    line_end = b"\r\n"
    keeps_stdin_open = False
    request_threshold_bytes = 900 * 1024
    call_seconds = 10.0  # the host waits for ever; a test does not
    shutdown_seconds = 0.3
    object_time_key = "mtime"
    put_deliveries = 1
    health_payload = b""

    def host_data(self, who: HostIdentity, links: list[dict[str, Any]], config_json: str | None) -> dict[str, Any]:
        data = {
            "host_id": who.host.public,
            "lattice_rpc_prefix": who.lattice,
            "link_name": who.link_name,
            "lattice_rpc_user_jwt": "",
            "lattice_rpc_user_seed": "",
            "lattice_rpc_url": f"nats://{who.server}",
            "provider_key": who.provider.public,
            "invocation_seed": who.cluster.seed,
            "env_values": {},
            "instance_id": who.instance_id,
            "link_definitions": links,
            "cluster_issuers": [who.cluster.public],
            "default_rpc_timeout_ms": 2000,
            "structured_logging": False,
            "otel_config": {"traces_exporter": None, "exporter_otlp_endpoint": None},
        }
        return data if config_json is None else data | {"config_json": config_json}

    def environment(self) -> dict[str, str]:
        """Return the OTEL variables, which the host sets even if they are empty. It clears all others."""
        kept = {name: os.environ[name] for name in _INTERPRETER_VARIABLES if name in os.environ}
        return kept | dict.fromkeys(_OTEL_VARIABLES, "")

    def invocation_fields(self, who: HostIdentity) -> dict[str, Any]:
        return {"host_id": who.host.public, "traceContext": {}}

    def read_response(self, data: bytes, invocation_id: str) -> Response:
        """Decode it like core::InvocationResponse and the checks that follow, the lengths before the error."""
        answer = _unpack(data)
        if not isinstance(answer, dict):
            raise HostCannotReadError(f"a response is a map: {answer!r}")
        length = answer.get("content_length")
        if type(length) is not int or length < 0:
            raise HostCannotReadError(f"content_length is required: {answer!r}")
        if "traceContext" in answer and not isinstance(answer["traceContext"], dict):
            raise HostCannotReadError("traceContext must be a map or absent")
        if answer.get("invocation_id") != invocation_id:
            raise HostCannotReadError(f"invocation ID mismatch: {answer.get('invocation_id')!r}, not {invocation_id!r}")
        msg = answer.get("msg", b"")
        if not isinstance(msg, bytes):
            raise HostCannotReadError(f"msg must be bin: {msg!r}")
        is_chunked = length > self.request_threshold_bytes
        if not is_chunked and length != len(msg):
            raise HostCannotReadError(f"message size mismatch: content_length {length}, {len(msg)} bytes")
        error = answer.get("error")
        if error is not None and not isinstance(error, str):
            raise HostCannotReadError(f"error must be a text: {error!r}")
        return Response(msg, error, is_chunked, length)


class TestHarness(HostFamily):
    """The harness of provider test suites. Source: wasmbus-rpc v0.15, wasmcloud-test-util."""

    __test__ = False

    name = "harness"
    line_end = b"\r\n"
    keeps_stdin_open = False
    request_threshold_bytes = 900 * 1024
    call_seconds = 2.0
    shutdown_seconds = 2.0
    object_time_key = "mtime"
    put_deliveries = 1
    health_payload = b"{}"

    def host_data(self, who: HostIdentity, links: list[dict[str, Any]], config_json: str | None) -> dict[str, Any]:
        return {
            "host_id": "_TEST_",
            "lattice_rpc_prefix": who.lattice,
            "link_name": who.link_name,
            "lattice_rpc_user_jwt": "",
            "lattice_rpc_user_seed": "",
            "lattice_rpc_url": f"nats://{who.server}",
            "lattice_rpc_tls": None,
            "provider_key": who.provider.public,
            "invocation_seed": who.host.seed,
            "env_values": {},
            "instance_id": who.instance_id,
            "link_definitions": links,
            "cluster_issuers": [who.host.public],
            "config_json": config_json,
            "default_rpc_timeout_ms": None,
            "structured_logging": False,
            "log_level": None,
        }

    def encode_line(self, host_data: dict[str, Any]) -> bytes:
        return base64.b64encode(json.dumps(host_data).encode()).rstrip(b"=") + self.line_end

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def link(self, who: HostIdentity, actor: str, values: dict[str, Any], contract_id: str) -> dict[str, Any]:
        encoded = base64.b64encode(json.dumps(values).encode()).decode().rstrip("=")
        return super().link(who, actor, {**values, "config_b64": encoded}, contract_id)

    def encode_link(self, link: dict[str, Any]) -> bytes:
        return json.dumps(link).encode()

    def shutdown_host_id(self, who: HostIdentity) -> str:
        return "_TEST_"

    def issuer(self, who: HostIdentity) -> KeyPair:
        return who.host

    def invocation_id(self) -> str:
        return uuid.uuid4().hex

    def target(self, who: HostIdentity) -> dict[str, str]:
        return {"public_key": who.provider.public, "contract_id": "", "link_name": who.link_name}

    def invocation_fields(self, who: HostIdentity) -> dict[str, Any]:
        return {"host_id": who.host.public, "traceContext": None}

    def read_health(self, data: bytes) -> Health:
        try:
            return _health(json.loads(data))
        except ValueError as error:
            raise HostCannotReadError(f"health is JSON here: {data!r}") from error

    def read_response(self, data: bytes, invocation_id: str) -> Response:
        """Decode it like wasmbus-rpc, which checks no id and allows a missing content_length."""
        answer = _unpack(data)
        if not isinstance(answer, dict) or not isinstance(answer.get("msg"), bytes):
            raise HostCannotReadError(f"a response is a map with bin msg: {answer!r}")
        length = answer.get("content_length")
        length = len(answer["msg"]) if length is None else length
        if type(length) is not int or not isinstance(answer.get("invocation_id"), str):
            raise HostCannotReadError(f"not an InvocationResponse: {answer!r}")
        return Response(answer["msg"], answer.get("error"), length > len(answer["msg"]), length)


OTP, RUST, HARNESS = OtpHost(), RustHost(), TestHarness()
FAMILIES: tuple[HostFamily, ...] = (OTP, RUST, HARNESS)


def link_hash(actor: str, contract_id: str, link_name: str) -> str:
    """Return the id by which hosts store a link definition."""
    return hashlib.sha256(f"{actor}{contract_id}{link_name}".encode()).hexdigest().upper()


def _health(answer: Any) -> Health:
    if not isinstance(answer, dict) or type(answer.get("healthy")) is not bool:
        raise HostCannotReadError(f"a health answer has a bool, healthy: {answer!r}")
    message = answer.get("message")
    if "message" in answer and message is not None and not isinstance(message, str):
        raise HostCannotReadError(f"message must be a text: {message!r}")
    return Health(answer["healthy"], message or "")


def _pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def _unpack(data: bytes, *, raw: bool = False) -> Any:
    try:
        return msgpack.unpackb(data, raw=raw)
    except (ValueError, msgpack.UnpackException) as error:
        raise HostCannotReadError(f"not one MessagePack value: {data[:80]!r} ({error})") from error


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
