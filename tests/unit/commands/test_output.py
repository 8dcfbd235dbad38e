from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.keyvalue import GetResponse
from provider.commands.dev_lattice.provider_process import LogEvent, parse_log_line
from provider.commands.output import event_line, plain_result, short_result

NOON = datetime(2024, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (None, ["ok"]),
        (GetResponse("Ann", True), ["Ann"]),
        (GetResponse("", False), []),
        (True, ["true"]),
        (7, ["7"]),
        (["a", "b"], ["a", "b"]),
        ([], []),
    ],
)
def test_a_result_is_printed_as_lines_for_scripts(result: Any, lines: list[str]) -> None:
    assert plain_result(result) == lines
    assert "\n" not in short_result(result)


def test_a_served_invocation_shows_operation_key_size_and_time() -> None:
    fields = {"operation": "KeyValue.Get", "key": "user:1", "result_bytes": 19, "microseconds": 412}
    line = event_line(LogEvent("invocation_served", "debug", fields), NOON)
    assert line is not None
    assert line.plain.split() == ["12:00:00", "Get", "user:1", "19", "B", "412", "µs"]


def test_a_refused_invocation_shows_its_reason() -> None:
    line = event_line(LogEvent("invocation_denied", "warning", {"reason": "invocation id was used before"}), NOON)
    assert line is not None
    assert line.plain.endswith("invocation id was used before")


def test_control_characters_are_not_printed() -> None:
    fields = {"operation": "KeyValue.Get", "key": "a\x1b[2J\n" + "b" * 100}
    line = event_line(LogEvent("invocation_served", "debug", fields), NOON)
    assert line is not None
    assert "\x1b" not in line.plain
    assert "\n" not in line.plain


def test_an_event_of_no_interest_has_no_line() -> None:
    assert event_line(LogEvent("connected", "info", {}), NOON) is None


def test_a_long_name_does_not_run_into_the_next_column() -> None:
    fields = {"operation": "KeyValueAtomics.CompareAndDelete", "key": "red", "result_bytes": 1, "microseconds": 2}
    served = event_line(LogEvent("invocation_served", "debug", fields), NOON)
    assert served is not None
    assert served.plain.startswith("12:00:00  CompareAndDelete  red ")
    unknown = event_line(LogEvent("cluster_issuers_ignored", "warning", {"link_name": "default"}), NOON)
    assert unknown is not None
    assert unknown.plain == "12:00:00  cluster_issuers_ignored  WARN  link_name=default"


@pytest.mark.parametrize(("level", "word"), [("warning", "WARN"), ("error", "ERROR")])
def test_a_level_above_info_is_shown_as_a_word(level: str, word: str) -> None:
    line = event_line(LogEvent("nats_disconnected", level, {}), NOON)
    assert line is not None
    assert word in line.plain.split()


def test_a_reconnection_has_a_line() -> None:
    line = event_line(LogEvent("nats_reconnected", "info", {"connection": "lattice"}), NOON)
    assert line is not None
    assert line.plain.split()[1:] == ["nats_reconnected", "connection=lattice"]


def test_a_log_line_that_is_not_an_event_keeps_its_text() -> None:
    assert parse_log_line(b"Traceback\n") == LogEvent("", "info", {"text": "Traceback"})
    parsed = parse_log_line(b'{"time":"t","level":"info","event":"ready","links":1}\n')
    assert parsed == LogEvent("ready", "info", {"time": "t", "links": 1})
