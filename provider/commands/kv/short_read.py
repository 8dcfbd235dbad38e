"""The short road of `kv get BUCKET KEY`: one exchange with the server, without an event loop and without typer.

It takes the plain command to a plain server near by, and knows when it does not: other options, variables or servers, an
expired value or one with pages, a time-out, an error. Then it prints nothing, and the command line starts over: a read
may be made twice. Names, messages, ends and texts are those of the same modules as there.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from provider.commands.errors import KeyNotFoundError
from provider.commands.kv.name_rules import check_bucket, noted_key, stored_key
from provider.commands.kv.rendering import entry_lines, revision_object
from provider.commands.kv.stored_revision import PUT, Revision, decode_revision, is_head
from provider.commands.printing import adapt_output, print_bytes, print_line, print_object, report
from provider.errors import ProviderError
from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.ttl import lifetimes_of
from provider.keyvalue.clock import ServerClock
from provider.nats.buckets import MESSAGE_NOT_FOUND, key_subject, stream_name
from provider.nats.short_exchange import Reply, UnusualServerError, exchange
from provider.nats.times import time_ms

_NEAR_SECONDS = 0.3
"""Limit for each wait. A server near by answers in a few milliseconds; for one that does not, this road would save nothing."""

_ADDRESS = re.compile(r"(?:nats://)?(?:(localhost|[0-9]+(?:\.[0-9]+){3})|\[([0-9A-Fa-f:]+)\])(?::([0-9]{1,5}))?/?")
"""The URL of one server whose name nobody has to look up, which may take long."""

_DEFAULT_PORT = "4222"
_API_TYPE = "io.nats.jetstream.api."


class _StreamSettings:
    """The settings of a stream that a read depends on, as the server names them. It leaves out those that are not set."""

    name: str
    subjects: list[str]
    retention: str
    discard: str
    max_age: int
    max_bytes: int
    max_msgs: int
    no_ack = allow_msg_ttl = allow_msg_counter = discard_new_per_subject = False
    subject_transform: Any = None

    def __init__(self, config: dict[str, Any]) -> None:
        vars(self).update(config)


class UnusualAnswerError(Exception):
    """Only the long road can show the answer."""


_FAILURES = (
    *(UnusualServerError, UnusualAnswerError, ProviderError, OSError),
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError),  # an answer or a port of another form
)


class PlainGet(NamedTuple):
    """A command that may take the short road. `url` is "" if none is given; `form` is "" for people, `--json` or `--raw`."""

    bucket: str
    key: str
    url: str
    form: str


def short_get(words: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Carry out a command if it is plain; return its exit code, or `None` if nothing was printed.

    Args:
        words: The words behind `kv get`.
        environment: The environment variables.
    """
    command = plain_get(words, environment)
    if command is None:
        return None
    clock = ServerClock()
    try:
        found = _read(command, clock)
    except _FAILURES:
        return None
    adapt_output()
    if found is None:
        return report(KeyNotFoundError(noted_key(stored_key(command.key))))
    try:
        print_entry(command.bucket, found, clock.now_ms(), command.form)
    except ProviderError as error:
        return report(error)
    return 0


def plain_get(words: Sequence[str], environment: Mapping[str, str]) -> PlainGet | None:
    """Return the command of the words behind `kv get`, or `None` if the grammar of typer is needed to tell."""
    url, form, names = "", "", []
    rest = iter(words)
    for word in rest:
        if not word.isascii():  # the encoding of the locale may have to be undone
            return None
        if word in ("--nats", "--server", "-s") and not url:
            url = next(rest, "")
        elif word in ("--json", "--raw") and not form:
            form = word
        elif word.startswith("-"):
            return None
        else:
            names.append(word)
    others = [name for name in environment if name.startswith("NATS_") and name != "NATS_URL"]
    url = url or environment.get("NATS_URL", "")
    return PlainGet(names[0], names[1], url, form) if len(names) == 2 and not others else None


def print_entry(bucket: str, entry: Revision, now_ms: int, form: str) -> None:
    """Print an entry for people, or in one of the forms `--json` and `--raw`."""
    if form == "--raw":
        print_bytes(entry.payload)
    elif form == "--json":
        print_object(revision_object(bucket, entry))
    else:
        for line in entry_lines(bucket, entry, now_ms, None):
            print_line(line)


def _read(command: PlainGet, clock: ServerClock) -> Revision | None:
    """Return the current value of a key, `None` without one, from the leader of its stream. Set the clock by the server's."""
    address = _ADDRESS.fullmatch(command.url or _found_url())
    if address is None:
        raise UnusualAnswerError
    key, stream = stored_key(command.key), stream_name(check_bucket(command.bucket))
    subject = key_subject(command.bucket, key)
    requests = (
        ("$JS.API.INFO", b""),
        (f"$JS.API.STREAM.INFO.{stream}", b""),
        (f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps({"last_by_subj": subject}).encode()),
    )
    host, port = address[1] or address[2], int(address[3] or _DEFAULT_PORT)
    sent_at, replies = exchange(host, port, "keyvalue-nats kv", requests, _NEAR_SECONDS)
    account, info, answer = _answers(replies)
    settings = _StreamSettings(info["config"])
    if settings.subjects != [key_subject(command.bucket, ">")] or unmet_requirement(settings):
        raise UnusualAnswerError
    clock.measured(time_ms(info["ts"]), sent_at, replies[1][1])
    if "error" in answer:
        return None
    message = answer["message"]
    header, payload = a2b_base64(message.get("hdrs", "")), a2b_base64(message.get("data", ""))
    level = account.get("api", {}).get("level", 0)
    lifetimes = lifetimes_of(level, settings.max_age, allows_ttl=settings.allow_msg_ttl)
    found = decode_revision(key, int(message["seq"]), time_ms(message["time"]), header, payload, lifetimes)
    if found.operation != PUT:
        return None
    if is_head(header) or found.is_expired(clock.now_ms()):
        raise UnusualAnswerError
    return found


def _found_url() -> str:
    from provider.commands.connection_file import found_url

    return found_url()


def _answers(replies: Sequence[Reply]) -> Iterator[dict[str, Any]]:
    """Yield the answers of JetStream's API. The only error is that of a missing message."""
    for payload, _ in replies:
        answer = json.loads(payload)
        error_code = answer.get("error", {}).get("err_code", MESSAGE_NOT_FOUND)
        if not answer["type"].startswith(_API_TYPE) or error_code != MESSAGE_NOT_FOUND:
            raise UnusualAnswerError
        yield answer
