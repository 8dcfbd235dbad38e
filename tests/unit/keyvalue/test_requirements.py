"""The settings of streams that cannot serve as buckets."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.stream import stream_config
from provider.keyvalue.link_config import BucketConfig
from provider.nats.jetstream import StreamConfig

USUAL = StreamConfig("KV_b", ["$KV.b.>"], max_msgs_per_subject=1, discard="new", allow_direct=True)


def test_the_buckets_made_here_meet_every_requirement() -> None:
    config = stream_config(BucketConfig("b", max_bytes=1000), 2)
    known = {name: value for name, value in config.items() if name in StreamConfig.__struct_fields__}
    assert unmet_requirement(StreamConfig(**known)) == ""


@pytest.mark.parametrize(
    "config",
    [
        {"max_msgs_per_subject": 64},
        {"max_msgs_per_subject": -1},
        {"storage": "memory"},
        {"allow_direct": False},
        {"discard": "old"},
        {"max_msgs": 100},
        {"max_bytes": 1000},
        {"max_age": 10**9},
        {"sealed": True, "deny_purge": True},
        {"deny_purge": True},
        {"allow_rollup_hdrs": False},
    ],
)
def test_a_bucket_of_another_client_may_differ_in_what_loses_nothing(config: dict[str, Any]) -> None:
    assert unmet_requirement(replace(USUAL, **config)) == ""


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"retention": "interest"}, "retention interest"),
        ({"retention": "workqueue"}, "retention workqueue"),
        ({"no_ack": True}, "no_ack"),
        ({"discard_new_per_subject": True}, "discard_new_per_subject"),
        ({"subject_transform": {"src": ">", "dest": "x.>"}}, "subject_transform"),
        ({"allow_msg_counter": True}, "allow_msg_counter"),
        ({"discard": "old", "max_msgs": 1}, "discard old with max_msgs"),
        ({"discard": "old", "max_bytes": 1, "max_msgs": 1}, "discard old with max_bytes"),
    ],
)
def test_a_stream_that_loses_or_refuses_every_value_is_named_by_its_setting(config: dict[str, Any], named: str) -> None:
    assert unmet_requirement(replace(USUAL, **config)).startswith(f"stream 'KV_b' has {named}, so ")
