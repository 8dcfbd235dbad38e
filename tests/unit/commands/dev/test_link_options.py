import pytest
import typer

from provider.commands.dev.link_options import NAMES, parse_link_values
from provider.keyvalue import link_config as link


def test_the_names_are_those_that_the_parser_knows() -> None:
    assert set(NAMES) == set(link._SETTINGS)


def test_names_stay_as_they_were_typed() -> None:
    given = ["bucket=users", "Nats-Url=nats://127.0.0.1:4222", "KEY_PREFIX=a=b", "TTL="]
    expected = {"bucket": "users", "Nats-Url": "nats://127.0.0.1:4222", "KEY_PREFIX": "a=b", "TTL": ""}
    assert parse_link_values(given, None) == expected
    assert parse_link_values([], "cache") == {"BACKEND": "cache"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["BUCKET"], "'BUCKET' is not NAME=VALUE"),
        (["=x"], "'' is not NAME=VALUE"),
        (["bukket=x"], "no setting is named 'bukket'; did you mean BUCKET?"),
        (["zzz=x"], "no setting is named 'zzz'; there are BACKEND, BUCKET"),
        (["BUCKET=a", "bucket=b"], "BUCKET is given twice"),
        (["URL=a", "CLUSTER_URI=b"], "URL is given twice"),
        (["backend=bucket"], "BACKEND is given twice"),
        (["BUCKET=\udcff"], "not UTF-8"),
    ],
)
def test_what_the_link_would_not_take_is_refused(given: list[str], text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text.replace("?", r"\?")):
        parse_link_values(given, "cache")
