"""The messages between a host of wasmCloud 1.x and a provider: host data, links, records, configs. JSON, nothing signed.

Calls are in `contracts.wrpc`, the sealing of secrets is in `contracts.sealed`.

Source: wasmCloud v1.9.2 crates/core/src/lib.rs and crates/host/src/wasmbus.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from contracts import codec
from contracts.codec import MalformedError
from contracts.sealed import SecretBox, SecretValues, plain_secrets, secrets_from
from contracts.secret import Secret

WIT_NAMESPACE, WIT_PACKAGE = "wasi", "keyvalue"
WATCHER_INTERFACE = "watcher"
DEFAULT_LINK_NAME = "default"

SOURCE_HEADER, LINK_HEADER = b"source-id", b"link-name"
"""The headers of a call: the id of the calling component, and from 1.1 the link name that it has chosen."""

TARGET_HEADER = b"target-id"
"""The header in which a provider names the component that it calls."""

_LINK = "link"


class Link(Struct, frozen=True, kw_only=True):
    """A link from a component to the provider, or for a watcher from the provider to a component.

    Attributes:
        source_config: Settings for the source, with their values.
        target_config: Settings for the target.
        source_secrets: Sealed secrets of the source, as `contracts.sealed` opens them; None without secrets.
        target_secrets: Sealed secrets of the target.
    """

    source_id: str
    target: str
    wit_namespace: str
    wit_package: str
    name: str = DEFAULT_LINK_NAME
    interfaces: list[str] = field(default_factory=list)
    source_config: dict[str, str] = field(default_factory=dict)
    target_config: dict[str, str] = field(default_factory=dict)
    source_secrets: bytes | None = None
    target_secrets: bytes | None = None

    def __repr__(self) -> str:
        return f"Link({', '.join(map(repr, self.identity))}, interfaces={self.interfaces!r})"

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        """The fields that tell one link from another. The others are its content."""
        return self.source_id, self.target, self.wit_namespace, self.wit_package, self.name


_LINK_NAMES = frozenset(Link.__struct_fields__)
_SECRET_NAMES = ("source_secrets", "target_secrets")


def decode_link(data: bytes) -> Link:
    """Decode the payload of a message that puts a link.

    Raises:
        MalformedError: The payload is not a link. The error never shows a setting's value.
    """
    return link_from(codec.unpack_json(data, _LINK))


def decode_deleted_link(data: bytes, receiver: str) -> Link:
    """Decode the payload of a message that deletes a link. Its content counts for nothing.

    Hosts of 1.0 to 1.2 pass on the command as they received it, which names no target. It is the receiver then, since no
    provider is the source of a link before 1.7.

    Args:
        data: The payload.
        receiver: Id of the provider that has received it.

    Raises:
        MalformedError: The payload is not a link. The error never shows a setting's value.
    """
    value = codec.unpack_json(data, _LINK)
    return link_from({"target": receiver, **value} if isinstance(value, dict) else value)


def link_from(value: Any, what: str = _LINK) -> Link:
    """Check plain values against `Link`. Unknown fields are ignored, and `null` means that a field is not given.

    Raises:
        MalformedError: A field is missing or of the wrong type. The error never shows a setting's value.
    """
    if not isinstance(value, dict):
        raise MalformedError(what, f"expected an object, got {type(value).__name__}")
    given = {name: item for name, item in value.items() if name in _LINK_NAMES and item is not None}
    for name in _SECRET_NAMES:
        if name in given:
            given[name] = _octets(given[name], f"field {name}", what)
    return codec.to_struct(given, Link, what)


def encode_link(link: Link) -> bytes:
    """Encode a link as the payload of a message that puts or deletes it."""
    return codec.pack_json(plain_link(link))


def plain_link(link: Link) -> dict[str, Any]:
    """Return a link as the plain values of host data and messages. Settings are revealed."""
    plain = codec.to_plain(link)
    for name in _SECRET_NAMES:
        sealed = getattr(link, name)
        plain[name] = None if sealed is None else list(sealed)
    return plain


def _octets(value: Any, where: str, what: str) -> bytes:
    try:
        if isinstance(value, list):
            return bytes(value)
    except (ValueError, TypeError):
        pass
    raise MalformedError(what, f"{where}: expected an array of bytes")


class LinkRecord(Struct, frozen=True, kw_only=True):
    """A link in the lattice's records. Instead of settings it has the names of configs, which are recorded apart."""

    source_id: str
    target: str
    wit_namespace: str
    wit_package: str
    name: str = DEFAULT_LINK_NAME
    interfaces: list[str] = field(default_factory=list)
    source_config: list[str] = field(default_factory=list)
    target_config: list[str] = field(default_factory=list)


_RECORD_NAMES = frozenset(LinkRecord.__struct_fields__)


def decode_component_record(data: bytes) -> list[LinkRecord]:
    """Decode the record of a component, and return the links of which it is the source. Unreadable ones are left out.

    Raises:
        MalformedError: The record is not one of a component.
    """
    what = "record of a component"
    value = codec.unpack_json(data, what)
    links = value.get("links") or [] if isinstance(value, dict) else None
    if not isinstance(links, list):
        raise MalformedError(what, "field links: expected an array")
    readable = []
    for link in links:
        if isinstance(link, dict):
            given = {name: item for name, item in link.items() if name in _RECORD_NAMES and item is not None}
            try:
                readable.append(codec.to_struct(given, LinkRecord, what))
            except MalformedError:
                continue
    return readable


def decode_config(data: bytes) -> dict[str, str]:
    """Decode a named config, or the whole config of a provider.

    Raises:
        MalformedError: The payload is not an object of texts. The error never shows a value.
    """
    return config_from(codec.unpack_json(data, "config"))


def config_from(value: Any) -> dict[str, str]:
    """Check plain values against the form of a config; see `decode_config`."""
    return codec.to_struct({} if value is None else value, dict[str, str], "config")


def join_settings(config: dict[str, str], secrets: SecretValues) -> dict[str, Any]:
    """Return settings with the secrets among them, revealed; a secret counts before a setting of the same name.

    Bytes that are not text become an empty array, which is not a value of any setting.
    """
    return {**config, **{name: [] if secret is None else secret.reveal() for name, secret in secrets.items()}}


class OtelSettings(Struct, frozen=True):
    """The settings of OpenTelemetry, as a host writes them. None and an absent field mean that a setting is not given."""

    enable_observability: bool | None = None
    enable_traces: bool | None = None
    enable_metrics: bool | None = None
    observability_endpoint: str | None = None
    traces_endpoint: str | None = None
    metrics_endpoint: str | None = None
    protocol: str | None = None
    additional_ca_paths: list[str] | None = None

    @property
    def is_grpc(self) -> bool:
        return (self.protocol or "").lower() == "grpc"

    def endpoint(self, signal: str) -> str:
        """Return the URL to export a signal to, `traces` or `metrics`; "" if the signal is off."""
        is_enabled = getattr(self, f"enable_{signal}")
        if not (self.enable_observability if is_enabled is None else is_enabled):
            return ""
        own = getattr(self, f"{signal}_endpoint")
        if own:
            return str(own)
        base = self.observability_endpoint
        if self.is_grpc:
            return base or "http://127.0.0.1:4317"
        base = base or "http://127.0.0.1:4318"
        authority_and_path = base.partition("://")[2] or base
        has_path = bool(authority_and_path.partition("/")[2])
        return base if has_path else f"{base.rstrip('/')}/v1/{signal}"


class Wasmcloud1(Struct, frozen=True, kw_only=True):
    """The part of host data that only hosts of 1.x have.

    Attributes:
        links: Links in force.
        unreadable_links: The fault of each link that could not be read.
        config: The provider's own settings, which a message may replace later.
        secrets: The provider's own secrets. They count before a setting of the same name.
        host_xkey: Public curve key of the host, `X...`; "" from a host of 1.0.
        provider_xkey_seed: Seed of the provider's curve key, `SX...`; empty from a host of 1.0.
        otel: The host's settings of OpenTelemetry.
    """

    links: list[Link] = field(default_factory=list)
    unreadable_links: list[str] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    secrets: SecretValues = field(default_factory=dict)
    host_xkey: str = ""
    provider_xkey_seed: Secret = Secret("")
    otel: OtelSettings = OtelSettings()

    @property
    def secret_box(self) -> SecretBox | None:
        """The keys for sealed secrets; None from a host of 1.0.

        Raises:
            ValueError: A key is not valid. It does not appear in the error.
        """
        if not self.provider_xkey_seed or not self.host_xkey:
            return None
        return SecretBox(self.provider_xkey_seed, self.host_xkey)

    def __repr__(self) -> str:
        return f"Wasmcloud1({self.links!r}, config={sorted(self.config)}, secrets={sorted(self.secrets)})"


def is_wasmcloud1(value: dict[str, Any]) -> bool:
    """Tell whether plain host data is of a host of 1.x: the older families always give a seed for invocations."""
    if value.get("invocation_seed") is not None or value.get("invocationSeed") is not None:
        return False
    return isinstance(value.get("config"), dict) or value.get("cluster_issuers") == []


def wasmcloud1_from(value: dict[str, Any], what: str) -> Wasmcloud1:
    """Take the part that only hosts of 1.x have out of plain host data. Unknown fields are ignored.

    Raises:
        MalformedError: A field is of the wrong type. The error never shows a value.
    """
    raw_links = [] if value.get("link_definitions") is None else value["link_definitions"]
    if not isinstance(raw_links, list):
        raise MalformedError(what, "field link_definitions: expected array")
    links, unreadable = [], []
    for number, link in enumerate(raw_links):
        try:
            links.append(link_from(link, f"{what}, link {number}"))
        except MalformedError as error:
            unreadable.append(str(error))
    otel = value.get("otel_config")
    return Wasmcloud1(
        links=links,
        unreadable_links=unreadable,
        config=config_from(value.get("config")),
        secrets=secrets_from(value.get("secrets") or {}),
        host_xkey=_text(value, "host_xkey_public_key", what),
        provider_xkey_seed=Secret(_text(value, "provider_xkey_private_key", what)),
        otel=codec.to_struct(otel, OtelSettings, f"{what}: otel_config") if isinstance(otel, dict) else OtelSettings(),
    )


def plain_wasmcloud1(part: Wasmcloud1) -> dict[str, Any]:
    """Return the part as the plain values of host data. Secrets are revealed, so the result may only be encoded and sent."""
    return {
        "link_definitions": [plain_link(link) for link in part.links],
        "config": part.config,
        "secrets": plain_secrets({name: secret for name, secret in part.secrets.items() if secret is not None}),
        "host_xkey_public_key": part.host_xkey,
        "provider_xkey_private_key": part.provider_xkey_seed.reveal(),
        "otel_config": codec.to_plain(part.otel),
    }


def _text(value: dict[str, Any], name: str, what: str) -> str:
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise MalformedError(what, f"field {name}: expected str")
    return text or ""


class ControlSubjects(Struct, frozen=True):
    """The subjects of the control messages for one provider. Calls have their own: `wrpc.invocation_subject`.

    Attributes:
        link_key: The id under which the host puts links: the provider's public curve key, or its id from a host of 1.0.
    """

    lattice: str
    provider_id: str
    host_link_name: str
    link_key: str

    @property
    def put_link(self) -> str:
        return f"wasmbus.rpc.{self.lattice}.{self.link_key}.linkdefs.put"

    @property
    def delete_link(self) -> str:
        return f"{self._own}.linkdefs.del"

    @property
    def health(self) -> str:
        return f"{self._own}.health"

    @property
    def shutdown(self) -> str:
        return f"{self._own}.{self.host_link_name}.shutdown"

    @property
    def update_config(self) -> str:
        return f"{self._own}.config.update"

    @property
    def queue(self) -> str:
        """The queue group in which all instances of the provider receive calls."""
        return f"{self.lattice}.{self.provider_id}"

    @property
    def _own(self) -> str:
        return f"wasmbus.rpc.{self.lattice}.{self.provider_id}"
