"""Link values as people give them: under any spelling of their names, as texts or not. Pure.

It turns them into texts under canonical names, and remarks on what cannot be meant as it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from contracts import codec
from provider.keyvalue.link_values import LINK_VALUES, NAMES
from provider.suggestions import suggestion

_HARNESS_VALUES = "CONFIG_B64"
"""The name under which wasmCloud's test harness passes all values once more, as JSON in base64."""

_REDIS_SCHEMES = ("redis:", "rediss:")
"""Schemes of the URL that links of the Redis providers have. Such a link works without a change, on the lattice's servers."""

_MOST_UNKNOWN = 10
"""Unknown names that are remarked on. Health and log must stay short, whatever is given."""

_MOST_SHOWN_CHARACTERS = 60
"""Twice the length of the longest name, so that a misspelt one is shown whole."""

_CLOSE = 0.65
"""The similarity from which a name is suggested: TLL resembles TTL by 0.67, while LINK_SECRET resembles CLIENT_SEED by 0.64."""

_KINDS: dict[type, str] = {list: "a list", dict: "a map", bytes: "bytes"}


class Remark(Struct, frozen=True):
    """A warning about a setting that was given. It stands in the log, and in health for as long as it holds."""

    setting: str
    reason: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.reason}"


class GivenValues(Struct, frozen=True):
    """The values that one source gives.

    Attributes:
        known: Texts by canonical name. An empty value counts as not given.
        wrong: Reasons by canonical name, for values that no text stands for.
        remarks: Names that are unknown or given twice, and the URL of a Redis server.
    """

    known: dict[str, str]
    wrong: dict[str, str]
    remarks: list[Remark]


def canonical_values(values: Mapping[str, Any], others: Iterable[str] = ()) -> GivenValues:
    """Return values under their canonical names.

    Names may be in any letter case, with `-` for `_`. Numbers and booleans count as the text that a person would write,
    null as not given. A value in the test harness's `config_b64` counts where the value itself is not given.

    Args:
        values: The values as they were given.
        others: Names of settings that may stand beside link values; an unknown name may resemble one.
    """
    known: dict[str, str] = {}
    wrong: dict[str, str] = {}
    unknown: set[str] = set()
    remarks: list[Remark] = []
    from_harness = _harness_values(values)
    for raw_name, value in [*from_harness.items(), *values.items()]:
        upper = normal_name(raw_name)
        name = NAMES.get(upper)
        if name is None:
            if upper != _HARNESS_VALUES:
                unknown.add(raw_name)
            continue
        try:
            text = text_of(value)
        except ValueError as error:
            wrong[name] = str(error)
            continue
        if text and name == "URL" and text.strip().lower().startswith(_REDIS_SCHEMES):
            remarks.append(Remark(name, "has no effect, as it names a Redis server; give the URL of NATS, or none"))
        elif text:
            text = text if name == "KEY_PREFIX" else text.strip()
            if raw_name not in from_harness and known.get(name, text) != text and name not in from_harness:
                remarks.append(Remark(name, f"given twice with different values; the one of {_shown(raw_name)} counts"))
            known[name] = text
    return GivenValues(known, wrong, _unknown_remarks(unknown, others) + remarks)


def normal_name(name: str) -> str:
    """Return a name in the spelling of the table."""
    return name.upper().replace("-", "_")


def text_of(value: Any) -> str:
    """Return the text that a person would write for a value; "" for null.

    Raises:
        ValueError: There is no such text. The message does not show the value, since it may be a secret.
    """
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
    raise ValueError(f"expected a text, not {_KINDS.get(type(value), 'this')}")


def unknown_reason(name: str, names: Mapping[str, str] = NAMES, otherwise: str = "") -> str:
    """Return the reason for refusing an unknown name, with the name that resembles it most.

    Args:
        name: The unknown name.
        names: Spelling of `normal_name` -> name of a setting.
        otherwise: Hint if no name resembles it; "": no hint.
    """
    hint = suggestion(normal_name(name)[:_MOST_SHOWN_CHARACTERS], names, otherwise, _CLOSE)
    return f"there is no such setting; {hint}" if hint else "there is no such setting"


def wrong_forms(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the reason for each text, by canonical name, that is not of the form of its value."""
    wrong = {}
    for name, text in texts.items():
        try:
            LINK_VALUES[name].parse(text)
        except ValueError as error:
            wrong[name] = str(error)
    return wrong


def _unknown_remarks(names: set[str], others: Iterable[str]) -> list[Remark]:
    known = NAMES | {normal_name(other): other for other in others}
    unknown = sorted(names)
    remarks = [Remark(_shown(name), unknown_reason(name, known)) for name in unknown[:_MOST_UNKNOWN]]
    left = len(unknown) - len(remarks)
    return remarks + ([Remark("and", f"{left} more unknown settings")] if left else [])


def _shown(name: str) -> str:
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= _MOST_SHOWN_CHARACTERS else name[:_MOST_SHOWN_CHARACTERS] + "..."


def _harness_values(values: Mapping[str, Any]) -> dict[str, Any]:
    encoded = next((value for name, value in values.items() if name.upper() == _HARNESS_VALUES), None)
    if not isinstance(encoded, str):
        return {}
    try:
        decoded = codec.unpack_json(codec.decode_base64(encoded, _HARNESS_VALUES), _HARNESS_VALUES)
    except codec.MalformedError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
