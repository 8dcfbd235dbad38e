"""The page docs/logs.md: `python -m tests.docs.logs` writes it.

Names, levels and fields of the events come from the code, and the sample lines from the formatters. Only the meanings are
written here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provider.logs import JsonFormatter, TextFormatter
from tests.docs.log_events import LogEvent, events

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"

_ORDER = ("error", "warning", "info", "debug")

MEANINGS = {
    "bucket_created": "A link has created its bucket.",
    "bucket_differs": "An existing bucket has other settings than the link asks for. It is used as it is.",
    "bucket_has_history": "The bucket keeps old revisions. They take room, and no value of it ends by the server alone.",
    "bucket_has_mirror": "A mirror has answered in the bucket's place. Reads go to the leader from now on.",
    "bucket_healed": "The bucket works again. Ends `bucket_unavailable`.",
    "bucket_keeper_failed": "A defect while the bucket was opened or looked after. It is opened again.",
    "bucket_marks_expired": "The bucket tells watchers of expired values, and [may lose writes](guarantees.md#expiry).",
    "bucket_not_swept": "Expired values could not be replaced by markers. Reads hide them all the same.",
    "bucket_opened": "A bucket is in use.",
    "bucket_sweep_failed": "A defect in the sweep of expired values. It is repeated.",
    "bucket_swept": "Expired values were replaced by markers.",
    "bucket_unavailable": "The bucket cannot be opened or was lost. Its links wait; the provider tries again for ever.",
    "bucket_values_may_return": "Another client, or an earlier release, has written a value that the server removes by itself. [An older one may show](guarantees.md#expiry) after the server was killed.",
    "cache_catching_up": "A replica has not got everything from the others at its start. It serves and goes on pulling.",
    "cache_caught_up": "A replica has what the others had when it started.",
    "cache_cut_off": "The other replicas cannot be reached. The cache serves alone until they can be again.",
    "cache_fetched": "Pages of another replica have arrived.",
    "cache_keeper_failed": "A defect. The cache serves alone until the provider is started again.",
    "cache_message_refused": "A message on the cache's subjects was not believed; one line a minute for each reason.",
    "cache_message_too_large": "A message to other replicas is larger than the server's `max_payload`, which was lowered. They lack its changes.",
    "cache_opened": "A replica of a cache is in use.",
    "cache_replica_forgotten": "Another replica was silent for too long. It is not waited for any more.",
    "cache_replica_heard": "Another replica was heard for the first time.",
    "call_denied": "A component's call was refused for lack of trust, as without a link.",
    "call_overdue": "A store has not answered in time, by a defect or because the machine is too busy. The caller was told.",
    "call_refused": "A component's call was refused: not decodable, too large, too many at once.",
    "calls_cut_off": "The provider stopped before these calls were done. Their callers were told `outcome unknown`.",
    "cluster_issuers_ignored": "Some of the host's `cluster_issuers` are no public keys, and no invocation of them is accepted.",
    "config_ignored": "A message with the provider's config could not be read. The present one stays in force.",
    "config_refused": "An update of the provider's config is not valid. The present one stays in force.",
    "config_updated": "An update of the provider's config is in force.",
    "config_warning": "A setting of `config_json` has no effect, or no link can use it.",
    "connector_ready": "The state-proxy connector serves.",
    "internal_error": "A defect in one call; the caller was told `internal error`. Report it with the trace.",
    "invocation_denied": "An invocation was refused for lack of trust: signature, issuer, time, repetition, no link.",
    "invocation_failed": "A call was answered with an error.",
    "invocation_refused": "An invocation was refused: not decodable, too large, overload.",
    "invocation_served": "A call was answered.",
    "keeps_failing": "Three writes, reads, changes or calls in a row have failed; health has the number. `works_again` follows.",
    "lines_left_out": "So many lines of an event were left out, as more than 20 came in a second. It has the level of that event.",
    "link_config_unread": "A config that a link names could not be read. The link is put without it.",
    "link_deleted": "A link has ended.",
    "link_failed": "A link's settings are not valid. Its calls are answered with the reason until it is put with others.",
    "link_ignored": "A link definition could not be read, or is of another provider.",
    "link_names_files": "A link makes the provider read files, and `link_files` does not restrict where.",
    "link_opened": "A link is in force.",
    "link_records_unread": "The lattice's own records of links could not be read; at level debug, because the lattice has no such records. Links that were put while no provider ran may be missing.",
    "link_warning": "A setting of a link is misspelt, has no effect, or contradicts another link.",
    "message_handler_failed": "A defect while a message was handled. The message is lost.",
    "nats_disconnected": "The connection is lost. The provider connects again for ever.",
    "nats_permission_refused": "The server refuses a subject: the user lacks a [permission](operating.md#permissions).",
    "nats_rebuilt": "The client library had stopped connecting, and was replaced.",
    "nats_reconnected": "The connection is back. Ends `nats_disconnected`.",
    "pages_collected": "Pages that no value names any more were removed.",
    "pages_collector_failed": "A defect in the removal of pages. It is repeated.",
    "pages_not_collected": "Pages that no value names any more could not be removed. It is tried again.",
    "pages_of_key_left": "The pages of one key stay for now, as its head could not be read.",
    "pages_not_removed": "Pages that no value names any more could not be removed. The collector removes them later.",
    "pages_stream_created": "A bucket has got its stream of pages, for values that are kept in pages.",
    "pages_weaker_than_bucket": "The stream of a bucket's pages has fewer replicas or another storage than the bucket.",
    "payload_not_removed": "The payload of a refused invocation stays in the lattice's object store.",
    "ready": "The provider serves invocations.",
    "reply_lost": "An answer could not be sent, as the lattice cannot be reached.",
    "request_failed": "A defect in a request to the connector. The caller was told.",
    "answer_broken_off": "A page of a large file could not be read after the head of the answer was sent. The client sees it from the length.",
    "requests_cut_off": "The connector stopped before these requests were done.",
    "shutdown_ignored": "A request to stop was of another host; at level warning, it has no reply subject.",
    "signature_process_failed": "A helper process has ended or does not answer. Its work is done in place; another one is started.",
    "signature_process_started": "A helper process checks signatures.",
    "stopped": "The provider has ended in order.",
    "stopping": "The provider begins to end.",
    "task_failed": "A defect in work in the background.",
    "telemetry_off": "Traces or metrics were asked for and cannot be exported.",
    "value_damaged": "A page of a value is missing or not readable. The key, which the reason names, can be deleted or set anew; others go on.",
    "watch_failed": "A defect in a watch. It continues with the same change.",
    "watch_gave_up": "An actor did not take a change in all its tries. The change is a [dead letter](operations.md#watching).",
    "watch_healed": "A watch works again. Ends `watch_interrupted`.",
    "watch_interrupted": "A watch has lost its bucket. It continues where it was, and changes wait.",
    "watch_waits": "No host runs the actor that takes the changes of a watch. They wait.",
    "works_again": "Ends `keeps_failing`.",
}  # fmt: skip
"""The meaning of each event, and what to do about it where that is not plain."""

_SAMPLES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    (
        "keeps_failing",
        logging.ERROR,
        {"work": "writes", "reason": "the store is full: maximum bytes exceeded"},
    ),
    (
        "bucket_unavailable",
        logging.WARNING,
        {"bucket": "users", "reason": "URL: no JetStream server of that domain answers"},
    ),
    (
        "link_opened",
        logging.INFO,
        {
            "link_name": "default",
            "actor_id": "MB2UO3SVG2SPTOCEWNWJHWFZEHNZW3S2NOBW43U7462GV7XZUQI276H7",
            "contract_id": "wasmcloud:keyvalue",
            "backend": "bucket",
            "store": "users",
            "is_change": False,
        },
    ),
    (
        "invocation_served",
        logging.DEBUG,
        {
            "operation": "KeyValue.Get",
            "key": "user 1",
            "microseconds": 412,
            "link_name": "default",
            "actor_id": "MB2UO3SVG2SPTOCEWNWJHWFZEHNZW3S2NOBW43U7462GV7XZUQI276H7",
            "result_bytes": 19,
        },
    ),
)

_HEAD = """<!-- Written by `make docs` from the code and from tests/docs/logs.py. -->

# Log events

The provider writes one line for each event to standard error, as text or JSON as the host asks. An event has a name that
does not change, a level, and fields. No field has a value of an actor. At level debug, in `watch_gave_up` and in
`value_damaged`, a field has the key of one. Seeds, passwords and tokens are in no line.

| level | meaning | alert |
|---|---|---|
| `error` | a defect, a loss, or work that fails again and again | at once |
| `warning` | something does not work now and is tried again, or a setting, a caller or a message is refused | if it lasts, by [health or metrics](metrics.md#dashboard-and-alerts) |
| `info` | the life of the provider, its links and its connections | no |
| `debug` | single calls | no |

Most alerts are better made of [metrics](metrics.md): they tell also that something has ended.

## Samples

As text:

```
{text}
```

The same as JSON, where `event` has the name:

```
{json}
```

## All events

Every line has the time as well. `trace` is that of Python, on one line.
"""


def page() -> str:
    """Return the whole page."""
    text, json = (_sample_lines(formatter) for formatter in (TextFormatter(), JsonFormatter()))
    return "\n".join([_HEAD.replace("{text}", text).replace("{json}", json), *_rows(), ""])


def all_events() -> dict[str, LogEvent]:
    """Return the events of the code, and the one that the log itself writes."""
    return events() | {"lines_left_out": LogEvent("lines_left_out", set(_ORDER), dict.fromkeys(("of", "count")))}


def _rows() -> Iterator[str]:
    yield "| event | level | fields | meaning |\n|---|---|---|---|"
    for event in sorted(all_events().values(), key=lambda event: (_level(event), event.name)):
        levels = ", ".join(level for level in _ORDER if level in event.levels)
        fields = ", ".join(f"`{name}`" for name in event.fields)
        yield f"| `{event.name}` | {levels} | {fields} | {MEANINGS[event.name]} |".replace("|  |", "| |")


def _level(event: LogEvent) -> int:
    """Return the place of the gravest level of an event; of `lines_left_out`, which has them all, the last one."""
    places = sorted(_ORDER.index(level) for level in event.levels)
    return len(_ORDER) if len(places) == len(_ORDER) else places[0]


def _sample_lines(formatter: logging.Formatter) -> str:
    return "\n".join(formatter.format(_record(*sample)) for sample in _SAMPLES)


def _record(name: str, level: int, fields: dict[str, Any]) -> logging.LogRecord:
    shown = {
        "msg": name,
        "levelno": level,
        "levelname": logging.getLevelName(level),
        "created": 1767225600.25,
        "msecs": 250,
    }
    return logging.makeLogRecord(shown | fields)


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
