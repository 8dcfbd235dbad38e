"""Revisions as text for people and JSON objects for programs. Pure: time and time zone are arguments."""

from __future__ import annotations

from binascii import b2a_base64
from datetime import UTC, datetime, tzinfo
from typing import Any

from provider.commands.kv.name_rules import actor_key, actor_note
from provider.commands.kv.stored_revision import PUT, Revision
from provider.plain_text import is_printable, parts
from provider.units import format_seconds

_SHORT = 40
_ENDS = 15
"""Characters of a value in a table, and of each of its ends if it is longer: a row fits 120 columns."""

# --- values


def plain_value(payload: bytes) -> str:
    """Return a value for a terminal: text without control characters unchanged, anything else as base64."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = "\x00"
    is_plain = all(is_printable(part, "\n\t") for part in parts(text))
    return text if is_plain else b2a_base64(payload, newline=False).decode()


def one_line(payload: bytes) -> str:
    """Do the same on one line, with line breaks and tabs escaped."""
    return plain_value(payload).replace("\n", "\\n").replace("\t", "\\t")


def short_value(payload: bytes) -> str:
    """Do the same for a table: of a long value, only both ends."""
    text = one_line(payload)
    return text if len(text) <= _SHORT else f"{text[:_ENDS]}...{text[-_ENDS:]}"


def json_value(payload: bytes) -> dict[str, str]:
    """Return the JSON field of a value: `value`, or `value_base64` if it is not text."""
    try:
        return {"value": payload.decode()}
    except UnicodeDecodeError:
        return {"value_base64": b2a_base64(payload, newline=False).decode()}


# --- times


def utc_time(time_ms: int) -> str:
    """Return a time for programs: 2026-01-02T03:04:05.678Z."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def local_time(time_ms: int, zone: tzinfo | None) -> str:
    """Return a time for people. A `zone` of None means this machine's."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _expiry(expires_at_ms: int, now_ms: int) -> str:
    left = expires_at_ms - now_ms
    return f"expires in {format_seconds(max(1, round(left / 1000)))}" if left > 0 else "expired"


# --- revisions


def entry_lines(bucket: str, entry: Revision, now_ms: int, zone: tzinfo | None) -> list[str]:
    """Return an entry in the form of `nats kv get`, with a line for the provider's own data."""
    head = f"{bucket} > {entry.bucket_key} revision: {entry.revision}"
    if entry.time_ms:
        moment = datetime.fromtimestamp(entry.time_ms / 1000, UTC).astimezone(zone)
        head += f" created @ {moment:%d %b %y %H:%M %Z}"
    details = _details(entry, now_ms)
    if entry.operation_id:
        details.append(f"operation id: {entry.operation_id}")
    return [head, *([", ".join(details)] if details else []), "", plain_value(entry.payload), ""]


def update_line(bucket: str, update: Revision, now_ms: int, zone: tzinfo | None) -> str:
    """Return an update in the form of `nats kv watch`, with the provider's own data after the key."""
    details = _details(update, now_ms)
    noted = f" ({', '.join(details)})" if details else ""
    line = f"[{local_time(update.time_ms, zone)}] {update.operation} {bucket} > {update.bucket_key}{noted}"
    return f"{line}: {one_line(update.payload)}" if update.operation == PUT else line


def history_row(revision: Revision, zone: tzinfo | None) -> list[str]:
    """Return a row under `HISTORY_COLUMNS`."""
    return [
        revision.bucket_key,
        str(revision.revision),
        revision.operation,
        local_time(revision.time_ms, zone),
        revision.kind,
        str(len(revision.payload)),
        short_value(revision.payload),
    ]


HISTORY_COLUMNS = ("Key", "Revision", "Op", "Created", "Kind", "Length", "Value")


def key_object(bucket: str, bucket_key: str) -> dict[str, Any]:
    """Return a key for programs, as stored and, where that differs, as actors write it."""
    actor = actor_key(bucket_key)
    return {"bucket": bucket, "key": bucket_key} | ({"actor_key": actor} if actor is not None else {})


def revision_object(bucket: str, revision: Revision) -> dict[str, Any]:
    """Return a revision for programs. Fields that do not apply are left out."""
    found = key_object(bucket, revision.bucket_key) | {"operation": revision.operation, "revision": revision.revision}
    if revision.time_ms:
        found["time"] = utc_time(revision.time_ms)
    if revision.operation == PUT:
        found |= {"kind": revision.kind} | json_value(revision.payload)
    if revision.expires_at_ms:
        found["expires_at"] = utc_time(revision.expires_at_ms)
    if revision.operation_id:
        found["operation_id"] = revision.operation_id
    if revision.reason:
        found["reason"] = revision.reason
    return found


def _details(revision: Revision, now_ms: int) -> list[str]:
    """Return the provider's own data of an entry. A plain text that never expires has none."""
    details = [note] if (note := actor_note(revision.bucket_key)) else []
    if revision.kind not in ("", "text"):
        details.append(f"kind: {revision.kind}")
    if revision.expires_at_ms:
        details.append(_expiry(revision.expires_at_ms, now_ms))
    if revision.reason:
        details.append(f"by the server: {revision.reason}")
    return details
