"""The page of the metrics is the one that the code generates."""

from __future__ import annotations

from tests.docs import metrics as generator


def test_the_page_is_up_to_date() -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"
