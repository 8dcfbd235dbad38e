"""The messages of the lattice: entities, invocations and their responses, link definitions, health, shutdown.

Also the subjects on which they travel and the URLs that claims name. The module knows their bytes and judges none.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from contracts import codec
from contracts.long_values import LongBytes

CHUNK_THRESHOLD_BYTES = 900 * 1024
"""A response longer than this travels through the object store. The Rust host insists on exactly this number.

Source: wasmCloud v0.82.0 crates/core/src/lib.rs (`content_length > 921600`).
"""

_MAX_TEXT_CHARACTERS = 4000
"""More than any text of our own. What a client sends may fill a message, and a text around it would fit in none."""

RPC_QUEUE = "rpc"
SHUTDOWN_ACKNOWLEDGEMENT = b"shutting down"


class WasmCloudEntity(Struct, frozen=True, forbid_unknown_fields=True):
    """An actor, whose link name and contract are empty, or a provider under one link name."""

    public_key: str
    link_name: str = ""
    contract_id: str = ""

    @property
    def is_actor(self) -> bool:
        return self.public_key[:1] in "Mm" and self.public_key != ""


class Invocation(Struct, kw_only=True, gc=False, forbid_unknown_fields=True):
    """One call of an operation. `msg` is empty if the payload travels through the object store.

    The type forbids unknown fields, so msgspec decodes the usual form in one step and refuses every other. Those take
    the slower way in `decode_invocation`, which tolerates them.
    """

    origin: WasmCloudEntity
    target: WasmCloudEntity
    operation: str
    msg: bytes
    id: str
    encoded_claims: str
    host_id: str
    content_length: int | None | UnsetType = UNSET
    """Length of the whole payload in bytes. If it is absent, `msg` is the whole payload."""
    trace_context: dict[str, str] | None | UnsetType = field(default=UNSET, name="traceContext")

    @property
    def is_chunked(self) -> bool:
        return isinstance(self.content_length, int) and self.content_length > len(self.msg)


class InvocationResponse(Struct, kw_only=True, gc=False):
    """The answer to one invocation. A response with an `error` has no `msg`."""

    msg: bytes
    invocation_id: str
    error: str | None | UnsetType = UNSET
    content_length: int | UnsetType = UNSET
    trace_context: dict[str, str] | None | UnsetType = field(default=UNSET, name="traceContext")


class LinkDefinition(Struct, frozen=True, kw_only=True):
    """The permission of an actor to use a provider. Its identity is actor, contract and link name."""

    actor_id: str
    provider_id: str
    link_name: str
    contract_id: str
    values: dict[str, Any] = field(default_factory=dict)
    """Settings of the link: texts, or what else a manifest has. Some are secrets, so `repr` shows only their names."""

    def __repr__(self) -> str:
        identity = f"{self.actor_id!r}, {self.provider_id!r}, {self.link_name!r}, {self.contract_id!r}"
        return f"LinkDefinition({identity}, values={sorted(self.values)})"

    @property
    def hash_id(self) -> str:
        """Return the key under which lattices store the link: upper-case hex SHA-256 of its identity."""
        identity = self.actor_id + self.contract_id + self.link_name
        return hashlib.sha256(identity.encode()).hexdigest().upper()


class HealthCheckResponse(Struct, frozen=True, omit_defaults=True):
    """The answer to a health request.

    Attributes:
        message: The reason of bad health, then remarks, as on settings; None if there is neither.
    """

    healthy: bool
    message: str | None = None


def entity_url(entity: WasmCloudEntity) -> str:
    """Return the URL by which claims name an entity.

    Source: wasmCloud v0.82.0 crates/core/src/lib.rs `WasmCloudEntity::url`.
    """
    if entity.is_actor:
        return f"wasmbus://{entity.public_key}"
    contract = entity.contract_id.replace(":", "/").replace(" ", "_").lower()
    link_name = entity.link_name.replace(" ", "_").lower()
    return f"wasmbus://{contract}/{link_name}/{entity.public_key}"


def target_url(target: WasmCloudEntity, operation: str) -> str:
    return f"{entity_url(target)}/{operation}"


def invocation_hash(origin_url: str, url_of_target: str, operation: str, msg: bytes | LongBytes) -> str:
    """Return the upper-case hex SHA-256 over an invocation's URLs, operation and whole payload."""
    digest = hashlib.sha256(f"{origin_url}{url_of_target}{operation}".encode())
    for part in msg.parts if isinstance(msg, LongBytes) else [msg]:
        digest.update(part)
    return digest.hexdigest().upper()


class Subjects(Struct, frozen=True):
    """The subjects that a provider serves for one link name."""

    lattice: str
    provider_key: str
    link_name: str

    @property
    def rpc(self) -> str:
        return f"wasmbus.rpc.{self.lattice}.{self.provider_key}.{self.link_name}"

    @property
    def put_link(self) -> str:
        return f"{self.rpc}.linkdefs.put"

    @property
    def delete_link(self) -> str:
        return f"{self.rpc}.linkdefs.del"

    @property
    def health(self) -> str:
        return f"{self.rpc}.health"

    @property
    def shutdown(self) -> str:
        return f"{self.rpc}.shutdown"


def actor_subject(lattice: str, actor_id: str) -> str:
    """Return the subject on which hosts receive calls of an actor, in a queue group of the same name.

    Raises:
        codec.MalformedError: The id is of a link, which anyone may have written, and no subject can have it.
    """
    check_subject_token("actor_id", actor_id, "link")
    return f"wasmbus.rpc.{lattice}.{actor_id}"


def check_subject_token(name: str, token: str, what: str) -> None:
    """Refuse a text that cannot be part of a subject.

    Raises:
        codec.MalformedError: The text is empty or has white space, a wildcard or a control character.
    """
    if not token or re.search(r"[\s*>\x00-\x1f\x7f]", token):
        raise codec.MalformedError(what, f"field {name}: empty, or has a character that no subject may have")


_invocation_decoder = msgspec.msgpack.Decoder(Invocation)
_ENTITY_NAMES = frozenset(WasmCloudEntity.__struct_fields__)
_ENTITY_ALIASES = codec.camel_and_snake(*_ENTITY_NAMES)
_INVOCATION_NAMES = frozenset(Invocation.__struct_encode_fields__)
_INVOCATION_ALIASES = codec.camel_and_snake(*_INVOCATION_NAMES)
_RESPONSE_NAMES = frozenset(InvocationResponse.__struct_encode_fields__)
_RESPONSE_ALIASES = codec.camel_and_snake(*_RESPONSE_NAMES)
_LINK_NAMES = frozenset(LinkDefinition.__struct_fields__)
_LINK_ALIASES = codec.camel_and_snake(*_LINK_NAMES)


def decode_invocation(data: bytes) -> Invocation:
    """Decode an invocation from a MessagePack map.

    Keys may come in any order, in camelCase or snake_case. Unknown keys are ignored. `msg` may be bin, str or an array
    of bytes.

    Raises:
        codec.MalformedError: A field is missing or of the wrong type.
    """
    try:
        return _invocation_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _as_named(_unpack_with_binary_text(data, "invocation"))
        return codec.to_struct(value, Invocation, "invocation")


def encode_invocation(invocation: Invocation) -> bytes:
    return codec.pack_struct(invocation)


def invocation_id_of(data: bytes) -> str:
    """Return the id of an invocation that may otherwise be malformed, or "" if no id can be read."""
    try:
        value = _unpack_with_binary_text(data, "invocation")
    except codec.MalformedError:
        return ""
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found.isprintable() else ""


def decode_invocation_response(data: bytes) -> InvocationResponse:
    """Decode a response of any host or provider: `msg` may be bin, str, an array of bytes, nil or absent.

    Raises:
        codec.MalformedError: A field is of the wrong type.
    """
    value = _unpack_with_binary_text(data, "invocation response")
    if isinstance(value, dict):
        value = codec.with_known_names(value, _RESPONSE_NAMES, _RESPONSE_ALIASES)
        value["msg"] = _bytes_from(value.get("msg"), "invocation response")
        value.setdefault("invocation_id", "")
    return codec.to_struct(value, InvocationResponse, "invocation response")


def encode_invocation_response(response: InvocationResponse) -> bytes:
    return codec.pack_struct(response)


def encode_success(invocation_id: str, msg: bytes, content_length: int) -> bytes:
    """Encode a response without an error. `msg` is empty if the payload is in the object store."""
    return codec.pack_struct(InvocationResponse(msg=msg, invocation_id=invocation_id, content_length=content_length))


def encode_failure(invocation_id: str, error: str) -> bytes:
    """Encode a response with an error, whose text is cut to what people read."""
    return codec.pack({"msg": b"", "invocation_id": invocation_id, "error": _cut(error), "content_length": 0})


def link_definition_from(value: Any, what: str = "link definition") -> LinkDefinition:
    """Check plain values against `LinkDefinition`.

    Keys have either spelling, unknown ones are ignored, and `values` may be nil.

    Raises:
        codec.MalformedError: A field is missing or of the wrong type. The error never shows link values.
    """
    if isinstance(value, dict):
        value = codec.with_known_names(value, _LINK_NAMES, _LINK_ALIASES)
        if value.get("values", {}) is None:
            value = value | {"values": {}}
    return codec.to_struct(value, LinkDefinition, what)


def decode_link_definition(data: bytes, *, is_json: bool = False) -> LinkDefinition:
    """Decode a link definition. Hosts send MessagePack; the test harness and lattice metadata have JSON."""
    what = "link definition"
    return link_definition_from(codec.unpack_json(data, what) if is_json else codec.unpack(data, what), what)


def encode_link_definition(link: LinkDefinition, *, is_json: bool = False) -> bytes:
    return codec.pack_json(codec.to_plain(link)) if is_json else codec.pack_struct(link)


def encode_health(response: HealthCheckResponse, *, is_json: bool = False) -> bytes:
    """Encode a health response, whose message is cut to what people read."""
    if response.message is not None:
        response = HealthCheckResponse(response.healthy, _cut(response.message))
    return codec.pack_json(codec.to_plain(response)) if is_json else codec.pack_struct(response)


def decode_health(data: bytes, *, is_json: bool = False) -> HealthCheckResponse:
    what = "health response"
    value = codec.unpack_json(data, what) if is_json else codec.unpack(data, what)
    return codec.to_struct(value, HealthCheckResponse, what)


def decode_shutdown_host_id(data: bytes) -> str:
    """Return the `host_id` of a shutdown request, which is JSON from every host, or "" if it names no host."""
    try:
        value = codec.unpack_json(data, "shutdown request")
    except codec.MalformedError:
        return ""
    host_id = value.get("host_id", value.get("hostId")) if isinstance(value, dict) else None
    return host_id if isinstance(host_id, str) else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARACTERS else f"{text[:_MAX_TEXT_CHARACTERS]}…"


def _as_named(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    value = codec.only_known_names(value, _INVOCATION_NAMES, _INVOCATION_ALIASES)
    for side in ("origin", "target"):
        if side in value:
            value[side] = _entity_from(value[side])
    if "msg" in value:
        value["msg"] = _bytes_from(value["msg"], "invocation")
    return value


def _unpack_with_binary_text(data: bytes, what: str) -> Any:
    """Unpack a message whose binaries may be packed as text, as OTP hosts do."""
    try:
        return codec.unpack(data, what)
    except codec.NotUtf8Error:
        value = codec.unpack(data, what, undecodable_text=True)
        others = {key: item for key, item in value.items() if key != "msg"} if isinstance(value, dict) else value
        codec.check_utf8(others, what)
        return value


def _entity_from(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    value = codec.only_known_names(value, _ENTITY_NAMES, _ENTITY_ALIASES)
    return {key: "" if item is None else item for key, item in value.items()} if None in value.values() else value


def _bytes_from(value: Any, what: str) -> bytes:
    try:
        match value:
            case bytes():
                return value
            case None:
                return b""
            case str():
                return value.encode("utf-8", "surrogateescape")
            case list():
                return bytes(value)
    except (ValueError, TypeError):
        pass
    raise codec.MalformedError(what, f"field msg: expected bytes, got {type(value).__name__}")
