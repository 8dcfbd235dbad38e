"""provider.toml and config_json: precedence, limits, and errors that name the key and its file."""

from __future__ import annotations

import json
import re
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
    config = load_config(host_data({"max_in_flight": 8, "Max-In-Flight-Bytes": "1000000", "replay_ids": None}), {})
    assert (config.limits.max_in_flight, config.limits.max_in_flight_bytes) == (8, 1_000_000)
    assert config.remarks == []


@pytest.mark.parametrize(
    ("given", "remark"),
    [
        ({"no_such_thing": 1}, "no_such_thing: there is no such setting"),
        ({"max_inflight": 1}, "max_inflight: there is no such setting; did you mean max_in_flight?"),
        ({"link_url": "deny"}, "link_url: there is no such setting; did you mean link_urls?"),
        ({"bukcet": "b"}, "bukcet: there is no such setting; did you mean BUCKET?"),
        ({"ttl": "1 fortnight"}, "TTL: expected a duration, as 90, 90s or 1h30m (units ms s m h d w y)"),
        ({"REPLICAS": ["3"]}, "REPLICAS: expected a text, not a list"),
    ],
)
def test_a_doubtful_setting_in_config_json_is_remarked_on(given: dict[str, object], remark: str) -> None:
    assert [str(found) for found in load_config(host_data(given), {}).remarks] == [remark]


def test_a_link_that_needs_a_wrong_default_is_refused_and_one_with_a_value_of_its_own_is_not() -> None:
    config = load_config(host_data({"TTL": "banana"}), {})
    with pytest.raises(errors.LinkError, match="config_json") as error:
        link_config(config, host_data(), definition())
    assert error.value.setting == "TTL"
    assert link_config(config, host_data(), definition(TTL="60"))[0].bucket.ttl_seconds == 60


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"BACKEND": "cache", "TTL": "60"}, "TTL"),
        ({"BACKEND": "cache", "REPLICAS": "3"}, "REPLICAS"),
        ({"BACKEND": "cache", "CONSISTENCY": "fast"}, "CONSISTENCY"),
        ({"MAX_KEYS": "60"}, "MAX_KEYS"),
        ({"FORGET_SECS": "60"}, "FORGET_SECS"),
    ],
)
def test_a_setting_of_the_other_backend_is_remarked_on(values: dict[str, str], setting: str) -> None:
    remarks = link_config(load_config(host_data(), {}), host_data(), definition(**values))[1]
    assert [remark.setting for remark in remarks] == [setting]
    assert "no effect" in remarks[0].reason


def test_a_default_for_the_other_backend_is_not_remarked_on() -> None:
    config = load_config(host_data({"TTL": 60, "MAX_KEYS": 5}), {})
    assert link_config(config, host_data(), definition(BACKEND="cache"))[1] == []


def test_the_environment_names_another_provider_toml(tmp_path: Path) -> None:
    config = load_config(host_data(), {"KEYVALUE_NATS_PROVIDER_TOML": toml(tmp_path)})
    assert config.identity.vendor == "v"


def test_the_packaged_provider_toml_is_valid() -> None:
    assert load_provider_toml().identity.contract_id == "wasmcloud:keyvalue"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("[limits]\nmax_in_flihgt = 1\n", r"limits\.max_in_flihgt: .* did you mean max_in_flight\?"),
        ("[limit]\nmax_in_flight = 1\n", r"limit: .* did you mean limits\?"),
        ("[limits]\nmax_in_flight = 0\n", "max_in_flight"),
        ("[limits]\nmax_in_flight = true\n", "max_in_flight"),
        ("[limits]\nsignature_processes = -1\n", "signature_processes is -1, too small"),
        ("[limits]\nsignature_processes = 65\n", "signature_processes is 65, the maximum is 64"),
        ('[limits]\nsignature_processes = "all"\n', "signature_processes"),
        ("[link]\nbuckett = 'x'\n", r"link\.buckett: .* did you mean BUCKET\?"),
        ("[link]\nreplicas = 'many'\n", "link.replicas"),
        ("[link]\nttl = [60]\n", "link.ttl: expected a text, not a list"),
        ("[link]\nttl = 1.5\n", "link.ttl: expected whole seconds"),
        ("[link]\nttl = 2026-11-29\n", "link.ttl: expected a text"),
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


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"metrics_exporter": "prometheus"}, "metrics_exporter: expected otlp or none"),
        ({"otlp_endpoint": "collector:4318"}, "otlp_endpoint: expected a URL like http://127.0.0.1:4318"),
    ],
)
def test_an_export_that_is_not_known_is_an_error(given: dict[str, str], reason: str) -> None:
    with pytest.raises(errors.ConfigError, match=re.escape(reason)):
        load_config(host_data(given), {})
