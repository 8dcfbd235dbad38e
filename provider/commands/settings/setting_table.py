"""The rows of the table of settings, each from the place that decides it.

Link values come from the table that their parser uses, the keys of provider.toml from the packaged file. Only the
environment variables and the other keys of config_json are written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from provider.config import FOLDERS_KEY, INBOXES_KEY, PATH_KEY, PATH_VARIABLE, URLS_KEY, packaged_provider_toml
from provider.keyvalue.link_values import LINK_VALUES, LinkValue


class Variable(NamedTuple):
    """An environment variable of the provider or of one of its commands."""

    name: str
    reader: str
    meaning: str


class TomlKey(NamedTuple):
    """A key of provider.toml: its value as written, and the comment above it."""

    section: str
    name: str
    literal: str
    meaning: str


CONFIG_KEYS = {
    PATH_KEY: f"Path of a `provider.toml` on the host's machine. Without it, `{PATH_VARIABLE}` counts.",
    INBOXES_KEY: "Prefixes of the subjects on which callers of wasmCloud 1.x are answered, as a list. Without it, `_INBOX` "
    "alone. It is for NATS users whose inboxes are elsewhere.",
    FOLDERS_KEY: "Folders, as a list of absolute paths, that the files named by links must be in. Without it, any file.",
    URLS_KEY: "`deny`: no link may have a `URL`. Without it, or with `allow`, links may name servers.",
    "traces_exporter": "`otlp` exports traces, `none` does not. Without it, as the host or the environment says.",
    "metrics_exporter": "The same for metrics. Without it, metrics are exported where traces are, and also without them if "
    "`OTEL_METRICS_EXPORTER` says so.",
    "otlp_endpoint": "URL to export to, over HTTP: `http://127.0.0.1:4318`. Without it, as the host or the environment says.",
}
"""The keys of config_json that are no limits and no link values, with their meaning."""

VARIABLES = (
    Variable(PATH_VARIABLE, "provider", f"Path of a `provider.toml`, as `{PATH_KEY}` in `config_json`, which wins."),
    Variable(
        "RUST_LOG",
        "provider",
        "Log level under hosts that give none: `trace`, `debug`, `info`, `warn`, `error` or `off`. Any other text means "
        "`info`.",
    ),
    Variable(
        "OTEL_TRACES_EXPORTER", "provider", "`otlp` exports traces, where the host's data does not name an exporter."
    ),
    Variable(
        "OTEL_METRICS_EXPORTER",
        "provider",
        "`otlp` exports metrics, `none` does not. Without it, they go with the traces.",
    ),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "provider", "URL to export to, where the host's data does not name one."),
    Variable(
        "TMPDIR", "executable of an archive", "Folder to unpack to when the folder of the executable cannot be written."
    ),
    Variable(
        "SSL_CERT_FILE",
        "executable of an archive",
        "Certificate authorities of the system. `--bundled` executables look in the usual places without it.",
    ),
    Variable("NATS_SERVER_BINARY", "`dev`, `demo`", "Path of the nats-server to start."),
    Variable(
        "XDG_RUNTIME_DIR",
        "`dev`, `demo`, `call`, `kv`",
        "Folder of the files by which commands find a running `dev`. Without it, a folder of the user's in the temporary one.",
    ),
    Variable("NO_COLOR", "commands", "With any text, a terminal shows no colors. So it does where `TERM` is `dumb`."),
    Variable("COLUMNS", "commands", "Columns for help pages and tables. Without it, those of the terminal."),
    Variable("REDIS_PASSWORD", "`import`", "Password for Redis, if it is not in the URL."),
    Variable("WASH_KEYS", "`par`", "Folder of the signing keys. Without it, `~/.wash/keys`."),
    Variable("SOURCE_DATE_EPOCH", "`par`", "Date of the files in an archive, in seconds since 1970. Without it, 0."),
)


class Setting(NamedTuple):
    """One row for people.

    Attributes:
        name: The name to write.
        kind: `link value`, `provider setting` or `environment variable`.
        place: The store that a link value is for, or where another setting is given.
        default: The default as text; "" without one.
        example: A text that is accepted; "" without one.
        aliases: Other names.
        meaning: Description in Markdown.
    """

    name: str
    kind: str
    place: str
    default: str
    example: str
    aliases: tuple[str, ...]
    meaning: str


def settings() -> Iterator[Setting]:
    """Yield every setting, in the order of docs/settings.md."""
    yield from map(_link_value, LINK_VALUES.values())
    for key in toml_keys():
        if key.section != "link":
            place = f"[{key.section}] of provider.toml" + (", config_json" if key.section == "limits" else "")
            yield Setting(key.name, "provider setting", place, key.literal.strip('"'), "", (), key.meaning)
    for name, meaning in CONFIG_KEYS.items():
        yield Setting(name, "provider setting", "config_json", "", "", (), meaning)
    for variable in VARIABLES:
        place = f"read by {variable.reader}"
        yield Setting(variable.name, "environment variable", place, "", "", (), variable.meaning)


def _link_value(value: LinkValue) -> Setting:
    store = "bucket and cache" if value.backend is None else value.backend.value
    default = (value.derived_default or value.default).replace("{link_name}", "{link name}")
    if value.cache_default:
        default += f", of a cache {value.cache_default}"
    secret = " A secret: never logged or shown." if value.is_secret else ""
    return Setting(value.name, "link value", store, default, value.example, value.aliases, value.meaning + secret)


def toml_keys() -> Iterator[TomlKey]:
    """Yield the keys of the packaged provider.toml, each with the comment above it."""
    section, comment = "", []
    for line in packaged_provider_toml().splitlines():
        name, is_key, literal = line.partition(" = ")
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif is_key:
            yield TomlKey(section, name, literal, " ".join(comment))
        comment = []
