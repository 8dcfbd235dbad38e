"""The stream, subjects, units and error codes of a key-value bucket in JetStream. Pure.

Source: ADR-8 (names); nats-server server/errors.json (codes).
"""

from __future__ import annotations

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second. JetStream's configurations and requests give every duration in nanoseconds."""

NANOSECONDS_PER_MS = 1_000_000
"""Nanoseconds in a millisecond. JetStream gives points in time in nanoseconds; this program counts milliseconds."""

TTL_LEVEL = 1
"""The server's API level from which a message may have its own time to live (nats-server 2.11)."""

STREAM_PREFIX = "KV_"
SUBJECT_PREFIX = "$KV."

EVERY_BUCKET = f"{SUBJECT_PREFIX}*.>"
"""Pattern of the subjects of all buckets."""

NOT_ENABLED = 10076
"""The server runs without JetStream."""

NOT_ENABLED_FOR_ACCOUNT = 10039

STREAM_NOT_FOUND = 10059
STREAM_NAME_IN_USE = 10058
"""A stream of this name exists with another configuration."""

CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037
MESSAGE_TOO_LARGE = 10054
"""The message exceeds the stream's `max_msg_size`."""

WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""A compare-and-set lost. 10071 names the subject's revision; 10164 means that another write is under way."""

DUPLICATE_IN_PROCESS = 10158
"""A message with the same id is being stored."""

SEALED = 10109
"""The stream takes nothing any more."""

FORBIDDEN_BY_STREAM = frozenset({10057, 10111})
"""The stream's settings forbid a deletion or a rollup. The server calls these internal errors, but they do not pass."""

NO_SPACE = frozenset({10002, 10023, 10028, 10047, 10077})
"""A limit is exceeded: the resources of the account or the server, memory, storage, or the stream's own size."""


def stream_name(bucket: str) -> str:
    """Return the name of the stream behind a bucket."""
    return f"{STREAM_PREFIX}{bucket}"


def key_subject(bucket: str, bucket_key: str) -> str:
    """Return the subject of a key, or of a pattern of keys; with an empty key, the prefix of the bucket's subjects."""
    return f"{SUBJECT_PREFIX}{bucket}.{bucket_key}"
