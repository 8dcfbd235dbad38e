"""The page of log events is the one that the code generates, and describes each event."""

from __future__ import annotations

from tests.docs import logs as generator
from tests.docs.log_events import events


def test_each_event_of_the_code_is_described_and_no_other() -> None:
    described, logged = set(generator.MEANINGS), set(generator.all_events())
    assert not logged - described, "describe them in tests/docs/logs.py, and run `make docs`"
    assert not described - logged, "remove them from tests/docs/logs.py, and run `make docs`"


def test_the_page_is_up_to_date() -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"


def test_samples_have_the_fields_of_their_events() -> None:
    found = events()
    for name, _, fields in generator._SAMPLES:
        assert list(fields) == [field for field in found[name].fields if field in fields]


def test_defects_alone_have_a_trace_and_are_errors() -> None:
    assert all(event.levels == {"error"} for event in events().values() if "trace" in event.fields)
