"""provider.toml and config_json: precedence, limits, and errors that name the key and its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.host import HostData
from contracts.lattice import LinkDefinition
from contracts.secret import Secret
from provider import errors
from provider.config import link_config, load_config, load_provider_toml


def host_data(config: object = None) -> HostData:
    return HostData(
        host_id="N",
        lattice_rpc_prefix="default",
        link_name="default",
        provider_key="V",
        invocation_seed=Secret("S"),
        cluster_issuers=["C"],
        config_json=Secret(config if isinstance(config, str) else json.dumps(config) if config is not None else ""),
    )


def definition(**values: str) -> LinkDefinition:
    return LinkDefinition(actor_id="M", provider_id="V", link_name="default", contract_id="c", values=values)


TOML = """
[identity]
contract_id = "wasmcloud:keyvalue"
vendor = "v"
name = "n"
version = "1.2.3"
revision = 4
"""


def toml(folder: Path, more: str = "") -> str:
    path = folder / "provider.toml"
    path.write_text(TOML + more)
    return str(path)


def test_a_link_value_wins_over_config_json_over_provider_toml_over_the_default(tmp_path: Path) -> None:
    path = toml(tmp_path, '[link]\nreplicas = 5\nstorage = "memory"\nttl = 60\n')
    config = load_config(host_data({"provider_toml": path, "replicas": 3, "Storage": "file"}), {})
    bucket = link_config(config, host_data(), definition(REPLICAS="1"))[0].bucket
    assert (bucket.replicas, bucket.storage, bucket.ttl_seconds, bucket.max_bytes) == (1, "file", 60, -1)
    assert config.identity.version == "1.2.3"


def test_limits_come_from_config_json_too() -> None:
    config = load_config(host_data({"max_in_flight": 8, "no_such_thing": 1}), {})
    assert config.limits.max_in_flight == 8
    assert config.unknown_names == ["no_such_thing"]


def test_the_environment_names_another_provider_toml(tmp_path: Path) -> None:
    config = load_config(host_data(), {"KEYVALUE_NATS_PROVIDER_TOML": toml(tmp_path)})
    assert config.identity.vendor == "v"


def test_the_packaged_provider_toml_is_valid() -> None:
    assert load_provider_toml().identity.contract_id == "wasmcloud:keyvalue"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("[limits]\nmax_in_flihgt = 1\n", "max_in_flihgt"),
        ("[limits]\nmax_in_flight = 0\n", "max_in_flight"),
        ("[limits]\nmax_in_flight = true\n", "max_in_flight"),
        ("[link]\nbuckett = 'x'\n", "link.buckett"),
        ("[link]\nreplicas = 'many'\n", "link.replicas"),
        ("[whatever]\n", "whatever"),
        ("not toml", "line"),
    ],
)
def test_an_error_in_provider_toml_is_named_with_the_file(tmp_path: Path, more: str, named: str) -> None:
    path = toml(tmp_path, more)
    with pytest.raises(errors.ConfigError, match=named) as error:
        load_provider_toml(path)
    assert error.value.where.startswith(path)


@pytest.mark.parametrize("config", ["{", "[1]", '"x"', '{"max_in_flight": "many"}', '{"replay_window_seconds": -1}'])
def test_a_config_json_of_another_form_is_an_error(config: str) -> None:
    with pytest.raises(errors.ConfigError) as error:
        load_config(host_data(config), {})
    assert error.value.where == "config_json"


def test_a_missing_provider_toml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="No such file"):
        load_provider_toml(str(tmp_path / "absent.toml"))
