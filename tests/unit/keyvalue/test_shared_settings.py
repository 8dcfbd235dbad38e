"""The settings of a store that several links share: each given one counts, and contradictions are told to both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.link_config import BucketConfig, CacheConfig, parse_link
from provider.keyvalue.shared_settings import contradictions, joined_settings
from provider.nats.settings import ConnectionSettings

TEXTS = {
    "REPLICAS": ["1", "3"],
    "STORAGE": ["file", "memory"],
    "TTL": ["0", "60"],
    "MAX_BYTES": ["-1", "1M"],
    "MAX_VALUE_SIZE": ["-1", "64K"],
    "EXPIRY_MARKERS": ["false", "true"],
    "MAX_KEYS": ["0", "10"],
    "FORGET_SECS": ["3600", "60"],
}


def link(values: dict[str, str]) -> tuple[BucketConfig, CacheConfig]:
    connection = ConnectionSettings(servers=("nats://127.0.0.1:4222",))
    config = parse_link(values, lattice="l", link_name="n", lattice_connection=connection, own=values)
    return config.bucket, config.cache


some_links = st.lists(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(texts) for name, texts in TEXTS.items()}),
    min_size=1,
    max_size=4,
)


@given(some_links)
def test_of_every_setting_the_first_link_that_gives_it_decides(links: list[dict[str, str]]) -> None:
    first: dict[str, str] = {}
    for values in links:
        first = values | first
    configs = [link(values) for values in links]
    assert (joined_settings([one[0] for one in configs]), joined_settings([one[1] for one in configs])) == link(first)


@given(some_links)
def test_a_contradiction_is_told_to_both_links(links: list[dict[str, str]]) -> None:
    configs = [link(values)[0] for values in links]
    of_bucket = TEXTS.keys() - {"MAX_KEYS", "FORGET_SECS"}
    for values, config in zip(links, configs, strict=True):
        expected = sorted(
            name
            for name in values.keys() & of_bucket
            if any(other.get(name, values[name]) != values[name] for other in links)
        )
        assert [remark.setting for remark in contradictions(config, configs)] == expected


def test_a_link_that_waits_for_its_bucket_keeps_no_other_link_from_creating_it() -> None:
    waits, creates = link({"CREATE": "never"})[0], link({"TTL": "60"})[0]
    for configs in ([waits, creates], [creates, waits]):
        joined = joined_settings(configs)
        assert (joined.is_created, joined.ttl_seconds) == (True, 60)
        assert contradictions(waits, configs) == contradictions(creates, configs) == []
    assert not joined_settings([waits, waits]).is_created


def test_a_setting_that_only_has_its_default_contradicts_nothing() -> None:
    plain, with_ttl = link({})[0], link({"TTL": "60"})[0]
    assert contradictions(plain, [plain, with_ttl]) == contradictions(with_ttl, [plain, with_ttl]) == []
    assert joined_settings([plain, with_ttl]).ttl_seconds == joined_settings([with_ttl, plain]).ttl_seconds == 60
