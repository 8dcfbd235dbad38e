"""Limits for what a server sends besides messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.nats.guards import LineBudget, checked_info

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from(["max_payload", "connect_urls", "nonce", "version", "server_name", "headers", "client_id"])


@given(values | st.dictionaries(names, values))
def test_any_info_is_refused_or_has_usable_values(info: Any) -> None:
    try:
        checked = checked_info(info)
    except (TypeError, ValueError):
        return
    assert checked.get("max_payload", 1) > 0
    assert all(isinstance(url, str) for url in checked["connect_urls"])


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1", None, 2**70])
def test_an_odd_max_payload_is_refused(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        checked_info({"max_payload": limit})


def test_of_many_or_odd_addresses_only_some_are_kept() -> None:
    real = ["10.0.0.1:4222", "[fe80::1]:4222", "a-b.example:4222"]
    odd = ["user:word@host:1", "host", "[::1", "a b:1", "x/y:1", "h:123456", 5, None]
    assert checked_info({"connect_urls": [*odd, *real]})["connect_urls"] == real
    many = [f"10.0.{number // 250}.{number % 250}:1" for number in range(5000)]
    assert len(checked_info({"connect_urls": many})["connect_urls"]) < 100


def test_a_flood_is_over_the_limit_and_a_second_later_there_is_room_again() -> None:
    budget = LineBudget()
    assert all(budget.spend(5.5, is_light=False) for _ in range(10_000))
    assert not budget.spend(5.6, is_light=False)
    assert budget.spend(6.0, is_light=False)
    assert all(budget.spend(7.0, is_light=True) for _ in range(90_000))
    assert sum(budget.allows_info() for _ in range(1000)) < 100
