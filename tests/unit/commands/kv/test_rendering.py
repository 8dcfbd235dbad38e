"""Decoding of messages into revisions, and the text of revisions and buckets."""

from __future__ import annotations

import base64
import json
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.commands.kv.bucket_info import BucketInfo, BucketStatus
from provider.commands.kv.bucket_rendering import bucket_row, status_object, status_rows
from provider.commands.kv.rendering import entry_lines, one_line, plain_value, revision_object, short_value, update_line
from provider.commands.kv.stored_revision import Revision, decode_revision
from provider.keyvalue.bucket.entries import Write, encode_headers
from provider.keyvalue.kinds import Kind, Value
from provider.nats.frames import header_block

NOON_MS = 1_767_355_200_000  # 2026-01-02 12:00 UTC
MINUTE_MS = 60_000


def stored(kind: Kind = Kind.TEXT, payload: bytes = b"Ann", expires_at_ms: int = 0, key: str = "k") -> Revision:
    """Return a revision from a message in the form that the provider writes."""
    write = Write(key, key, Value(kind, None, expires_at_ms), payload, b"op.1", None)
    return decode_revision(key, 7, NOON_MS, encode_headers(write, NOON_MS), payload)


def marker(*headers: tuple[bytes, bytes]) -> Revision:
    return decode_revision("k", 8, NOON_MS, header_block(*headers), b"")


def test_a_text_from_another_client_is_shown_as_in_nats_kv() -> None:
    found = decode_revision("Key1", 1, NOON_MS, b"", b"Value1")
    assert entry_lines("my-kv", found, NOON_MS, UTC) == [
        "my-kv > Key1 revision: 1 created @ 02 Jan 26 12:00 UTC",
        "",
        "Value1",
        "",
    ]
    assert update_line("my-kv", found, NOON_MS, UTC) == "[2026-01-02 12:00:00] PUT my-kv > Key1: Value1"


def test_the_providers_own_data_is_below_an_entry_and_after_the_key_of_an_update() -> None:
    found = stored(Kind.SET, b'["a"]', NOON_MS + MINUTE_MS, "=_user=3A1")
    assert entry_lines("b", found, NOON_MS, UTC)[1] == (
        'actor\'s key: "user:1", kind: set, expires in 1m, operation id: op.1'
    )
    assert update_line("b", found, NOON_MS + 2 * MINUTE_MS, UTC) == (
        '[2026-01-02 12:00:00] PUT b > =_user=3A1 (actor\'s key: "user:1", kind: set, expired): ["a"]'
    )
    assert revision_object("b", found) == {
        "bucket": "b",
        "key": "=_user=3A1",
        "actor_key": "user:1",
        "operation": "PUT",
        "revision": 7,
        "time": "2026-01-02T12:00:00.000Z",
        "kind": "set",
        "value": '["a"]',
        "expires_at": "2026-01-02T12:01:00.000Z",
        "operation_id": "op.1",
    }


@pytest.mark.parametrize(
    ("headers", "operation", "reason"),
    [
        ([(b"KV-Operation", b"DEL")], "DEL", ""),
        ([(b"KV-Operation", b"PURGE")], "PURGE", ""),
        ([(b"Nats-Marker-Reason", b"MaxAge")], "PURGE", "MaxAge"),
        ([(b"Nats-Marker-Reason", b"Remove")], "DEL", "Remove"),
    ],
)
def test_markers_are_the_operations_of_nats_kv(headers: list[tuple[bytes, bytes]], operation: str, reason: str) -> None:
    found = marker(*headers)
    assert (found.operation, found.reason, found.payload, found.kind) == (operation, reason, b"", "")
    assert update_line("b", found, NOON_MS, UTC).startswith(f"[2026-01-02 12:00:00] {operation} b > k")
    assert "value" not in revision_object("b", found)


@pytest.mark.parametrize(("ttl", "milliseconds"), [(b"60", 60_000), (b"1m30s", 90_000), (b"never", 0), (b"x", 0)])
def test_a_time_to_live_from_another_client_is_an_expiry(ttl: bytes, milliseconds: int) -> None:
    found = decode_revision("k", 1, NOON_MS, header_block((b"Nats-TTL", ttl)), b"v")
    assert found.expires_at_ms == (NOON_MS + milliseconds if milliseconds else 0)


@given(st.binary(max_size=60))
def test_a_value_is_shown_without_control_characters_and_completely_in_json(payload: bytes) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in plain_value(payload))
    assert one_line(payload).isprintable()
    assert short_value(payload).isprintable()
    assert len(short_value(payload)) <= 40
    found = json.loads(msgspec.json.encode(revision_object("b", stored(Kind.BINARY, payload))))
    whole = found["value"].encode() if "value" in found else base64.b64decode(found["value_base64"])
    assert whole == payload


def test_an_escape_sequence_does_not_reach_the_terminal() -> None:
    assert plain_value(b"\x1b[2J") == base64.b64encode(b"\x1b[2J").decode()


def info(**config: Any) -> BucketInfo:
    fields = {"config": {"name": "KV_b"} | config, "state": {"messages": 2, "bytes": 2048, "last_seq": 9}}
    return msgspec.convert(fields | {"created": "2026-01-02T03:04:05.6Z"}, BucketInfo)


def test_a_bucket_is_shown_with_all_its_settings() -> None:
    found = info(
        description="three\nlines",
        max_msgs_per_subject=5,
        max_age=3600 * 10**9,
        max_bytes=2**20,
        max_msg_size=512,
        compression="s2",
        placement={"cluster": "east", "tags": ["ssd", "fast"]},
        republish={"src": ">", "dest": "copy.>", "headers_only": True},
        subject_delete_marker_ttl=60 * 10**9,
    )
    rows = dict(status_rows(BucketStatus(found, "the bucket keeps history")))
    assert rows["Description"] == "three\\nlines"
    assert rows["History Kept"] == "5"
    assert rows["Maximum Age"] == "1h"
    assert rows["Maximum Bucket Size"] == "1.0 MiB"
    assert rows["Maximum Value Size"] == "512 B"
    assert rows["Compressed"] == "true"
    assert rows["Placement Tags"] == "ssd, fast"
    assert rows["Republishing Headers"] == "> to copy.>"
    assert rows["Limit Marker TTL"] == "1m"
    assert "the bucket keeps history" in rows["Expiry of Keys"]
    assert "If the Server Is Killed" not in rows
    assert status_object(BucketStatus(found, ""))["expires_by_itself"] is True


def test_a_bucket_tells_whose_values_may_come_back() -> None:
    rows = dict(status_rows(BucketStatus(info(allow_msg_ttl=True), "")))
    assert "other clients" in rows["If the Server Is Killed"]
    assert "maximum age" not in rows["If the Server Is Killed"]
    rows = dict(status_rows(BucketStatus(info(allow_msg_ttl=True, max_age=10**9), "")))
    assert "until the maximum age" in rows["If the Server Is Killed"]


def test_missing_limits_are_unlimited_and_missing_features_are_left_out() -> None:
    rows = dict(status_rows(BucketStatus(info(), "")))
    assert rows["Maximum Age"] == rows["Maximum Bucket Size"] == rows["Maximum Value Size"] == "unlimited"
    assert not {"Description", "Placement Cluster", "Sealed", "Leader"} & rows.keys()


def test_a_replicated_bucket_shows_its_leader_and_followers() -> None:
    replicas = [{"name": "n2", "current": True}, {"name": "n3", "offline": True, "lag": 4}]
    fields = {"config": {"name": "KV_b"}, "state": {}, "cluster": {"name": "c", "leader": "n1", "replicas": replicas}}
    rows = status_rows(BucketStatus(msgspec.convert(fields, BucketInfo), ""))
    assert rows[-4:] == [
        ("Cluster", "c"),
        ("Leader", "n1"),
        ("Replica", "n2, current"),
        ("Replica", "n3, outdated, OFFLINE, 4 operations behind"),
    ]


def test_a_row_of_the_list_of_buckets() -> None:
    assert bucket_row(info(), UTC)[:5] == ["b", "", "2026-01-02 03:04:05", "2.0 KiB", "2"]
