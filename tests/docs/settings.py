"""The page docs/settings.md: `python -m tests.docs.settings` writes it.

Its rows are those of `keyvalue-nats settings`. Only the text between the tables is written here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from provider.commands.settings.setting_table import CONFIG_KEYS, VARIABLES, toml_keys
from provider.config import ProcessLimits
from provider.keyvalue.link_values import LINK_VALUES, LinkValue, SettingGroup

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

_GROUPS = {
    SettingGroup.CONNECTION: (
        "Connection",
        """For a bucket and for a cache. A link that gives none of these values uses the connection of the lattice. The
lattice's credentials are sent to no other server. A link with credentials but no `URL` uses the servers and the JetStream
domain of the lattice. Links with equal connection values share a connection.

Files are regular files of at most 1 MiB. They are read again at every attempt to connect, so renewed credentials and
certificates are found. A file whose content is replaced under the same name needs no change of the link.""",
    ),
    SettingGroup.STORE: (
        "Bucket and cache",
        "For a bucket and for a cache. Which of them to take: [bucket or cache](guarantees.md#bucket-or-cache-in-full).",
    ),
    SettingGroup.BUCKET: (
        "Bucket",
        """Only with `BACKEND=bucket`. An existing bucket is used as it is: a difference from the link's values is logged as a
warning. Links on the same bucket share a store. See [consistency](guarantees.md#consistency-of-reads) and the
[price of expiry markers](guarantees.md#expiry).""",
    ),
    SettingGroup.CACHE: ("Cache", "Only with `BACKEND=cache`. See the [guarantees of a cache](guarantees.md#cache)."),
    SettingGroup.WATCH: ("Watch", "Only with `BACKEND=bucket`. See [watching](operations.md#watching)."),
}
"""Heading and text above the table, in the order of the page."""


def page() -> str:
    """Return the whole page."""
    return "\n".join(itertools.chain(_head(), _link_values(), _provider_settings(), _variables()))


def _head() -> Iterator[str]:
    yield """<!-- Written by `make docs` from provider/keyvalue/link_values.py, provider.toml and tests/docs/settings.py. -->

# Settings

A setting is a **link value**, a **provider setting** or an **environment variable**.

[Durations and sizes](#durations-and-sizes) · [Link values](#link-values): [connection](#connection),
[bucket and cache](#bucket-and-cache), [bucket](#bucket), [cache](#cache), [watch](#watch) ·
[Provider settings](#provider-settings): [provider.toml](#providertoml), [config_json](#config_json) ·
[Environment variables](#environment-variables)

`keyvalue-nats settings` prints this table at a terminal, and `keyvalue-nats settings TTL` explains one setting.

## Durations and sizes

All settings and all options of the commands take the same forms. Letter case does not matter.

- A **duration** is a number of seconds, or numbers with units, one behind the other: `90`, `90s`, `1h30m`, `1.5d`. The
  units are `ms`, `s`, `m`, `h`, `d`, `w` and `y` (365 days). Most settings count whole seconds.
- A **size** is a number of bytes, or a number with a unit: `4096`, `512K`, `64MiB`, `1.5GB`. The units are `K`, `M`, `G` and
  `T`, always in powers of 1024; `B` and `iB` after them change nothing.

## Link values

A link value is given with the link:

```
wash link put ACTOR_ID PROVIDER_ID wasmcloud:keyvalue BUCKET=users REPLICAS=3 TTL=30d
keyvalue-nats dev --link-value BUCKET=users --link-value TTL=30d
```

The first of these that has a link value decides: the link, the provider's `config_json`, `provider.toml`, the default in
the tables below.

- **Names** may be written in any letter case, with `-` or `_`. Names in brackets are aliases. A warning
  about an unknown name has the setting that it resembles.
- **Values** are text. A number or a boolean counts as its text, null and an empty value as not given. A value of another
  form is an error: calls of that link are answered with the name of the value and the form that was expected. The given
  text is never logged or shown.
- **Doubts.** A name that is unknown or given twice, and a value for the other kind of store, have no effect; each is a
  `link_warning` in the log, and stands in the provider's health for as long as it holds.
- **Links that share a store** add up: a setting that one of them gives counts, whatever their order. If two links give
  different values, the first link's counts, and both are warned. So is a link with a setting that an existing bucket does
  not have.
- **Changes** take effect at once. A link whose values change is switched to its new store without losing a call.
- **Failures.** While a store cannot be opened, calls of the link are answered with the reason, and the provider's health
  is unhealthy. The provider retries until it succeeds.
"""


def _link_values() -> Iterator[str]:
    for group, (heading, text) in _GROUPS.items():
        values = [value for value in LINK_VALUES.values() if value.group is group]
        yield f"### {heading}\n\n{text}\n"
        has_secrets = any(value.is_secret for value in values)
        yield from _table(
            ["value", "default", "example", *(["secret"] if has_secrets else []), "meaning"],
            (_link_value(value, has_secrets=has_secrets) for value in values),
        )


def _link_value(value: LinkValue, *, has_secrets: bool) -> Iterator[str]:
    aliases = ", ".join(_code(alias) for alias in value.aliases)
    yield _code(value.name) + (f" ({aliases})" if aliases else "")
    default = _code((value.derived_default or value.default).replace("{link_name}", "{link name}"))
    yield default + (f", of a cache {_code(value.cache_default)}" if value.cache_default else "")
    yield _code(value.example)
    if has_secrets:
        yield "yes" if value.is_secret else ""
    yield value.meaning


def _provider_settings() -> Iterator[str]:
    yield """## Provider settings

### provider.toml

The package and every archive contain a `provider.toml`. To change it, pass a copy of it to
`keyvalue-nats par --provider-toml`, or name a copy on the host's machine in `config_json`. An unknown key, or a value that
cannot be used, ends the provider at start with exit code 1 and the name of the key.
"""
    keys = list(toml_keys())
    for section in ("identity", "limits"):
        rows = ([_code(key.name), _code(key.literal), key.meaning] for key in keys if key.section == section)
        yield from _table([f"`[{section}]`", "in the package", "meaning"], rows)
    yield """The section `[link]` holds defaults of link values, for all links.

### config_json

The host passes `config_json` to the provider at start: one JSON object. All keys are optional. A key that is unknown, or a
link value that no link can use, is a `config_warning` in the log, and stands in the provider's health. A link that needs
such a value is refused, unless it has one of its own.

```json
{"CREDS_FILE": "/etc/nats/keyvalue.creds", "REPLICAS": 3, "max_in_flight": 1024}
```
"""
    limits = ", ".join(_code(name) for name in ProcessLimits.__struct_fields__)
    yield from _table(
        ["key", "meaning"],
        [
            ["any link value", "Default for all links; wins over `[link]` of `provider.toml`."],
            [limits, "The limit; wins over `[limits]` of `provider.toml`."],
            *([_code(name), meaning] for name, meaning in CONFIG_KEYS.items()),
        ],
    )

    yield """Credentials and client certificates of `config_json` and `provider.toml` are sent only to the servers of their `URL`,
or without one to those of the lattice. A link that names other servers brings its own credentials, and so does a link
with a `TLS_CA` or `TLS_CA_FILE` of its own. Link definitions are not signed: where others may publish them, restrict what
they may name. The log event `link_names_files` tells which links name files.
"""


def _variables() -> Iterator[str]:
    yield """## Environment variables

"Provider" is the process that a host starts. Many hosts give it an empty environment. The variables of
`keyvalue-nats kv` are [those of `nats`](kv.md#commands), and the state-proxy connector has
[its own](state-proxy.md#variables).
"""
    yield from _table(
        ["variable", "read by", "meaning"], ([_code(one.name), one.reader, one.meaning] for one in VARIABLES)
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(heading: list[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield _row(heading)
    yield "|" + "---|" * len(heading)
    yield from map(_row, rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
