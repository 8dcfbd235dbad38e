"""Every setting is in its table, has an effect, and is documented; nothing else is."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nkeys
import pytest
from nacl.signing import SigningKey

from contracts.secret import Secret
from provider.commands.settings import setting_table
from provider.config import Identity, ProcessLimits
from provider.keyvalue.given_values import GivenValues, canonical_values
from provider.keyvalue.link_config import BucketConfig, LinkConfig, parse_link
from provider.keyvalue.link_values import LINK_VALUES, NAMES, Backend, LinkValue, SettingGroup
from provider.nats.settings import ConnectionSettings
from tests.docs import settings

ROOT = Path(__file__).parents[2]
SEED: str = nkeys.encode_seed(bytes(SigningKey(bytes(32))), nkeys.PREFIX_BYTE_USER).decode()
SECRETS = {"CLIENT_SEED": SEED, "NKEY_SEED": SEED}
PASSED_ON = {"LD_LIBRARY_PATH"}
"""Variables that a module reads only to set them for the Python that it starts."""

COMPANIONS = {"CLIENT_JWT": "CLIENT_SEED", "USER": "PASSWORD", "TLS_CERT_FILE": "TLS_KEY_FILE"}

every_value = pytest.mark.parametrize("value", LINK_VALUES.values(), ids=LINK_VALUES.keys())


def text_of(value: LinkValue) -> str:
    return SECRETS.get(value.name, value.example)


def parse(values: dict[str, str]) -> LinkConfig:
    lattice = ConnectionSettings(servers=("nats://lattice:4222",))
    return parse_link(values, lattice="default", link_name="default", lattice_connection=lattice)


def test_the_page_of_settings_is_current() -> None:
    if settings.PAGE.read_text(encoding="utf-8") != settings.page():
        pytest.fail("docs/settings.md is not what the tables of settings say; write it with: make docs", pytrace=False)


def test_no_name_is_used_twice() -> None:
    names = [name for value in LINK_VALUES.values() for name in (value.name, *value.aliases)]
    assert len(names) == len(set(names)) == len(NAMES)


@every_value
def test_a_link_value_is_accepted_under_each_of_its_names(value: LinkValue) -> None:
    for name in (value.name, *value.aliases):
        assert canonical_values({name.lower(): "1"}) == GivenValues({value.name: "1"}, {}, [])


@every_value
def test_a_link_value_has_an_effect(value: LinkValue) -> None:
    companions = {**COMPANIONS, **{second: first for first, second in COMPANIONS.items()}}
    given = {value.name: text_of(value)}
    if value.name in companions:
        given[companions[value.name]] = text_of(LINK_VALUES[companions[value.name]])
    config = parse(given)
    assert config != parse({})
    if value.is_secret:
        assert text_of(value) not in repr(config)


def test_a_link_needs_no_value_that_is_not_in_the_table() -> None:
    """Each name in capital letters that the parser looks up is the name of a link value."""
    tree = ast.parse((ROOT / "provider/keyvalue/link_config.py").read_text(encoding="utf-8"))
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert {name for name in names if re.fullmatch("[A-Z][A-Z_]+", name)} - {"CONFIG_B64"} <= set(LINK_VALUES)


@every_value
def test_a_value_that_is_secret_is_parsed_into_one(value: LinkValue) -> None:
    assert isinstance(value.parse(text_of(value)), Secret) is value.is_secret


@every_value
def test_a_default_means_the_same_as_no_value(value: LinkValue) -> None:
    for backend in Backend:
        default = value.default_for(backend)
        if default and value.name != "BACKEND":
            with_default = parse({"BACKEND": backend.value, value.name: default})
            without = parse({"BACKEND": backend.value})
            assert getattr(with_default, backend.value) == getattr(without, backend.value)
            assert (with_default.consistency, with_default.watch) == (without.consistency, without.watch)
    assert parse({"BACKEND": LINK_VALUES["BACKEND"].default}) == parse({})


def test_a_bucket_without_settings_is_one_of_a_link_without_values() -> None:
    assert BucketConfig("default_default") == parse({}).bucket


@pytest.mark.parametrize("group", SettingGroup)
def test_no_group_of_link_values_is_empty(group: SettingGroup) -> None:
    assert any(value.group is group for value in LINK_VALUES.values())


def test_provider_toml_has_every_limit_at_its_default() -> None:
    keys = "\n".join(f"{key.name} = {key.literal}" for key in setting_table.toml_keys() if key.section == "limits")
    limits = tomllib.loads(keys)
    assert limits == {name: getattr(ProcessLimits(), name) for name in ProcessLimits.__struct_fields__}


def test_every_key_of_provider_toml_has_a_comment() -> None:
    keys = [key for key in setting_table.toml_keys() if key.section != "link"]
    assert [key.name for key in keys if not key.meaning.endswith(".")] == []
    assert {key.name for key in keys} == {*Identity.__struct_fields__, *ProcessLimits.__struct_fields__}


def test_every_environment_variable_that_is_read_is_documented() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    read = dict(variables_read())
    assert {name: path for name, path in read.items() if f"`{name}`" not in pages and name not in PASSED_ON} == {}
    assert {one.name for one in setting_table.VARIABLES} <= read.keys() | {"SSL_CERT_FILE"}


def variables_read() -> Iterator[tuple[str, str]]:
    """Yield each variable that a module looks up by its name, or that stands for an option, with the module's path."""
    for path in sorted((ROOT / "provider").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "environ" not in source and "envvar" not in source:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(source)):
            name = name_read(node)
            if isinstance(name, ast.Name):
                found = getattr(importlib.import_module(module), name.id, None)
            else:
                found = name.value if isinstance(name, ast.Constant) else None
            if isinstance(found, str):
                yield found, str(path.relative_to(ROOT))


def name_read(node: ast.AST) -> ast.expr | None:
    """Return the expression for the name of a variable, if this is a place where one is read."""
    match node:
        case ast.Call(func=ast.Attribute(value=mapping, attr="get"), args=[name, *_]) if is_environment(mapping):
            return name
        case ast.Subscript(value=mapping, slice=name, ctx=ast.Load()) if is_environment(mapping):
            return name
        case ast.keyword(arg="envvar", value=name):
            return name
    return None


def is_environment(node: ast.expr) -> bool:
    return ast.unparse(node) in ("os.environ", "environment")
