"""The page docs/statistics.md: `python -m tests.docs.statistics` writes it.

The tables come from the docstrings of the types that the provider encodes.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from contracts import statistics

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"

_HEAD = """<!-- Written by `make docs` from contracts/statistics.py. -->

# Statistics for machines

Each provider instance answers the subjects of NATS services: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`. The counts of
the operations are where `nats micro stats` looks for them. The field `data` of the statistics has the rest:

```
nats req '$SRV.STATS' '' --replies 0 --timeout 1s | jq .data
```

`keyvalue-nats exporter` serves these data to Prometheus for all instances of a lattice, `keyvalue-nats top` shows them
live, and metrics over OTLP have the same names. No field has a key or a value of an actor. All durations are in seconds
and all sizes in bytes. An answer has every call that was answered before it; in a flood of requests, some get the same one.

Counters begin with the process, those of a bucket or a cache when it is opened, and those of a link when it is put. A link
that is put again with other values counts on; when it is deleted, its calls stay in `operations` alone.

New fields may be added; `format` changes when one changes its meaning. An answer that would not fit into a message has fewer
links and stores.
"""

_HEADINGS: dict[type[Struct], str] = {
    statistics.InstanceStatistics: "data",
    statistics.OperationStatistics: "operations",
    statistics.LinkStatistics: "links",
    statistics.WatchStatistics: "links, watch",
    statistics.BucketStatistics: "buckets",
    statistics.CacheStatistics: "caches",
    statistics.ConnectionStatistics: "connections",
    statistics.SignatureStatistics: "signatures",
    statistics.ProcessStatistics: "process",
}
"""The types with the fields that have them, in the order of the page."""

_TYPES = {str: "text", int: "integer", float: "number", bool: "boolean"}


def page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(line for type_, heading in _HEADINGS.items() for line in _section(type_, heading))])


def _section(type_: type[Struct], heading: str) -> Iterator[str]:
    text = (type_.__doc__ or "").partition("\n\n")[0].strip()
    yield f"## {heading}\n\n{text}\n\n| field | type | meaning |\n|---|---|---|"
    meanings = documented(type_)
    for name, kind in typing.get_type_hints(type_).items():
        yield f"| `{name}` | {_kind(kind)} | {meanings[name]} |"
    yield ""


def documented(type_: type[Struct]) -> dict[str, str]:
    """Return the description of each attribute in a type's docstring."""
    entries = re.findall(
        r"^ +(\w+): (.+(?:\n {9,}.+)*)", (type_.__doc__ or "").partition("Attributes:")[2], re.MULTILINE
    )
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def _kind(kind: typing.Any) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    arguments = [argument for argument in typing.get_args(kind) if argument is not type(None)]
    origin = typing.get_origin(kind)
    if origin is list:
        return f"list of {_kind(arguments[0])}" if arguments[0] not in _HEADINGS else "list"
    if origin is dict:
        return "object of integers"
    return f"{_kind(arguments[0])} or null" if arguments else "object"


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
