"""Link values: names, forms, and their dependence on each other. An error names a value and never shows it."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from contracts.secret import Secret
from provider import errors
from provider.keyvalue.given_values import Remark, canonical_values
from provider.keyvalue.keys import encode_key
from provider.keyvalue.link_config import LinkConfig, parse_link
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.watch.patterns import matches
from provider.nats.settings import ConnectionSettings

LATTICE = ConnectionSettings(
    servers=("nats://lattice:4222",), client_jwt=Secret("jwt"), client_seed=Secret("seed"), js_domain="hub"
)
SEED = nkeys.encode_seed(bytes(SigningKey(bytes(32))), nkeys.PREFIX_BYTE_USER).decode()


def parse(values: dict[str, Any]) -> LinkConfig:
    return parse_link(canonical_values(values).known, lattice="my.lattice", link_name="a b", lattice_connection=LATTICE)


def test_a_link_without_values_uses_the_lattices_connection_and_a_bucket_of_its_own_name() -> None:
    config = parse({})
    assert config.connection is LATTICE
    assert config.bucket.name == "my_lattice_a_b"
    assert config.consistency is Consistency.STRONG


@pytest.mark.parametrize("name", ["MAX_VALUE_SIZE", "max_value_size", "max-value-size", "Max_Value-Size"])
def test_a_name_may_be_in_any_letter_case_with_either_dash(name: str) -> None:
    assert parse({name: "2K"}).bucket.max_value_bytes == 2048


@pytest.mark.parametrize("name", ["URL", "NATS_URL", "nats-url", "CLUSTER_URI"])
def test_an_alias_is_as_good_as_the_name(name: str) -> None:
    connection = parse({name: "a:1, tls://b:2 ,nats://c"}).connection
    assert connection.servers == ("nats://a:1", "tls://b:2", "nats://c")


def test_equal_servers_have_one_spelling() -> None:
    assert parse({"URL": "nats://a:1/"}).connection == parse({"URL": "a:1"}).connection


def test_a_name_with_control_characters_is_shown_escaped() -> None:
    assert canonical_values({"TTL\n": "1"}).remarks[0].setting == "'TTL\\n'"


def test_the_lattices_credentials_go_to_no_other_server() -> None:
    connection = parse({"URL": "nats://elsewhere:4222"}).connection
    assert not connection.client_jwt
    assert not connection.client_seed
    assert connection.js_domain == ""
    assert parse({"JS_DOMAIN": "leaf"}).connection.client_jwt == Secret("jwt")
    own = parse({"USER": "u", "PASSWORD": "p"}).connection
    assert (own.servers, own.user, bool(own.client_jwt)) == (LATTICE.servers, "u", False)


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"BUCKET": "a b"}, "BUCKET"),
        ({"BUCKET": "secret.name"}, "BUCKET"),
        ({"REPLICAS": "0"}, "REPLICAS"),
        ({"REPLICAS": "three"}, "REPLICAS"),
        ({"STORAGE": "tape"}, "STORAGE"),
        ({"TTL": "-5"}, "TTL"),
        ({"TTL": "1x"}, "TTL"),
        ({"TTL": "9223372037s"}, "TTL"),
        ({"TTL": "999999999999d"}, "TTL"),
        ({"MAX_BYTES": "8388608T"}, "MAX_BYTES"),
        ({"MAX_VALUE_SIZE": "2G"}, "MAX_VALUE_SIZE"),
        ({"MAX_BYTES": "many"}, "MAX_BYTES"),
        ({"CONSISTENCY": "eventual"}, "CONSISTENCY"),
        ({"BACKEND": "paper"}, "BACKEND"),
        ({"CREATE": "perhaps"}, "CREATE"),
        ({"URL": "http://127.0.0.1:6379"}, "URL"),
        ({"URL": "nats://host:notaport"}, "URL"),
        ({"URL": ","}, "URL"),
        ({"JS_DOMAIN": "a.b"}, "JS_DOMAIN"),
        ({"NKEY_SEED": "SUsecretsecret"}, "NKEY_SEED"),
        ({"CLIENT_JWT": "eyJ"}, "CLIENT_SEED"),
        ({"USER": "u"}, "PASSWORD"),
        ({"PASSWORD": "p"}, "USER"),
        ({"TLS_CERT_FILE": "f"}, "TLS_KEY_FILE"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(values: dict[str, str], setting: str) -> None:
    with pytest.raises(errors.LinkError) as error:
        parse(values)
    assert error.value.setting == setting
    assert setting in str(error.value)
    for value in values.values():
        if len(value) > 8:
            assert value not in str(error.value)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("2H", 7200), ("30d", 2_592_000)])
def test_a_time_may_have_a_unit(text: str, seconds: int) -> None:
    assert parse({"TTL": text}).bucket.ttl_seconds == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", -1), ("-1", -1), ("512", 512), ("4k", 4096), ("1MiB", 2**20), ("2GB", 2**31)]
)
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert parse({"MAX_BYTES": text}).bucket.max_bytes == size


def test_the_longest_time_and_the_largest_size_are_what_the_server_can_count() -> None:
    config = parse({"TTL": "9223372036", "MAX_BYTES": "8388607T", "MAX_VALUE_SIZE": "2047M"})
    assert config.bucket.ttl_seconds * 10**9 < 2**63
    assert config.bucket.max_bytes < 2**63
    assert config.bucket.max_value_bytes < 2**31


@pytest.mark.parametrize("key_prefix", ["shop.", ".shop.", "a..b.", "order:1.", "a..", ".", "=_.", ""])
def test_a_watch_pattern_matches_keys_in_their_stored_form(key_prefix: str) -> None:
    (pattern,) = parse({"WATCH": "user:1.*.a", "KEY_PREFIX": key_prefix}).watch.patterns
    assert matches(pattern, encode_key("user:1.x.a", key_prefix))
    assert not matches(pattern, encode_key("user:1.x.b", key_prefix))


@pytest.mark.parametrize("key_prefix", ["p", "a..b", ".p", "=", "p:"])
def test_a_watch_is_refused_with_a_prefix_that_no_pattern_can_follow(key_prefix: str) -> None:
    with pytest.raises(errors.LinkError) as error:
        parse({"WATCH": "user.*", "KEY_PREFIX": key_prefix})
    assert error.value.setting == "WATCH"
    assert "KEY_PREFIX" in error.value.reason


def test_an_unknown_name_is_remarked_on_with_the_nearest_setting() -> None:
    given = canonical_values({"REPLICAS": "3", "replica": "4", "TOKEN": "", "LINK_SECRET": "hunter2", "credfile": "x"})
    assert given.known == {"REPLICAS": "3"}
    assert given.remarks == [
        Remark("LINK_SECRET", "there is no such setting"),
        Remark("credfile", "there is no such setting; did you mean CREDS_FILE?"),
        Remark("replica", "there is no such setting; did you mean REPLICAS?"),
    ]


def test_a_flood_of_unknown_names_makes_a_short_list() -> None:
    remarks = canonical_values({"x" * 900 + str(number): "1" for number in range(1000)}).remarks
    assert len(remarks) == 11
    assert sum(len(str(remark)) for remark in remarks) < 2000
    assert str(remarks[-1]) == "and: 990 more unknown settings"


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (True, "true"), (False, "false"), ("3", "3"), (2.5, "2.5"), (-1, "-1")]
)
def test_a_number_or_a_boolean_counts_as_the_text_that_a_person_writes(value: object, text: str) -> None:
    assert canonical_values({"TTL": value}).known == {"TTL": text}


@pytest.mark.parametrize("value", [["3"], {"a": 1}, b"3"])
def test_what_no_text_stands_for_is_wrong(value: object) -> None:
    given = canonical_values({"TTL": value, "BUCKET": None})
    assert given.known == {}
    assert list(given.wrong) == ["TTL"]


def test_a_setting_that_is_given_under_two_names_is_remarked_on() -> None:
    given = canonical_values({"URL": "nats://a:1", "nats_url": "nats://b:1"})
    assert given.known == {"URL": "nats://b:1"}
    assert [remark.setting for remark in given.remarks] == ["URL"]
    assert canonical_values({"URL": "nats://a:1", "nats_url": "nats://a:1"}).remarks == []


def test_values_of_the_test_harness_are_read_from_its_json() -> None:
    encoded = base64.b64encode(json.dumps({"BUCKET": "from_json", "REPLICAS": 3}).encode()).decode().rstrip("=")
    given = canonical_values({"config_b64": encoded, "BUCKET": "given"})
    assert given.known == {"BUCKET": "given", "REPLICAS": "3"}
    assert given.remarks == []
    assert canonical_values({"config_b64": "!"}).known == {}


@given(st.dictionaries(st.sampled_from(["BUCKET", "REPLICAS", "URL", "TTL", "TLS_CA", "x"]), st.text(max_size=10)))
def test_any_text_is_a_setting_or_a_link_error(values: dict[str, str]) -> None:
    with contextlib.suppress(errors.LinkError):
        parse(values)


def test_secrets_do_not_print() -> None:
    connection = parse({"NKEY_SEED": SEED}).connection
    assert SEED not in repr(connection)
    assert "jwt" not in repr(LATTICE).replace("client_jwt", "")
    assert connection.credentials_setting == "NKEY_SEED"


REFERENCE_NATS = {
    "cluster_uri": "nats://elsewhere:4222",
    "js_domain": "hub",
    "bucket": "users",
    "enable_bucket_auto_create": "true",
    "client_jwt": "e.y.J",
    "client_seed": SEED,
    "tls_ca": "-----BEGIN CERTIFICATE-----",
    "tls_ca_file": "/ca.pem",
}


def test_the_settings_of_the_reference_provider_for_nats_are_taken_as_they_are() -> None:
    given = canonical_values(REFERENCE_NATS)
    assert given.remarks == []
    config = parse(given.known)
    assert config.bucket.name == "users"
    assert config.bucket.is_created
    assert config.connection.servers == ("nats://elsewhere:4222",)
    assert config.connection.js_domain == "hub"
    assert not parse(canonical_values({"enable_bucket_auto_create": "false"}).known).bucket.is_created


@pytest.mark.parametrize("url", ["redis://:s3cret@cache:6379/0", "REDISS://cache", "redis:cache"])
def test_the_url_of_a_redis_server_has_no_effect_and_is_remarked_on_without_its_password(url: str) -> None:
    given = canonical_values({"url": url})
    assert given.known == {}
    (remark,) = given.remarks
    assert remark.setting == "URL"
    assert "s3cret" not in str(remark)


def test_a_pattern_may_be_for_new_values_or_for_ends_alone() -> None:
    watch = parse({"WATCH": "SET@a,DEL@b,c.*,SET@c.*"}).watch
    assert watch.puts == ("a", "c.*")
    assert watch.ends == ("b", "c.*")
    assert watch.patterns == ("a", "c.*", "b")


def test_a_key_of_replication_is_long_enough_not_to_be_guessed() -> None:
    with pytest.raises(errors.LinkError, match="at least 16 characters"):
        parse({"REPLICATION_KEY": "short"})
