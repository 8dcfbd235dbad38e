"""The name and the settings of the stream of pages."""

from __future__ import annotations

import msgspec
import pytest

from provider.keyvalue.bucket.pages.pages_settings import (
    bucket_of_pages,
    pages_config,
    reason_not_to_use,
    reason_not_to_write,
)
from provider.keyvalue.link_values import LINK_VALUES
from provider.nats.jetstream import StreamConfig

BUCKET = StreamConfig("KV_users", num_replicas=3, max_bytes=1000, max_age=10**9)


def made(level: int = 2) -> StreamConfig:
    return msgspec.convert(pages_config("users", BUCKET, level), StreamConfig)


def test_no_link_can_name_the_stream_of_the_pages_of_another() -> None:
    assert bucket_of_pages(made().name) == "users"
    assert bucket_of_pages("KV_users") == ""
    with pytest.raises(ValueError, match="letters"):
        LINK_VALUES["BUCKET"].parse(made().name.removeprefix("KV_"))


def test_the_pages_last_as_long_as_their_bucket_and_longer_than_its_values() -> None:
    assert (made().num_replicas, made().max_bytes, made().max_age) == (3, 1000, 0)
    assert made(0).allow_msg_ttl is False
    assert reason_not_to_use("users", made()) == ""
    assert reason_not_to_write(BUCKET, made()) == ""


def test_a_server_that_keeps_no_metadata_keeps_the_description() -> None:
    assert reason_not_to_use("users", msgspec.structs.replace(made(), metadata=None)) == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metadata": {"keyvalue-nats.pages-of": "others"}, "description": ""}, "not marked"),
        ({"metadata": None, "description": "mine"}, "not marked"),
        ({"subjects": ["$KV.users.>"]}, "not marked"),
        ({"max_age": 1}, "max_age"),
        ({"retention": "workqueue"}, "retention"),
    ],
)
def test_a_stream_that_is_not_ours_or_loses_pages_is_not_used(fields: dict[str, object], reason: str) -> None:
    assert reason in reason_not_to_use("users", msgspec.structs.replace(made(), **fields))


def test_a_stream_that_is_weaker_than_its_bucket_takes_no_pages() -> None:
    assert "fewer than the 3" in reason_not_to_write(BUCKET, msgspec.structs.replace(made(), num_replicas=1))
    assert "in memory" in reason_not_to_write(BUCKET, msgspec.structs.replace(made(), storage="memory"))
