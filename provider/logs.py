"""Log lines on standard error: the name of an event and its fields, as text or as JSON."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping

import msgspec

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

_MAX_COUNTED_EVENTS = 500
"""More than this provider has. Libraries may log any number of texts, which count as events."""


def configure(level: str, *, is_json: bool) -> None:
    """Send this process's log lines to standard error.

    Args:
        level: Name of a level in the words of any host. An unknown name means `info`.
        is_json: Write one JSON object per line instead of text.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if is_json else _TextFormatter())
    handler.addFilter(_RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("provider").setLevel(_LEVELS.get(level.strip().lower(), logging.INFO))
    logging.getLogger("nats").setLevel(logging.CRITICAL)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Drop a line that cannot be written: a closed standard error must not stop the provider."""


class _RateLimit(logging.Filter):
    """A limit on the warnings and errors of one event per second.

    Without it, any client that may publish to the provider could fill a disk. The next line of the event has the
    number of dropped lines as `left_out`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[object, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if len(self._counts) > _MAX_COUNTED_EVENTS:
            self._counts.clear()
        second, count = self._counts.get(record.msg, (0, 0))
        left_out = max(count - _LINES_PER_SECOND, 0)
        if second != int(record.created):
            second, count = int(record.created), 0
            if left_out:
                record.left_out = left_out
        self._counts[record.msg] = second, count + 1
        return count < _LINES_PER_SECOND


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        return msgspec.json.encode(line, enc_hook=str).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        return f"{_time(record)} {record.levelname:<7} {record.getMessage()}{fields}"


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if record.exc_info and record.exc_info[1] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        fields["trace"] = trace.replace("\n", " | ")
    return fields


def _plain(value: object) -> str:
    text = str(value)
    needs_quotes = not text or not text.isprintable() or any(character in text for character in " =\"'")
    return msgspec.json.encode(text).decode() if needs_quotes else text


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
