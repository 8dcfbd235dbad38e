"""How a bucket is found or made. Source: ADR-8 (the stream behind a bucket)."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from provider import errors
from provider.keyvalue.bucket.bucket import BucketTraits
from provider.keyvalue.bucket.entries import MARKER_TTL_SECONDS, RESERVED_HEADER
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_config import BucketConfig
from provider.nats import jetstream as js
from provider.nats.buckets import (
    NANOSECONDS,
    NO_SPACE,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    STREAM_PREFIX,
    key_subject,
    stream_name,
)

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_ATTEMPT_SECONDS = 1.0
_DUPLICATE_WINDOW_SECONDS = 30
_SMALLEST_REPLICATED_BYTES = 256
"""What is written under the reserved key takes about half of it, for its headers."""
_SETTING_AT_FAULT = {
    10005: "REPLICAS",
    10074: "REPLICAS",
    10113: "MAX_BYTES",
    10122: "MAX_BYTES",
    10047: "MAX_BYTES",
    10028: "MAX_BYTES",
}
"""No suitable peers; not clustered; limits that the account demands or that are exhausted. Source: errors.json."""


async def open_stream(jetstream: js.JetStream, config: BucketConfig, deadline: float) -> tuple[js.StreamInfo, int]:
    """Find the bucket's stream, or make it; returns what it is and the server's API level.

    Raises:
        errors.LinkError: There is none and none may be made, or it is no bucket; names the setting.
        errors.NatsError: The server could not be asked, or refused.
    """
    level = await _repeated(jetstream.level, deadline)
    name = stream_name(config.name)
    try:
        info = await _repeated(functools.partial(jetstream.stream_info, name), deadline)
    except errors.ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        if not config.is_created:
            raise errors.LinkError("BUCKET", f"bucket {config.name!r} does not exist, and CREATE is never") from None
        info = await _create(jetstream, config, level, deadline)
    if info.config.subjects != [key_subject(config.name, ">")]:
        raise errors.LinkError("BUCKET", f"stream {name!r} is not a key-value bucket of its own subjects")
    _check_value_size(info.config.num_replicas, info.config.max_msg_size)
    _warn_of_differences(config, info.config)
    return info, level


async def _create(jetstream: js.JetStream, config: BucketConfig, level: int, deadline: float) -> js.StreamInfo:
    _check_value_size(config.replicas, config.max_value_bytes)
    stream = stream_config(config, level)
    try:
        info = await _repeated(functools.partial(jetstream.create_stream, stream), deadline)
    except errors.ApiError as error:
        if error.err_code == STREAM_NAME_IN_USE:
            return await _repeated(functools.partial(jetstream.stream_info, stream["name"]), deadline)
        if error.err_code in _SETTING_AT_FAULT:
            raise errors.LinkError(_SETTING_AT_FAULT[error.err_code], f"the server says: {error.description}") from None
        raise
    _log.info("bucket_created", extra={"bucket": config.name, "replicas": config.replicas, "storage": config.storage})
    return info


def _check_value_size(replicas: int, max_value_bytes: int) -> None:
    if replicas > 1 and 0 <= max_value_bytes < _SMALLEST_REPLICATED_BYTES:
        reason = f"a bucket with several replicas needs {_SMALLEST_REPLICATED_BYTES} bytes at least, headers included"
        raise errors.LinkError("MAX_VALUE_SIZE", reason)


async def _repeated(request: Callable[[float], Awaitable[Answer]], deadline: float) -> Answer:
    """Repeat a request that is not answered: a cluster leaves one out while a stream has no leader yet."""
    loop = asyncio.get_running_loop()
    while True:
        attempt_deadline = min(deadline, loop.time() + _ATTEMPT_SECONDS)
        try:
            return await request(attempt_deadline)
        except errors.RequestTimeoutError:
            if attempt_deadline >= deadline:
                raise


def stream_config(config: BucketConfig, level: int) -> dict[str, Any]:
    """Build the configuration of the stream behind a bucket, without a field that the server does not know.

    Markers for what has expired are not made unasked: nats-server (2.11 to 2.15) decides to put one, and when it does, it
    removes whatever was written since, acknowledged or not.
    """
    max_age = config.ttl_seconds * NANOSECONDS
    window = min(_DUPLICATE_WINDOW_SECONDS * NANOSECONDS, max_age or _DUPLICATE_WINDOW_SECONDS * NANOSECONDS)
    stream: dict[str, Any] = {
        "name": stream_name(config.name),
        "subjects": [key_subject(config.name, ">")],
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": config.max_bytes,
        "max_age": max_age,
        "max_msg_size": config.max_value_bytes,
        "storage": config.storage,
        "discard": "new",
        "num_replicas": config.replicas,
        "duplicate_window": window,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
    if level >= js.TTL_LEVEL:
        stream["allow_msg_ttl"] = True
        if config.marks_expired:
            stream["subject_delete_marker_ttl"] = MARKER_TTL_SECONDS * NANOSECONDS
    return stream


def traits_of(info: js.StreamInfo, level: int) -> BucketTraits:
    """Tell from a stream's configuration how it is to be read and written.

    A TTL is not sent where the server would refuse it, nor to a bucket with history: there an expired value would
    uncover the one before it.
    """
    config = info.config
    has_history = config.max_msgs_per_subject != 1
    has_ttl = level >= js.TTL_LEVEL and config.allow_msg_ttl
    return BucketTraits(
        level=level,
        replicas=config.num_replicas,
        allows_direct=config.allow_direct,
        sends_ttl=not has_history and (has_ttl or level < js.TTL_LEVEL),
        expires_by_itself=has_ttl and not has_history,
        has_history=has_history,
        max_value_bytes=config.max_msg_size,
    )


async def look_at_stream(jetstream: js.JetStream, stream: str, clock: ServerClock, deadline: float) -> js.StreamInfo:
    """Return what a stream is now, and measure the server's clock by the same answer.

    nats-server before 2.10 does not tell its time; there a message is written and its time read back. In a bucket
    without room for it, the time that was known before is kept.
    """
    info, sent_at = await _repeated(functools.partial(_timed_info, jetstream, stream), deadline)
    if info.server_time:
        clock.measured(js.time_ms(info.server_time), sent_at, time.monotonic())
        return info
    subject = key_subject(stream.removeprefix(STREAM_PREFIX), RESERVED_KEY)
    sent_at = time.monotonic()
    try:
        await jetstream.publish(subject, b"", RESERVED_HEADER, deadline)
    except errors.ApiError as error:
        if error.err_code not in NO_SPACE:
            raise
        return info
    received_at = time.monotonic()
    message = await jetstream.last_message(stream, subject, deadline)
    if message is not None:
        clock.measured(message.time_ms, sent_at, received_at)
    return info


async def _timed_info(jetstream: js.JetStream, stream: str, deadline: float) -> tuple[js.StreamInfo, float]:
    sent_at = time.monotonic()
    return await jetstream.stream_info(stream, deadline), sent_at


def _warn_of_differences(wanted: BucketConfig, found: js.StreamConfig) -> None:
    """Say which settings of the link the existing bucket does not have; it is used as it is."""
    has_markers = found.subject_delete_marker_ttl > 0
    pairs: dict[str, tuple[Any, Any, Any]] = {
        "REPLICAS": (wanted.replicas, found.num_replicas, 1),
        "STORAGE": (wanted.storage, found.storage, "file"),
        "TTL": (wanted.ttl_seconds, found.max_age // NANOSECONDS, 0),
        "EXPIRY_MARKERS": (wanted.marks_expired, has_markers, False),
        "MAX_BYTES": (wanted.max_bytes, found.max_bytes, -1),
        "MAX_VALUE_SIZE": (wanted.max_value_bytes, found.max_msg_size, -1),
    }
    different = [name for name, (want, have, default) in pairs.items() if want not in (have, default)]
    if different:
        _log.warning("bucket_differs", extra={"bucket": wanted.name, "settings": ", ".join(different)})
    if has_markers and not wanted.marks_expired:
        _log.warning("bucket_marks_expired", extra={"bucket": wanted.name})
    if found.max_msgs_per_subject != 1:
        _log.warning("bucket_has_history", extra={"bucket": wanted.name, "history": found.max_msgs_per_subject})
