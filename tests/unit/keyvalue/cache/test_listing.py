"""Pages of a cache's keys for components: the same cursors on every replica."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.byte_values import ListPage
from provider.keyvalue.cache import listing
from provider.keyvalue.cache.listing import list_page
from provider.keyvalue.cache.replica import Replica
from tests.unit.keyvalue.cache.exchange import change, exchange, replica_of

NOW = 1000


def pages(replicas: list[Replica], max_bytes: int, key_prefix: str = "") -> list[list[str]]:
    """Read all pages, each from the replica whose turn it is."""
    found: list[list[str]] = []
    cursor = 0
    while True:
        page = list_page(replicas[len(found) % len(replicas)], ListPage(cursor, max_bytes), key_prefix, NOW)
        found.append(page.keys)
        if page.cursor is None:
            return found
        assert page.cursor > cursor or not cursor
        cursor = page.cursor


@given(st.sets(st.text(min_size=1, max_size=9), max_size=40), st.integers(1, 60))
def test_every_key_is_on_one_page_whichever_replica_answers(names: set[str], max_bytes: int) -> None:
    one, other = replica_of(1), replica_of(2)
    for number, name in enumerate(sorted(names)):
        change((one, other)[number % 2], kv.Set(f"p.{name}", "x", 0), NOW)
    change(one, kv.Set("elsewhere", "x", 0), NOW)
    exchange(one, other)
    found = pages([one, other], max_bytes, "p.")
    assert sorted(key for page in found for key in page) == sorted(names)
    for page in found:
        assert len(page) == 1 or sum(len(f"p.{key}".encode()) for key in page) <= max_bytes


def test_a_key_that_stays_is_listed_once_while_others_come_and_go() -> None:
    replica = replica_of(1)
    staying = [f"stays-{number}" for number in range(50)]
    for name in staying:
        change(replica, kv.Set(name, "x", 0), NOW)
    found: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        page = list_page(replica, ListPage(cursor, 70), "", NOW)
        found += page.keys
        cursor = page.cursor
        change(replica, kv.Set(f"new-{len(found)}", "x", 0), NOW)
        change(replica, kv.Del(f"new-{len(found) - 7}"), NOW)
    assert sorted(key for key in found if key.startswith("stays")) == sorted(staying)


def test_keys_with_one_checksum_are_on_one_page_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE_KEYS", 3)
    monkeypatch.setattr(listing, "crc32", len)
    replica = replica_of(1)
    for name in ("a", "bb", "cc", "dd", "ee", "fff", "gggg"):
        change(replica, kv.Set(name, "x", 0), NOW)
    assert pages([replica], 1000) == [["a", "bb", "cc", "dd", "ee"], ["fff", "gggg"]]
    assert pages([replica], 1) == [["a"], ["bb", "cc", "dd", "ee"], ["fff"], ["gggg"]]


def test_a_key_whose_value_has_expired_is_not_listed() -> None:
    replica = replica_of(1)
    change(replica, kv.Set("expired", "x", 1), NOW - 1500)
    change(replica, kv.Set("there", "x", 0), NOW)
    assert pages([replica], 1000) == [["there"]]


def test_a_cursor_behind_all_keys_ends_the_list() -> None:
    replica = replica_of(1)
    change(replica, kv.Set("k", "x", 0), NOW)
    assert list_page(replica, ListPage(2**64 - 1, 100), "", NOW) == ([], None)
