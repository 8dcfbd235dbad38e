"""provider.toml, config_json and host data -> frozen settings.

What takes precedence over what is decided here alone: link values, then config_json, provider.toml, defaults.
"""

from __future__ import annotations

import importlib.resources
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field, structs

from contracts import codec
from contracts.host import HostData
from contracts.lattice import LinkDefinition
from contracts.secret import Secret
from provider import errors
from provider.keyvalue.link_config import LinkConfig, canonical_values, parse_link
from provider.keyvalue.link_forms import server_url
from provider.nats.settings import ConnectionSettings

PATH_VARIABLE = "KEYVALUE_NATS_PROVIDER_TOML"
PATH_KEY = "provider_toml"
"""The key of config_json that names another provider.toml. The variable does the same where hosts pass it on."""


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """What this provider is, to the lattice and in its archive."""

    contract_id: str
    vendor: str
    name: str
    version: str
    revision: int


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What the process takes on at most."""

    max_in_flight: int = 4096
    max_in_flight_bytes: int = 268_435_456
    max_invocation_bytes: int = 16_777_216
    max_keys_per_call: int = 10_000
    replay_window_seconds: int = 120
    replay_ids: int = 1_000_000
    connect_timeout_seconds: int = 10


class ProviderToml(Struct, frozen=True, forbid_unknown_fields=True):
    """The file, checked. `link` has canonical names."""

    identity: Identity
    limits: Limits = Limits()
    link: dict[str, str | int | bool] = field(default_factory=dict)


class ProviderConfig(Struct, frozen=True):
    """Everything that is settled once the host data is read.

    Attributes:
        link_defaults: Canonical link values that hold where a link gives none.
        unknown: Names in config_json that no setting has, to be logged.
    """

    identity: Identity
    limits: Limits
    link_defaults: dict[str, str]
    lattice_connection: ConnectionSettings
    unknown: list[str]


def load_config(host_data: HostData, environment: Mapping[str, str]) -> ProviderConfig:
    """Read provider.toml and merge config_json into it.

    Raises:
        errors.ConfigError: Names the file's or the document's path and what is wrong there.
    """
    given = _config_json(host_data.config_json)
    path = given.pop(PATH_KEY, None) or environment.get(PATH_VARIABLE)
    toml = load_provider_toml(str(path) if path else None)
    limit_names = set(Limits.__struct_fields__)
    limits = _limits(toml.limits, {name: value for name, value in given.items() if name in limit_names})
    known, unknown = canonical_values({name: value for name, value in given.items() if name not in limit_names})
    defaults, _ = canonical_values(toml.link)
    return ProviderConfig(toml.identity, limits, defaults | known, lattice_connection(host_data), unknown)


def load_provider_toml(path: str | None = None) -> ProviderToml:
    """Read provider.toml: the one at `path`, else the one that travels with the package.

    Raises:
        errors.ConfigError: It cannot be read, has an unknown setting, or a wrong value; names the path in the file.
    """
    where = path or "provider.toml"
    try:
        value = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8") if path else packaged_provider_toml())
        toml = codec.to_struct(value, ProviderToml, where)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.ConfigError(str(error), where) from None
    except codec.MalformedError as error:
        raise errors.ConfigError(error.reason, where) from None
    _check_limits(toml.limits, f"{where}: limits")
    known, unknown = canonical_values(toml.link)
    if unknown:
        raise errors.ConfigError(f"link.{unknown[0]} is not a setting", where)
    _check_link_defaults(known, where)
    return toml


def link_config(
    config: ProviderConfig, host_data: HostData, definition: LinkDefinition
) -> tuple[LinkConfig, list[str]]:
    """Return what a link is to be, and the names of its values that no setting has.

    Raises:
        errors.LinkError: Names the setting at fault.
    """
    known, unknown = canonical_values(definition.values)
    parsed = parse_link(
        config.link_defaults | known,
        lattice=host_data.lattice_rpc_prefix,
        link_name=definition.link_name,
        lattice_connection=config.lattice_connection,
    )
    return parsed, unknown


def lattice_connection(host_data: HostData) -> ConnectionSettings:
    """Return how to connect to the lattice.

    Raises:
        errors.ConfigError: Its URL is none.
    """
    try:
        servers = tuple(server_url(url.strip()) for url in host_data.lattice_rpc_url.split(",") if url.strip())
    except ValueError as error:
        raise errors.ConfigError(str(error), "host data: field lattice_rpc_url") from None
    return ConnectionSettings(
        servers=servers,
        client_jwt=host_data.lattice_rpc_user_jwt,
        client_seed=host_data.lattice_rpc_user_seed,
        is_tls=host_data.lattice_rpc_tls,
        js_domain=host_data.js_domain or "",
    )


def packaged_provider_toml() -> str:
    """Read the file from the package, or from beside it in a checkout."""
    packaged = importlib.resources.files("provider") / "provider.toml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (pathlib.Path(__file__).parent.parent / "provider.toml").read_text(encoding="utf-8")


def _config_json(text: Secret) -> dict[str, Any]:
    if not text or not text.reveal().strip():
        return {}
    try:
        value = codec.unpack_json(text.reveal(), "config_json")
    except codec.MalformedError:
        raise errors.ConfigError("not JSON", "config_json") from None
    if not isinstance(value, dict):
        raise errors.ConfigError("expected a JSON object", "config_json")
    return value


def _limits(limits: Limits, given: Mapping[str, Any]) -> Limits:
    if not given:
        return limits
    try:
        merged = codec.to_struct(structs.asdict(limits) | dict(given), Limits, "limits")
    except codec.MalformedError as error:
        raise errors.ConfigError(error.reason, "config_json") from None
    _check_limits(merged, "config_json")
    return merged


def _check_limits(limits: Limits, where: str) -> None:
    for name, value in structs.asdict(limits).items():
        if value < (0 if name == "replay_window_seconds" else 1):
            raise errors.ConfigError(f"{name} is {value}, too small", where)


def _check_link_defaults(known: Mapping[str, str], where: str) -> None:
    nowhere = ConnectionSettings(servers=("nats://127.0.0.1:4222",))
    try:
        parse_link(known, lattice="default", link_name="default", lattice_connection=nowhere)
    except errors.LinkError as error:
        raise errors.ConfigError(f"link.{error.setting.lower()}: {error.reason}", where) from None


def wanted_log_level(host_data: HostData, environment: Mapping[str, str]) -> str:
    """Return the level that the host gives in host data, or, as Rust hosts of 0.79 and later do, in RUST_LOG."""
    return host_data.log_level or environment.get("RUST_LOG", "") or "info"
