"""Settings of the process: provider.toml, config_json and host data merged into frozen structs.

Precedence is decided here alone: link values, then config_json, provider.toml, defaults.
"""

from __future__ import annotations

import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, field, structs

from contracts import codec
from contracts.host import HostData
from contracts.lattice import LinkDefinition
from contracts.secret import Secret
from provider import errors
from provider.keyvalue.given_values import Remark, canonical_values, normal_name, text_of, unknown_reason, wrong_forms
from provider.keyvalue.link_config import LinkConfig, parse_link
from provider.keyvalue.link_forms import server_url
from provider.keyvalue.link_trust import LinkPolicy, join_values
from provider.keyvalue.link_values import LINK_VALUES, Backend
from provider.lattice.signature_processes.usable_cores import default_processes, usable_cores
from provider.lattice.wasmcloud1.reply_subjects import DEFAULT_PREFIX, is_prefix
from provider.nats.settings import ConnectionSettings
from provider.units import parse_size, parse_whole_seconds

CONFIG_JSON = "config_json"
_PROVIDER_CONFIG = "provider config"
"""The names of the settings that an operator gives the provider: under wasmbus hosts, and under those of 1.x."""

PATH_VARIABLE = "KEYVALUE_NATS_PROVIDER_TOML"
PATH_KEY = "provider_toml"
"""The key of config_json that names another provider.toml. The variable does the same where hosts pass it on."""

FOLDERS_KEY = "link_files"
"""The key of config_json that lists the folders which files of links must be in."""

URLS_KEY = "link_urls"
"""The key of config_json that forbids `URL` in links."""


TELEMETRY_KEYS = ("traces_exporter", "metrics_exporter", "otlp_endpoint")
"""The keys of config_json that choose the export of traces and of metrics, and its URL."""

INBOXES_KEY = "inbox_prefixes"
"""The key of config_json that lists the prefixes of subjects which callers of 1.x hosts may be answered on."""


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
    max_invocation_bytes: int = 67_108_864
    max_answer_bytes: int = 67_108_864
    max_keys_per_call: int = 10_000
    replay_window_seconds: int = 120
    replay_ids: int = 1_000_000
    page_grace_seconds: int = 60
    connect_timeout_seconds: int = 10
    signature_processes: int | Literal["auto"] = "auto"


class ProviderToml(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of provider.toml. `link` holds defaults of link values under any spelling of their names."""

    identity: Identity
    limits: ProcessLimits = ProcessLimits()
    link: dict[str, Any] = field(default_factory=dict)


class TelemetryConfig(Struct, frozen=True):
    """The export of traces and metrics as config_json has it; "": as the host or the environment says.

    Attributes:
        traces_exporter: `otlp` or `none`.
        metrics_exporter: The same for metrics.
        otlp_endpoint: URL of the collector, without the path of a signal.
    """

    traces_exporter: str = ""
    metrics_exporter: str = ""
    otlp_endpoint: str = ""


class ProviderConfig(Struct, frozen=True):
    """The settings of the process.

    Attributes:
        link_defaults: Defaults of link values, by canonical name.
        wrong_defaults: Reasons by canonical name, for values of config_json that no link can use.
        remarks: Warnings about config_json.
        source: Name of the settings that the operator gives, for remarks on them.
        link_policy: Restrictions on what links may name.
        inbox_prefixes: Prefixes of the subjects on which callers of 1.x hosts are answered.
        telemetry: Export of traces and metrics.
    """

    identity: Identity
    limits: ProcessLimits
    link_defaults: dict[str, str]
    lattice_connection: ConnectionSettings
    source: str = CONFIG_JSON
    link_policy: LinkPolicy = LinkPolicy()
    telemetry: TelemetryConfig = TelemetryConfig()
    inbox_prefixes: tuple[str, ...] = (DEFAULT_PREFIX,)
    wrong_defaults: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)


_MAX_LIMIT = 2**63 - 1
"""Bytes: more than any machine has."""

_MAY_BE_ZERO = ("replay_window_seconds", "signature_processes")
"""Limits of which 0 turns something off."""

_MOST_SIGNATURE_PROCESSES = 64
"""Far more than one provider can keep busy. A larger number is a mistake that would fill the machine."""

_PROCESS_SETTINGS = (PATH_KEY, FOLDERS_KEY, URLS_KEY, INBOXES_KEY, *TELEMETRY_KEYS, *ProcessLimits.__struct_fields__)
"""The names in config_json that are not link values."""


def load_config(host_data: HostData, environment: Mapping[str, str]) -> ProviderConfig:
    """Read provider.toml and merge config_json into it, or the provider's config of a 1.x host.

    Raises:
        errors.ConfigError: A setting is unknown or wrong. The error names the file or config_json, and the fault.
    """
    try:
        config = _load(host_data, environment)
    except errors.ConfigError as error:
        if host_data.wasmcloud1 is None or error.where != CONFIG_JSON:
            raise
        raise errors.ConfigError(error.reason, _PROVIDER_CONFIG) from None
    return config if host_data.wasmcloud1 is None else structs.replace(config, source=_PROVIDER_CONFIG)


def _load(host_data: HostData, environment: Mapping[str, str]) -> ProviderConfig:
    own, values = _config_json(host_data.config_json)
    path = own.pop(PATH_KEY, None) or environment.get(PATH_VARIABLE)
    policy = _link_policy(own.pop(FOLDERS_KEY, None), own.pop(URLS_KEY, None))
    prefixes = _inbox_prefixes(own.pop(INBOXES_KEY, None))
    telemetry = _telemetry({name: own.pop(name, None) for name in TELEMETRY_KEYS})
    toml = load_provider_toml(str(path) if path else None)
    given = canonical_values(values, _PROCESS_SETTINGS)
    wrong = given.wrong | wrong_forms(given.known)
    return ProviderConfig(
        identity=toml.identity,
        limits=_limits(toml.limits, own),
        link_defaults=canonical_values(toml.link).known
        | {name: text for name, text in given.known.items() if name not in wrong},
        lattice_connection=lattice_connection(host_data),
        link_policy=policy,
        telemetry=telemetry,
        inbox_prefixes=prefixes,
        wrong_defaults=wrong,
        remarks=given.remarks + [Remark(name, reason) for name, reason in wrong.items()],
    )


def helper_processes(limits: ProcessLimits) -> int:
    """Return the number of helper processes for signature checks, by the setting or by this machine."""
    if limits.signature_processes == "auto":
        return default_processes(usable_cores())
    return limits.signature_processes


def load_provider_toml(path: str | None = None) -> ProviderToml:
    """Read provider.toml from `path`, or by default from the package.

    Raises:
        errors.ConfigError: The file cannot be read, or has an unknown setting or a wrong value. The error names the
            path within the file.
    """
    where = path or "provider.toml"
    try:
        value = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8") if path else packaged_provider_toml())
        _check_names(value, where)
        if isinstance(limits := value.get("limits"), dict):
            value["limits"] = _numbers(limits, where, "limits.")
        toml = codec.to_struct(value, ProviderToml, where)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.ConfigError(str(error), where) from None
    except codec.MalformedError as error:
        raise errors.ConfigError(error.reason, where) from None
    _check_limits(toml.limits, f"{where}: limits")
    given = canonical_values(toml.link)
    for remark in given.remarks:
        raise errors.ConfigError(f"link.{remark}", where)
    for name, reason in given.wrong.items():
        raise errors.ConfigError(f"link.{name.lower()}: {reason}", where)
    _check_link_defaults(given.known, where)
    return toml


def link_config(
    config: ProviderConfig, host_data: HostData, definition: LinkDefinition
) -> tuple[LinkConfig, list[Remark]]:
    """Return the settings of a link, and remarks on its values.

    Raises:
        errors.LinkError: A value is wrong. The error names the setting.
    """
    given = canonical_values(definition.values)
    for name, reason in given.wrong.items():
        raise errors.LinkError(name, reason)
    for name in config.wrong_defaults.keys() - given.known.keys():
        raise errors.LinkError(name, f"{config.wrong_defaults[name]}, in {config.source}")
    config.link_policy.check(given.known)
    parsed = parse_link(
        join_values(config.link_defaults, given.known, config.lattice_connection),
        lattice=host_data.lattice_rpc_prefix,
        link_name=definition.link_name,
        lattice_connection=config.lattice_connection,
        own=given.known,
    )
    return parsed, given.remarks + _of_other_backend(given.known, parsed.backend)


def _of_other_backend(names: Iterable[str], backend: Backend) -> list[Remark]:
    """Return a remark for each value of a link that only the other kind of store has."""
    other = {name: LINK_VALUES[name].backend for name in names}
    return [
        Remark(name, f"has no effect, as it is a setting of a {kind.value} and the link is for a {backend.value}")
        for name, kind in other.items()
        if kind is not None and kind is not backend
    ]


def lattice_connection(host_data: HostData) -> ConnectionSettings:
    """Return the settings of the connection to the lattice.

    Raises:
        errors.ConfigError: The URL in the host data is not valid.
    """
    try:
        servers = tuple(server_url(url.strip()) for url in host_data.lattice_rpc_url.split(",") if url.strip())
    except ValueError as error:
        raise errors.ConfigError(str(error), "host data: field lattice_rpc_url") from None
    part = host_data.wasmcloud1
    return ConnectionSettings(
        servers=servers,
        client_jwt=host_data.lattice_rpc_user_jwt,
        client_seed=host_data.lattice_rpc_user_seed,
        is_tls=host_data.lattice_rpc_tls,
        root_files=tuple(part.otel.additional_ca_paths or ()) if part is not None else (),
        js_domain=host_data.js_domain or "",
    )


def packaged_provider_toml() -> str:
    """Return the text of the packaged provider.toml, which lies beside the package in a checkout.

    The loader of this module reads folders and archives alike; `importlib.resources` would take a twentieth of the start.
    """
    loader: Any = __spec__.loader
    package = pathlib.Path(__file__).parent
    text: bytes
    try:
        text = loader.get_data(str(package / "provider.toml"))
    except OSError:
        text = loader.get_data(str(package.parent / "provider.toml"))
    return text.decode()


def _config_json(text: Secret) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the process that config_json gives, by their names, and the remaining ones: the link values."""
    if not text or not text.reveal().strip():
        return {}, {}
    try:
        value = codec.unpack_json(text.reveal(), CONFIG_JSON)
    except codec.MalformedError:
        raise errors.ConfigError("not JSON", CONFIG_JSON) from None
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise errors.ConfigError("expected a JSON object", CONFIG_JSON)
    names = {raw_name: normal_name(raw_name).lower() for raw_name in value}
    own = {names[raw_name]: item for raw_name, item in value.items() if names[raw_name] in _PROCESS_SETTINGS}
    return own, {raw_name: item for raw_name, item in value.items() if names[raw_name] not in _PROCESS_SETTINGS}


def _link_policy(folders: Any, urls: Any) -> LinkPolicy:
    """Return the restrictions that config_json gives; `None`: not given."""
    folders = _listed(folders)
    if folders is not None and not (
        isinstance(folders, list)
        and all(isinstance(folder, str) and folder.startswith("/") and ".." not in folder for folder in folders)
    ):
        raise errors.ConfigError(f"{FOLDERS_KEY}: expected a list of absolute paths of folders", CONFIG_JSON)
    if urls not in (None, "allow", "deny"):
        raise errors.ConfigError(f"{URLS_KEY}: expected allow or deny", CONFIG_JSON)
    return LinkPolicy(None if folders is None else tuple(folders), urls != "deny")


def _inbox_prefixes(given: Any) -> tuple[str, ...]:
    """Return the prefixes that config_json gives; `None`: not given."""
    prefixes = _listed(given)
    if prefixes is None:
        return (DEFAULT_PREFIX,)
    if (
        not isinstance(prefixes, list)
        or not prefixes
        or not all(isinstance(text, str) and is_prefix(text) for text in prefixes)
    ):
        raise errors.ConfigError(
            f"{INBOXES_KEY}: expected a list of subjects such as _INBOX or _INBOX_shop", "config_json"
        )
    return tuple(prefixes)


def _listed(value: Any) -> Any:
    """Return a text with commas as a list, as the configs of 1.x hosts have only texts; anything else unchanged."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _telemetry(given: Mapping[str, Any]) -> TelemetryConfig:
    """Return the export that config_json gives; `None`: not given."""
    texts = {name: str(value or "").strip() for name, value in given.items()}
    for name in ("traces_exporter", "metrics_exporter"):
        texts[name] = texts[name].lower()
        if texts[name] not in ("", "otlp", "none"):
            raise errors.ConfigError(f"{name}: expected otlp or none", CONFIG_JSON)
    if texts["otlp_endpoint"] and not re.match(r"https?://[^/]", texts["otlp_endpoint"]):
        raise errors.ConfigError("otlp_endpoint: expected a URL like http://127.0.0.1:4318", CONFIG_JSON)
    return TelemetryConfig(**texts)


def _limits(limits: ProcessLimits, given: Mapping[str, Any]) -> ProcessLimits:
    if not given:
        return limits
    numbers = _numbers(given, CONFIG_JSON)
    try:
        merged = codec.to_struct(structs.asdict(limits) | numbers, ProcessLimits, "limits")
    except codec.MalformedError as error:
        raise errors.ConfigError(error.reason, CONFIG_JSON) from None
    _check_limits(merged, CONFIG_JSON)
    return merged


def _numbers(given: Mapping[str, Any], where: str, section: str = "") -> dict[str, Any]:
    """Return limits with the numbers that their texts stand for. null counts as not given.

    Raises:
        errors.ConfigError: A text is not a duration or a size.
    """
    numbers = {}
    for name, value in given.items():
        try:
            if value is not None:
                numbers[name] = _number(name, value)
        except ValueError as error:
            raise errors.ConfigError(f"{section}{name}: {error}", where) from None
    return numbers


def _number(name: str, value: Any) -> Any:
    """Return the number that a text or a fraction stands for, in the unit of the limit; anything else unchanged."""
    if not isinstance(value, (str, float)):
        return value
    text = text_of(value).strip()
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if name.endswith("_seconds"):
        return parse_whole_seconds(text)
    return parse_size(text, _MAX_LIMIT) if name.endswith("_bytes") else value


def _check_names(value: Mapping[str, Any], where: str) -> None:
    """Refuse names in provider.toml that are not settings. The names of link values are checked with their values."""
    for section, table in (("", ProviderToml), ("identity.", Identity), ("limits.", ProcessLimits)):
        given = value.get(section[:-1], {}) if section else value
        names = {normal_name(name): name for name in table.__struct_fields__}
        for name in given if isinstance(given, dict) else ():
            if name not in table.__struct_fields__:
                raise errors.ConfigError(f"{section}{name}: {unknown_reason(name, names)}", where)


def _check_limits(limits: ProcessLimits, where: str) -> None:
    for name, value in structs.asdict(limits).items():
        if value == "auto":
            continue
        if value < (0 if name in _MAY_BE_ZERO else 1):
            raise errors.ConfigError(f"{name} is {value}, too small", where)
        if name == "signature_processes" and value > _MOST_SIGNATURE_PROCESSES:
            raise errors.ConfigError(f"{name} is {value}, the maximum is {_MOST_SIGNATURE_PROCESSES}", where)


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
