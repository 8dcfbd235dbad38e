"""Log lines: an event and its fields."""

from __future__ import annotations

import json
import logging

import pytest

from provider import logs


@pytest.fixture(autouse=True)
def restored_loggers() -> object:
    root, ours = logging.getLogger(), logging.getLogger("provider")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def test_json_lines_have_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", is_json=True)
    logging.getLogger("provider.x").debug("link_opened", extra={"link_name": "é", "count": 2})
    line = json.loads(capsys.readouterr().err)
    assert {key: line[key] for key in ("level", "event", "link_name", "count")} == {
        "level": "debug",
        "event": "link_opened",
        "link_name": "é",
        "count": 2,
    }
    assert line["time"].endswith("Z")


def test_text_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", is_json=False)
    log = logging.getLogger("provider.x")
    log.debug("not shown")
    log.warning("link_failed", extra={"reason": 'two\nlines and "quotes"'})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r'WARNING link_failed reason="two\nlines and \"quotes\""')


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Stop the clock of the log, which is `time.time_ns` from Python 3.13 on."""
    monkeypatch.setattr("time.time", lambda: float(seconds))
    monkeypatch.setattr("time.time_ns", lambda: seconds * 1_000_000_000)


def test_too_many_lines_of_one_event_are_cut_and_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("debug", is_json=True)
    log = logging.getLogger("provider.x")
    set_clock(monkeypatch, 1000)
    for _ in range(100):
        log.warning("refused")
        log.debug("served")
    log.warning("other")
    set_clock(monkeypatch, 1001)
    log.warning("refused")
    log.warning("refused")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    events = [line["event"] for line in lines]
    assert (events.count("refused"), events.count("served"), events.count("other")) == (22, 100, 1)
    assert [line.get("left_out") for line in lines[-2:]] == [80, None]


@pytest.mark.parametrize("level", ["", "nonsense", "INFO", "info,async_nats=debug"])
def test_an_unknown_level_means_info(level: str) -> None:
    logs.configure(level, is_json=False)
    assert logging.getLogger("provider").level == logging.INFO
