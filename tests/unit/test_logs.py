"""Log lines: an event and its fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider import logs
from tests.blackbox.waiting import eventually_blocking


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stop the clock of the log, and its timer; return the function that sets the clock."""
    monkeypatch.setattr("threading.Timer.start", lambda timer: None)
    set_clock(monkeypatch, 1000)
    return lambda seconds: set_clock(monkeypatch, seconds)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_too_many_lines_of_one_event_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str], clock: Callable[[int], None], level: str
) -> None:
    logs.configure("debug", is_json=True)
    log = logging.getLogger("provider.x")
    for _ in range(100):
        getattr(log, level)("refused")
    log.warning("other")
    clock(1001)
    log.warning("other")
    lines = lines_of(capsys)
    assert [line["event"] for line in lines] == ["refused"] * 20 + ["other", "lines_left_out", "other"]
    assert (lines[-2]["of"], lines[-2]["count"], lines[-2]["level"]) == ("refused", 80, level)


def test_a_person_may_follow_many_single_calls_but_not_any_number(
    capsys: pytest.CaptureFixture[str], clock: Callable[[int], None]
) -> None:
    logs.configure("debug", is_json=True)
    for _ in range(3000):
        logging.getLogger("provider.x").debug("served")
    clock(1001)
    logging.getLogger("provider.x").debug("served")
    lines = lines_of(capsys)
    assert len(lines) == 1002
    assert lines[-2]["count"] == 2000


def test_the_end_of_the_process_tells_of_the_last_lines_left_out(
    capsys: pytest.CaptureFixture[str], clock: Callable[[int], None]
) -> None:
    logs.configure("info", is_json=True)
    for _ in range(25):
        logging.getLogger("provider.x").info("refused")
    logging.getLogger().handlers[0].close()
    assert lines_of(capsys)[-1]["count"] == 5


def test_lines_left_out_are_told_although_no_other_line_follows(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", is_json=True)
    for _ in range(100):
        logging.getLogger("provider.x").info("refused")
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "lines_left_out" in told

    eventually_blocking(is_told, "the line")


def test_any_number_of_different_texts_is_limited_too(
    capsys: pytest.CaptureFixture[str], clock: Callable[[int], None]
) -> None:
    logs.configure("info", is_json=False)
    for number in range(2000):
        logging.getLogger("library").warning(f"text {number}")  # noqa: G004  (as libraries do)
    assert len(capsys.readouterr().err.splitlines()) == 520


@pytest.mark.parametrize("is_json", [True, False])
def test_every_text_is_cut_and_says_how_long_it_was(capsys: pytest.CaptureFixture[str], is_json: bool) -> None:
    logs.configure("info", is_json=is_json)
    big = "x" * 900_000
    log = logging.getLogger("provider.x")
    log.info("link_opened", extra={"actor_id": big, "names": [big], "count": 3})
    log.warning(big)
    try:
        raise ValueError(big)
    except ValueError:
        log.exception("failed")
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 3
    assert len(err) < 12_000
    assert err.count("(900000 characters)") == 2


@given(text=st.text(), is_json=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_controls_the_terminal_or_adds_a_line(
    capsys: pytest.CaptureFixture[str], text: str, is_json: bool
) -> None:
    logs.configure("info", is_json=is_json)
    logging.getLogger("provider.x").warning("refused", extra={"reason": f"\x1b\x9b\u202e\x7f{text}"})
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    if is_json:
        assert json.loads(line)["reason"] == f"\x1b\x9b\u202e\x7f{text}"


def test_a_byte_that_is_not_utf_8_loses_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", is_json=True)
    logging.getLogger("provider.x").warning("refused", extra={"reason": "a\udc80b"})
    assert lines_of(capsys)[0]["reason"] == "a\\udc80b"


@pytest.mark.parametrize("level", ["", "nonsense", "INFO", "info,async_nats=debug"])
def test_an_unknown_level_means_info(level: str) -> None:
    logs.configure(level, is_json=False)
    assert logging.getLogger("provider").level == logging.INFO
