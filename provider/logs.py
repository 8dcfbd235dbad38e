"""Log lines on standard error: the name of an event and its fields, as text or as JSON."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import TextIO

from provider.plain_text import cut, json_line, printable

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": logging.CRITICAL + 10,
}
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_LINES_PER_SECOND = 20
"""Enough to see what happens, and few enough that a day of one event stays below 1 GB."""

_DEBUG_LINES_PER_SECOND = 1000
"""At this level a person follows single calls. It is still a bound on what clients can make of a disk."""

_MAX_COUNTED_EVENTS = 500
"""More than this provider has. Libraries may log any number of texts; all beyond this number count as one event."""

_OTHER_EVENTS = "other events"

_MAX_FIELD_CHARACTERS = 500
"""The longest field of our own, a reason that lists settings, is shorter. Clients can send fields of a whole message."""

_MAX_TRACE_CHARACTERS = 8000
"""About sixty frames. The longest trace so far had twenty."""

_LEFT_OUT = "lines_left_out"


def configure(level: str, *, is_json: bool) -> None:
    """Send this process's log lines to standard error.

    Args:
        level: Name of a level in the words of any host. An unknown name means `info`.
        is_json: Write one JSON object per line instead of text.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("provider").setLevel(_LEVELS.get(level.strip().lower(), logging.INFO))
    logging.getLogger("nats").setLevel(logging.CRITICAL)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard error, with a limit on the lines of one event per second.

    Without the limit, any client that may publish to the provider could fill a disk. One line after each such second tells
    the number of lines that were left out.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._second = 0
        self._counts: dict[str, tuple[int, int]] = {}
        """The level and the number of lines of each event in this second."""
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it. The caller, `logging`, holds the handler's lock."""
        if int(record.created) != self._second:
            self._begin_second(int(record.created))
        event = str(record.msg)
        if event not in self._counts and len(self._counts) >= _MAX_COUNTED_EVENTS:
            event = _OTHER_EVENTS
        limit = _LINES_PER_SECOND if record.levelno > logging.DEBUG else _DEBUG_LINES_PER_SECOND
        count = self._counts.get(event, (0, 0))[1] + 1
        self._counts[event] = record.levelno, count
        if count <= limit:
            super().emit(record)
        elif self._timer is None:
            self._timer = threading.Timer(1.0, self._tell, (0,))
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Tell of the lines left out in the last second; called at the end of the process."""
        self._tell(0)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Drop a line that cannot be written: a closed standard error must not stop the provider."""

    def _tell(self, second: int) -> None:
        """Tell of the lines left out although no other line follows."""
        self.acquire()
        try:
            self._begin_second(second)
        finally:
            self.release()

    def _begin_second(self, second: int) -> None:
        counts, self._counts, self._second = self._counts, {}, second
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for event, (level, count) in counts.items():
            left_out = count - (_LINES_PER_SECOND if level > logging.DEBUG else _DEBUG_LINES_PER_SECOND)
            if left_out > 0:
                fields = {"levelno": level, "levelname": logging.getLevelName(level), "msg": _LEFT_OUT}
                super().emit(logging.makeLogRecord({**fields, "of": event, "count": left_out}))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": _event(record), **_fields(record)}
        return json_line(line)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        return f"{_time(record)} {record.levelname:<7} {printable(_event(record))}{fields}"


def _event(record: logging.LogRecord) -> str:
    return cut(record.getMessage(), _MAX_FIELD_CHARACTERS)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the fields of an event. A text is cut, and so is the text of what is neither a number nor a text."""
    fields = {name: _bounded(value) for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if record.exc_info and record.exc_info[1] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        fields["trace"] = cut(trace.replace("\n", " | "), _MAX_TRACE_CHARACTERS)
    return fields


def _bounded(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(str(value), _MAX_FIELD_CHARACTERS).encode(errors="backslashreplace").decode()


def _plain(value: object) -> str:
    text = str(value)
    needs_quotes = not text or not text.isprintable() or any(character in text for character in " =\"'")
    return json_line(text) if needs_quotes else text


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
