"""Settings are checked, not guessed: doubts are in the log and in health, and a setting that any link gives counts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.blackbox.host_families import RUST, Health
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket
from tests.process.conftest import Hosts

SECRET = "hunter2hunter2"


async def until_message(host: LatticeHost, *texts: str) -> str:
    """Wait until the message of good health has these texts; return it."""

    async def found() -> str | None:
        health = await host.health()
        return health.message if health.is_healthy and all(text in health.message for text in texts) else None

    message: str = await eventually(found, f"a message with {texts}")
    return message


async def config_of(host: LatticeHost, bucket: str) -> dict[str, Any]:
    config: dict[str, Any] = (await StoredBucket(host.client, bucket).info())["config"]
    return config


async def test_a_misspelt_setting_is_named_with_its_link_until_the_link_is_put_without_it(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"TLL": "60", "PASWORD": SECRET})])
    await host.set(actor, "k", "v")
    message = await until_message(host, actor, "TLL", "did you mean TTL?", "did you mean PASSWORD?")
    assert SECRET not in message
    assert "link_warning" in host.provider.stderr
    assert "did you mean TTL?" in host.provider.stderr
    assert SECRET not in host.provider.stderr
    await host.put_link(host.link(actor, {"BUCKET": f"right_{host.who.lattice}"}))
    assert await host.health() == Health(is_healthy=True, message="")


async def test_a_misspelt_or_wrong_setting_of_config_json_is_named(hosts: Hosts) -> None:
    host = await hosts(RUST)
    await host.start_provider([], {"max_inflight": 5, "replicsa": 3, "TTL": SECRET, "max_in_flight": "9"})
    message = await until_message(host, "config_json: max_inflight", "max_in_flight?", "REPLICAS?", "TTL: expected")
    assert SECRET not in message + host.provider.stderr
    assert host.provider.stderr.count("config_warning") == 3


async def test_a_link_that_needs_a_wrong_default_is_told_where_it_stands(hosts: Hosts) -> None:
    host = await hosts(RUST)
    needing, other = host.actor(), host.actor()
    await host.start_provider([host.link(needing), host.link(other, {"TTL": "60"})], {"ttl": "banana"})
    error = await host.error(needing, "Get", "k")
    assert "TTL" in error
    assert "config_json" in error
    await host.set(other, "k", "v")


async def test_numbers_booleans_and_null_are_taken_for_texts(host: LatticeHost) -> None:
    actor, later = host.actor(), host.actor()
    name = f"typed_{host.who.lattice}"
    values = {"BUCKET": name, "REPLICAS": 1, "TTL": 30, "EXPIRY_MARKERS": False, "MAX_BYTES": None, "CREATE": True}
    await host.start_provider([host.link(actor, values)])
    await host.set(actor, "k", "v")
    assert (await config_of(host, name))["max_age"] == 30_000_000_000
    await host.put_link(host.link(later, {"BUCKET": f"{name}_2", "TTL": 45.0, "MAX_VALUE_SIZE": 1000}))
    await host.set(later, "k", "v")
    config = await config_of(host, f"{name}_2")
    assert (config["max_age"], config["max_msg_size"]) == (45_000_000_000, 1000)
    assert await host.health() == Health(is_healthy=True, message="")


@pytest.mark.parametrize("value", [["3"], {"count": 3}])
async def test_a_setting_that_no_text_stands_for_is_named_to_the_actor(host: LatticeHost, value: object) -> None:
    at_start, later = host.actor(), host.actor()
    await host.start_provider([host.link(at_start, {"REPLICAS": value})])
    await host.put_link(host.link(later, {"REPLICAS": value}))
    for actor in (at_start, later):
        assert "REPLICAS: expected a text" in await host.error(actor, "Get", "k")


async def test_a_setting_of_the_other_backend_is_named(hosts: Hosts) -> None:
    host = await hosts(RUST)
    await host.start_provider([host.link(host.actor(), {"BACKEND": "cache", "TTL": "60"})])
    await host.put_link(host.link(host.actor(), {"MAX_KEYS": "60"}))
    await until_message(host, "TTL: has no effect", "MAX_KEYS: has no effect")


async def test_what_one_of_two_links_gives_counts_for_their_bucket(hosts: Hosts) -> None:
    """In both orders, at start and put one after the other, before the bucket exists."""
    host = await hosts(RUST)
    orders = list(itertools.permutations([{"TTL": "60"}, {}, {"MAX_BYTES": "1M"}]))
    actors = {f"order{number}_{host.who.lattice}": [host.actor() for _ in range(3)] for number in range(len(orders))}
    links = [
        host.link(actor, {"BUCKET": bucket} | values)
        for (bucket, three), order in zip(actors.items(), orders, strict=True)
        for actor, values in zip(three, order, strict=True)
    ]
    await host.start_provider(links)
    for bucket, three in actors.items():
        for actor in three:
            await host.set(actor, "k", "v")
        config = await config_of(host, bucket)
        assert (config["max_age"], config["max_bytes"]) == (60_000_000_000, 2**20)
    assert await host.health() == Health(is_healthy=True, message="")


async def test_two_links_that_contradict_each_other_are_both_told_and_the_first_one_wins(host: LatticeHost) -> None:
    first, second = host.actor(), host.actor()
    name = f"argued_{host.who.lattice}"
    await host.start_provider(
        [host.link(first, {"BUCKET": name, "TTL": "60"}), host.link(second, {"BUCKET": name, "TTL": "30"})]
    )
    await host.set(first, "k", "v")
    await host.set(second, "k", "v")
    assert (await config_of(host, name))["max_age"] == 60_000_000_000
    await until_message(host, f"{first}: TTL: 60 is asked for", f"{second}: TTL: 30 is asked for")
    warnings = [line for line in host.provider.stderr.splitlines() if "link_warning" in line]
    assert any(first in line for line in warnings)
    assert any(second in line for line in warnings)
    await host.delete_link(host.link(second, {"BUCKET": name, "TTL": "30"}))
    assert await host.health() == Health(is_healthy=True, message="")


async def test_a_link_put_later_is_compared_with_the_open_bucket(host: LatticeHost) -> None:
    first, later = host.actor(), host.actor()
    name = f"open_{host.who.lattice}"
    await host.start_provider([host.link(first, {"BUCKET": name})])
    await host.set(first, "k", "v")
    await host.put_link(host.link(later, {"BUCKET": name, "TTL": "60"}))
    await host.set(later, "k", "v")
    assert "max_age" not in await config_of(host, name) or not (await config_of(host, name))["max_age"]
    message = await until_message(host, f"{later}: TTL: 60 is asked for, but the bucket has 0")
    assert first not in message
    assert "link_warning" in host.provider.stderr


async def test_a_replaced_link_is_not_held_to_its_old_settings(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    name = f"replaced_{host.who.lattice}"
    never = {"BUCKET": name, "CREATE": "never"}
    await host.start_provider([host.link(actor, never | {"TTL": "60"})])
    assert "does not exist" in await host.error(actor, "Get", "k")
    await host.put_link(host.link(actor, {"BUCKET": name, "TTL": "30"}))
    await host.set(actor, "k", "v")
    assert (await config_of(host, name))["max_age"] == 30_000_000_000


async def test_a_setting_that_the_server_refuses_is_named(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor, waiting = host.actor(), host.actor()
    await host.start_provider(
        [host.link(actor, {"REPLICAS": 6}), host.link(waiting, {"BUCKET": f"x{host.who.lattice}", "CREATE": "never"})]
    )
    assert "link value REPLICAS:" in await host.error(actor, "Get", "k")
    assert "CREATE is never" in await host.error(waiting, "Get", "k")


async def test_two_links_on_one_cache_add_up_too(hosts: Hosts) -> None:
    host = await hosts(RUST)
    limited, plain, other = host.actor(), host.actor(), host.actor()
    cache = {"BACKEND": "cache"}
    await host.start_provider([host.link(plain, cache), host.link(limited, cache | {"MAX_KEYS": "1"})])
    await host.set(limited, "k", "v")
    assert "MAX_KEYS" in await host.error(plain, "Set", {"key": "another", "value": "v", "expires": 0})
    await host.put_link(host.link(other, cache | {"MAX_KEYS": "5"}))
    await until_message(host, f"{limited}: MAX_KEYS: 1 is asked for", f"{other}: MAX_KEYS: 5 is asked for")
