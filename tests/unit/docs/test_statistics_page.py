"""The page of the statistics is the one that the code generates, and describes each field."""

from __future__ import annotations

import pytest
from msgspec import Struct

from contracts import statistics
from tests.docs import statistics as generator

TYPES = [
    found
    for found in vars(statistics).values()
    if isinstance(found, type) and issubclass(found, Struct) and found != Struct
]


def test_the_page_is_up_to_date() -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
def test_each_field_is_described(type_: type[Struct]) -> None:
    assert list(generator.documented(type_)) == list(type_.__struct_fields__)
    assert f"## {generator._HEADINGS[type_]}\n" in generator.page()
