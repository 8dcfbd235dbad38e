"""Settings of the process: provider.toml, config_json and host data merged into frozen structs.

Precedence is decided here alone: link values, then config_json, provider.toml, defaults.
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
from provider.keyvalue.link_trust import LinkPolicy, join_values
from provider.nats.settings import ConnectionSettings

PATH_VARIABLE = "KEYVALUE_NATS_PROVIDER_TOML"
PATH_KEY = "provider_toml"
"""The key of config_json that names another provider.toml. The variable does the same where hosts pass it on."""

FOLDERS_KEY = "link_files"
"""The key of config_json that lists the folders which files of links must be in."""

URLS_KEY = "link_urls"
"""The key of config_json that forbids `URL` in links."""


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """The names under which the provider appears in the lattice and in its archive."""

    contract_id: str
    vendor: str
    name: str
    version: str
    revision: int


class ProcessLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of the process. provider.toml describes each and has the same defaults."""

    max_in_flight: int = 4096
    max_in_flight_bytes: int = 268_435_456
    max_invocation_bytes: int = 16_777_216
    max_keys_per_call: int = 10_000
    replay_window_seconds: int = 120
    replay_ids: int = 1_000_000
    connect_timeout_seconds: int = 10


class ProviderToml(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of provider.toml. `link` holds defaults of link values under any spelling of their names."""

    identity: Identity
    limits: ProcessLimits = ProcessLimits()
    link: dict[str, str | int | bool] = field(default_factory=dict)


class ProviderConfig(Struct, frozen=True):
    """The settings of the process.

    Attributes:
        link_defaults: Defaults of link values, by canonical name.
        unknown_names: Names in config_json that are not settings.
        link_policy: Restrictions on what links may name.
    """

    identity: Identity
    limits: ProcessLimits
    link_defaults: dict[str, str]
    lattice_connection: ConnectionSettings
    unknown_names: list[str]
    link_policy: LinkPolicy = LinkPolicy()


def load_config(host_data: HostData, environment: Mapping[str, str]) -> ProviderConfig:
    """Read provider.toml and merge config_json into it.

    Raises:
        errors.ConfigError: A setting is unknown or wrong. The error names the file or config_json, and the fault.
    """
    given = _config_json(host_data.config_json)
    path = given.pop(PATH_KEY, None) or environment.get(PATH_VARIABLE)
    policy = _link_policy(given.pop(FOLDERS_KEY, None), given.pop(URLS_KEY, None))
    toml = load_provider_toml(str(path) if path else None)
    limit_names = set(ProcessLimits.__struct_fields__)
    limits = _limits(toml.limits, {name: value for name, value in given.items() if name in limit_names})
    known, unknown = canonical_values({name: value for name, value in given.items() if name not in limit_names})
    defaults, _ = canonical_values(toml.link)
    return ProviderConfig(toml.identity, limits, defaults | known, lattice_connection(host_data), unknown, policy)


def load_provider_toml(path: str | None = None) -> ProviderToml:
    """Read provider.toml from `path`, or by default from the package.

    Raises:
        errors.ConfigError: The file cannot be read, or has an unknown setting or a wrong value. The error names the
            path within the file.
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
    """Return the settings of a link, and the names of its values that are not settings.

    Raises:
        errors.LinkError: A value is wrong. The error names the setting.
    """
    known, unknown = canonical_values(definition.values)
    config.link_policy.check(known)
    parsed = parse_link(
        join_values(config.link_defaults, known, config.lattice_connection),
        lattice=host_data.lattice_rpc_prefix,
        link_name=definition.link_name,
        lattice_connection=config.lattice_connection,
    )
    return parsed, unknown


def lattice_connection(host_data: HostData) -> ConnectionSettings:
    """Return the settings of the connection to the lattice.

    Raises:
        errors.ConfigError: The URL in the host data is not valid.
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
    """Return the text of the packaged provider.toml, which lies beside the package in a checkout."""
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


def _link_policy(folders: Any, urls: Any) -> LinkPolicy:
    """Return the restrictions that config_json gives; `None`: not given."""
    if folders is not None and not (
        isinstance(folders, list)
        and all(isinstance(folder, str) and folder.startswith("/") and ".." not in folder for folder in folders)
    ):
        raise errors.ConfigError(f"{FOLDERS_KEY}: expected a list of absolute paths of folders", "config_json")
    if urls not in (None, "allow", "deny"):
        raise errors.ConfigError(f"{URLS_KEY}: expected allow or deny", "config_json")
    return LinkPolicy(None if folders is None else tuple(folders), urls != "deny")


def _limits(limits: ProcessLimits, given: Mapping[str, Any]) -> ProcessLimits:
    if not given:
        return limits
    try:
        merged = codec.to_struct(structs.asdict(limits) | dict(given), ProcessLimits, "limits")
    except codec.MalformedError as error:
        raise errors.ConfigError(error.reason, "config_json") from None
    _check_limits(merged, "config_json")
    return merged


def _check_limits(limits: ProcessLimits, where: str) -> None:
    for name, value in structs.asdict(limits).items():  # a window of 0 turns the memory of invocation ids off
        if value < (0 if name == "replay_window_seconds" else 1):
            raise errors.ConfigError(f"{name} is {value}, too small", where)


def _check_link_defaults(known: Mapping[str, str], where: str) -> None:
    """Parse the defaults as a link would, so that a wrong one is found at start. The connection is a placeholder."""
    placeholder = ConnectionSettings(servers=("nats://127.0.0.1:4222",))
    try:
        parse_link(known, lattice="default", link_name="default", lattice_connection=placeholder)
    except errors.LinkError as error:
        raise errors.ConfigError(f"link.{error.setting.lower()}: {error.reason}", where) from None


def wanted_log_level(host_data: HostData, environment: Mapping[str, str]) -> str:
    """Return the log level from host data, or from RUST_LOG, where Rust hosts of 0.79 and later give it."""
    return host_data.log_level or environment.get("RUST_LOG", "") or "info"
