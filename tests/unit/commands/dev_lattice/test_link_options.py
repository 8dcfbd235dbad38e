import pytest
import typer

from provider.commands.dev_lattice.link_options import parse_link_values
from provider.keyvalue.link_values import LINK_VALUES, NAMES

COMPANIONS = {"USER": "PASSWORD", "TLS_CERT_FILE": "TLS_KEY_FILE", "TLS_KEY_FILE": "TLS_CERT_FILE"}


def test_every_name_of_the_table_is_accepted() -> None:
    for name, canonical in NAMES.items():
        value = LINK_VALUES[canonical]
        if not value.is_secret and canonical not in COMPANIONS:  # the examples of secrets are only beginnings
            backend = {} if value.backend is None else {"BACKEND": value.backend.value}
            assert parse_link_values([f"{name}={value.example}"], backend) == backend | {name: value.example}


def test_values_that_only_work_together_are_refused_alone() -> None:
    for name, companion in COMPANIONS.items():
        with pytest.raises(typer.BadParameter, match=f"{name}|{companion}"):
            parse_link_values([f"{name}=/a.pem"], {})


def test_a_value_of_the_other_kind_of_store_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="MAX_KEYS has no effect on a bucket"):
        parse_link_values(["MAX_KEYS=5"], {})


def test_without_a_near_name_every_name_is_listed() -> None:
    with pytest.raises(typer.BadParameter) as error:
        parse_link_values(["zzz=x"], {})
    for name in LINK_VALUES:
        assert f" {name}" in str(error.value)


def test_names_stay_as_they_were_typed() -> None:
    given = ["bucket=users", "Nats-Url=nats://127.0.0.1:4222", "KEY_PREFIX=a=b", "TTL="]
    expected = {"bucket": "users", "Nats-Url": "nats://127.0.0.1:4222", "KEY_PREFIX": "a=b", "TTL": ""}
    assert parse_link_values(given, {}) == expected
    assert parse_link_values([], {"BACKEND": "cache"}) == {"BACKEND": "cache"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["BUCKET"], "'BUCKET' is not NAME=VALUE"),
        (["=x"], "'' is not NAME=VALUE"),
        (["bukket=x"], "'bukket': there is no such setting; did you mean BUCKET?"),
        (["zzz=x"], "'zzz': there is no such setting; there are BACKEND, BUCKET"),
        (["BUCKET=a", "bucket=b"], "BUCKET is given twice"),
        (["URL=a", "CLUSTER_URI=b"], "URL is given twice"),
        (["backend=bucket"], "BACKEND is given twice"),
        (["BUCKET=\udcff"], "not UTF-8"),
        (["TTL=soon"], "TTL: expected a duration"),
        (["URL=redis://x"], "URL: has no effect, as it names a Redis server"),
    ],
)
def test_a_wrong_option_is_refused(given: list[str], text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text.replace("?", r"\?")):
        parse_link_values(given, {"BACKEND": "cache"})
