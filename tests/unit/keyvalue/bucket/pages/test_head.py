"""The stored form of a head, and pages that no provider could have written."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from contracts import keyvalue as kv
from provider.keyvalue.bucket.pages.head import decode_head, encode_head
from provider.keyvalue.bucket.pages.page_codec import Child, encode_node, hash_prefix
from provider.keyvalue.bucket.pages.paged_reads import MemberReader, collected
from provider.keyvalue.bucket.pages.paged_value import DamagedPageError, Head, PageId, key_hash, page_prefix
from provider.keyvalue.bucket.pages.settling import PageSizes, page_sizes
from provider.keyvalue.bucket.pages.tree_reads import members_found, reachable_pages
from provider.keyvalue.kinds import Kind
from tests.unit.keyvalue.bucket.pages.paged_store import KEY, PagedKey, answer, run

pytestmark = pytest.mark.unit

ROOT = PageId(page_prefix("key", b"abcd_-12.1f") + "0")
SOUND: dict[str, Any] = {"kind": "set", "root": ROOT, "height": 2, "count": 900, "bytes": 9000, "sequence": 7}


def test_a_page_id_is_made_of_the_hash_of_the_key_the_operation_and_a_number() -> None:
    assert f"{key_hash('key')}.abcd_-12-1f.0" == ROOT


def test_a_head_is_a_small_json_object() -> None:
    head = Head(kind=Kind.SET, root=ROOT, height=2, count=900, size=9000, sequence=7, added=("a", "b"), removed=("c",))
    assert json.loads(encode_head(head)) == SOUND | {"added": ["a", "b"], "removed": ["c"]}
    assert decode_head(encode_head(head)) == head


@pytest.mark.parametrize(
    "nonsense",
    [
        {"kind": "counter"},
        {"kind": "map"},
        {"root": "x"},
        {"root": ROOT + ".>"},
        {"root": ROOT.replace("-", "*")},
        {"root": ROOT + "\n"},
        {"height": 0},
        {"height": 10**9},
        {"count": -1},
        {"count": 0},
        {"count": 2**31 + 1},
        {"bytes": -1},
        {"bytes": 2**60},
        {"sequence": -1},
        {"added": ["b", "a"]},
        {"added": ["a", "a"]},
        {"added": ["a"], "removed": ["a"]},
        {"added": [1]},
        {"count": 1, "added": ["a"]},
        {"kind": "list", "removed": ["a"]},
        {"kind": "text", "added": ["a"]},
        {"kind": "text", "count": 9001},
        {"later": 1},
    ],
    ids=str,
)
def test_a_head_with_nonsense_in_it_is_none(nonsense: dict[str, Any]) -> None:
    assert decode_head(json.dumps(SOUND).encode()) is not None
    assert decode_head(json.dumps(SOUND | nonsense).encode()) is None


@given(st.binary() | st.text().map(str.encode) | st.just(b"{}") | st.just(b"[" * 5000))
def test_any_bytes_are_a_head_or_none(payload: bytes) -> None:
    assert decode_head(payload) is None


@given(st.data())
def test_any_page_in_the_place_of_another_is_damage_and_nothing_else(data: st.DataObject) -> None:
    key = PagedKey(PageSizes(page=100, inline=50, buffer=0), 20)
    key.change([kv.SetAdd(KEY, f"member {number}") for number in range(40)])
    pages = dict(key.pages)
    ids = sorted(pages)
    victim = data.draw(st.sampled_from(ids))
    node = st.tuples(
        st.lists(st.sampled_from(ids).map(lambda page_id: page_id[33:]) | st.text(max_size=3), max_size=3),
        st.lists(st.integers(-1, 20), max_size=3),
        st.lists(st.integers(-1, 20), max_size=3),
        st.lists(st.text(max_size=3), max_size=3),
    )
    pages[victim] = data.draw(st.binary(max_size=40) | st.sampled_from(list(pages.values())) | node.map(msgpack.encode))

    class AnyPage(dict[PageId, bytes]):
        def __missing__(self, page_id: PageId) -> bytes:
            return pages[victim]

    for operation in (
        collected(MemberReader(key.head), answer()),
        members_found(key.head, ["member 7", "x"]),
        reachable_pages(key.head),
    ):
        with contextlib.suppress(DamagedPageError):
            run(operation, AnyPage(pages))


def test_pages_fit_into_messages_of_any_server() -> None:
    assert page_sizes(1024 * 1024) == PageSizes()
    small = page_sizes(16 * 1024)
    assert max(small) == 12 * 1024
    assert max(page_sizes(1024)) == 512


def test_a_tree_whose_pages_have_two_places_is_not_followed() -> None:
    prefix, pages, height = hash_prefix(ROOT), dict[PageId, bytes](), 18
    children = [Child(PageId(f"{prefix}op.0"), 1), Child(PageId(f"{prefix}op.1"), 1)]
    for level in range(1, height):
        below = encode_node(children, prefix, is_set=False)
        children = [Child(PageId(f"{prefix}op.{2 * level + side}"), 2**level) for side in (0, 1)]
        pages |= {child.page_id: below for child in children}
    head = Head(kind=Kind.LIST, root=children[0].page_id, height=height, count=2 ** (height - 1), size=0)
    with pytest.raises(DamagedPageError, match="two places"):
        run(reachable_pages(head), pages)
