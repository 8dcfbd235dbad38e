"""The planned values that get pages for their size, as is told before they are encoded."""

from __future__ import annotations

from typing import Any, cast

import pytest

from provider.keyvalue.bucket.pages.settling import PageSizes
from provider.keyvalue.bucket.pages.value_writer import PagingLimits, ValueWriter
from provider.keyvalue.kinds import Kind, Value

pytestmark = pytest.mark.unit


def writer(*, allows_new: bool = True) -> ValueWriter:
    nothing = cast("Any", None)
    return ValueWriter(nothing, nothing, lambda: PagingLimits(PageSizes(), -1, allows_new, 512 * 1024))


async def test_a_text_with_more_characters_than_a_message_has_bytes_gets_pages() -> None:
    for data in ("x" * (2**20 + 1), b"x" * (2**20 + 1)):
        assert writer().outgrows_message(Value(Kind.TEXT, data))
        assert not writer(allows_new=False).outgrows_message(Value(Kind.TEXT, data))
    assert not writer().outgrows_message(Value(Kind.TEXT, "x" * 2**20))
    assert not writer().outgrows_message(None)


@pytest.mark.parametrize(
    ("value", "has_pages"),
    [
        (Value(Kind.TEXT, "€" * 500_000), True),
        (Value(Kind.LIST, ["x"]), True),
        (Value(Kind.TEXT, ""), False),
        (Value(Kind.TEXT, "short"), False),
        (Value(Kind.COUNTER, 5), False),
        (None, False),
    ],
    ids=["long", "list", "empty", "short", "counter", "none"],
)
async def test_what_is_left_of_a_batch_whose_large_text_has_gone_gets_no_pages(
    value: Value | None, has_pages: bool
) -> None:
    assert writer().outgrows_message(value, did_not_fit=True) is has_pages
