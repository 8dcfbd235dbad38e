"""The stream behind a bucket: find it or make it, follow its configuration.

Source: ADR-8 (the stream behind a bucket).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from msgspec import Struct

from provider import errors
from provider.keyvalue.bucket.entries import reserved_header
from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.ttl import Lifetimes, lifetimes_of
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.given_values import Remark, text_of
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_config import BucketConfig
from provider.nats import jetstream as js
from provider.nats.buckets import (
    NANOSECONDS,
    NO_SPACE,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    STREAM_PREFIX,
    TTL_LEVEL,
    key_subject,
    stream_name,
)
from provider.nats.times import time_ms

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_ATTEMPT_SECONDS = 1.0
"""Time for one request while opening. A cluster without a leader does not answer at all, so the request is repeated; five
attempts fit into the time that opening may take."""

_EXPIRY_MARKER_SECONDS = 120
"""Life of a marker that the server writes for an expired value: long enough for watchers that were away for a moment."""

_DUPLICATE_WINDOW_SECONDS = 30
"""Time for which the server remembers message ids. An id is needed until the deadline of the calls that use it, which is a
few seconds away; the rest is room for callers with long time-outs. The server's default of 120 costs it more memory."""

SMALLEST_REPLICATED_BYTES = 256
"""The headers under the reserved key take about half of this; without that write there is no read lease."""

_MOST_REVISIONS_SEEN = 65_536
"""Keys whose newest revision is remembered for fast reads; some ten megabytes. The least recently used is forgotten, which
costs that key its guard against an older answer."""

_SETTING_AT_FAULT = {
    10005: "REPLICAS",  # no suitable peers
    10074: "REPLICAS",  # the server is not clustered
    10113: "MAX_BYTES",  # the account demands a limit
    10122: "MAX_BYTES",  # over the account's limit for one stream
    10047: "MAX_BYTES",  # storage exhausted
    10028: "MAX_BYTES",  # memory exhausted
}
"""The link value to correct, by the server's error code. Source: nats-server server/errors.json."""


class Traits(Struct, frozen=True):
    """The properties of a bucket's stream that reading and writing depend on.

    Attributes:
        level: The server's API level; see `JetStream.level`.
        replicas: Number of replicas of the stream.
        allows_direct: Whether a replica may answer reads.
        lifetimes: The ends that the stream gives its messages.
        has_history: Whether the stream keeps more than the last message of a key.
        max_value_bytes: Limit of one message, headers included; -1: no limit of its own.
        rolls_up: Whether a marker may, and has to, remove the history of its key by a header.
        denies_purge: Whether the stream forbids to remove messages by a request.
        is_sealed: Whether the stream takes nothing any more.
    """

    level: int
    replicas: int
    allows_direct: bool
    lifetimes: Lifetimes
    has_history: bool
    max_value_bytes: int
    rolls_up: bool = False
    denies_purge: bool = False
    is_sealed: bool = False

    @classmethod
    def from_info(cls, info: js.StreamInfo, level: int) -> Self:
        """Derive the traits from a stream's configuration and the server's API level."""
        config = info.config
        return cls(
            level=level,
            replicas=config.num_replicas,
            allows_direct=config.allow_direct,
            lifetimes=lifetimes_of(level, config.max_age, allows_ttl=config.allow_msg_ttl),
            has_history=config.max_msgs_per_subject != 1,
            max_value_bytes=config.max_msg_size,
            rolls_up=_rolls_up(config),
            denies_purge=config.deny_purge,
            is_sealed=config.sealed,
        )

    @property
    def expires_by_itself(self) -> bool:
        """True if the server may be told when a value ends.

        In a bucket with history, a value that the server removes would uncover the one before it.
        """
        return self.lifetimes.honors_ttl and not self.has_history


def _rolls_up(config: js.StreamConfig) -> bool:
    return config.max_msgs_per_subject != 1 and config.allow_rollup_hdrs and not config.deny_purge


class BucketStream:
    """The stream of an open bucket, and the state that reads and writes share.

    Args:
        jetstream: The JetStream that has the stream.
        bucket: Name of the bucket.
        traits: The stream's traits now; they may be replaced while the bucket is open.
        clock: The server's clock.
        on_missed: Called when no server answers for the stream, as when it was deleted.
    """

    def __init__(
        self,
        jetstream: js.JetStream,
        bucket: str,
        traits: Traits,
        clock: ServerClock,
        on_missed: Callable[[], None],
    ) -> None:
        self.jetstream = jetstream
        self.bucket = bucket
        self.name = stream_name(bucket)
        self.subject_prefix = key_subject(bucket, "")
        self.clock = clock
        self.on_missed = on_missed
        self.is_mirrored = False
        self.learn(traits)
        self._seen: OrderedDict[str, int] = OrderedDict()

    def learn(self, traits: Traits) -> None:
        """Use these traits from now on."""
        self.traits = traits
        self.has_one_copy = traits.replicas == 1 and traits.allows_direct and not self.is_mirrored
        """True if a direct get returns the last write, since there is no copy that could be behind."""

    def note_mirror(self) -> None:
        """Stop using direct gets: a mirror has answered one. A mirror may be behind, and never learns of purges."""
        if not self.is_mirrored:
            _log.warning("bucket_has_mirror", extra={"bucket": self.bucket})
        self.is_mirrored = True
        self.learn(self.traits)

    def seen_revision(self, bucket_key: str) -> int:
        """Return the highest revision of a key that this process has read or written; 0 if unknown."""
        return self._seen.get(bucket_key, 0)

    def note_revision(self, bucket_key: str, revision: int) -> None:
        """Remember a revision that was read or written, for `seen_revision`. One replica cannot be behind itself."""
        if self.traits.replicas == 1 or not revision:
            return
        self._seen[bucket_key] = max(revision, self._seen.pop(bucket_key, 0))
        if len(self._seen) > _MOST_REVISIONS_SEEN:
            self._seen.popitem(last=False)

    async def is_everywhere(self, revision: int, deadline: float) -> bool:
        """Ask the leader whether every replica has the stream up to a revision."""
        return (await self.jetstream.stream_info(self.name, deadline)).is_everywhere(revision)


async def open_stream(jetstream: js.JetStream, config: BucketConfig, deadline: float) -> tuple[js.StreamInfo, int]:
    """Find the bucket's stream, or make it; return its info and the server's API level.

    Raises:
        errors.LinkError: The stream is missing and may not be made, or is not a bucket; names the setting.
        errors.NatsError: The server could not be asked, or refused.
    """
    level = await repeated(jetstream.level, deadline)
    name = stream_name(config.name)
    try:
        info = await repeated(functools.partial(jetstream.stream_info, name), deadline)
    except errors.ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        if not config.is_created:
            raise errors.LinkError("BUCKET", f"bucket {config.name!r} does not exist, and CREATE is never") from None
        info = await _create(jetstream, config, level, deadline)
    if info.config.subjects != [key_subject(config.name, ">")]:
        raise errors.LinkError("BUCKET", f"stream {name!r} does not have the subjects of a key-value bucket")
    check_requirements(info.config)
    _check_value_size(info.config.num_replicas, info.config.max_msg_size)
    _warn_of_differences(config, info.config)
    return info, level


async def _create(jetstream: js.JetStream, config: BucketConfig, level: int, deadline: float) -> js.StreamInfo:
    _check_value_size(config.replicas, config.max_value_bytes)
    stream = stream_config(config, level)
    try:
        info = await repeated(functools.partial(jetstream.create_stream, stream), deadline)
    except errors.ApiError as error:
        if error.err_code == STREAM_NAME_IN_USE:
            # Another provider has made it in the meantime, with other settings.
            return await repeated(functools.partial(jetstream.stream_info, stream["name"]), deadline)
        setting = _SETTING_AT_FAULT.get(error.err_code, "REPLICAS" if "replicas" in error.description else "")
        if setting:
            raise errors.LinkError(setting, f"the server says: {error.description}") from None
        raise
    _log.info("bucket_created", extra={"bucket": config.name, "replicas": config.replicas, "storage": config.storage})
    return info


def check_requirements(config: js.StreamConfig) -> None:
    """Check that a stream keeps acknowledged values.

    Raises:
        errors.LinkError: It does not.
    """
    if reason := unmet_requirement(config):
        raise errors.LinkError("BUCKET", reason)


def _check_value_size(replicas: int, max_value_bytes: int) -> None:
    if replicas > 1 and 0 <= max_value_bytes < SMALLEST_REPLICATED_BYTES:
        reason = f"a bucket with several replicas needs {SMALLEST_REPLICATED_BYTES} bytes at least, headers included"
        raise errors.LinkError("MAX_VALUE_SIZE", reason)


async def repeated(request: Callable[[float], Awaitable[Answer]], deadline: float) -> Answer:
    """Repeat a request that is not answered: a cluster ignores it while the stream has no leader yet."""
    loop = asyncio.get_running_loop()
    while True:
        attempt_deadline = min(deadline, loop.time() + _ATTEMPT_SECONDS)
        try:
            return await request(attempt_deadline)
        except errors.RequestTimeoutError:
            if attempt_deadline >= deadline:
                raise


def stream_config(config: BucketConfig, level: int) -> dict[str, Any]:
    """Return the configuration of the stream behind a bucket, without fields that the server does not know.

    Markers for expired values are made only on request: nats-server (2.11 to 2.15) decides to put a marker first, and when
    it does put it, removes whatever was written in between, acknowledged or not.
    """
    max_age = config.ttl_seconds * NANOSECONDS
    # The server refuses a duplicate window that is longer than the maximum age.
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
    if level >= TTL_LEVEL:
        stream["allow_msg_ttl"] = True
        if config.marks_expired:
            stream["subject_delete_marker_ttl"] = _EXPIRY_MARKER_SECONDS * NANOSECONDS
    return stream


async def refresh_stream(jetstream: js.JetStream, stream: str, clock: ServerClock, deadline: float) -> js.StreamInfo:
    """Return a stream's current info, and set the clock by the server's answer.

    nats-server before 2.10 does not tell its time; there, a message is written and its time read back. In a bucket
    without room for it, and in a sealed one, the clock stays as it is.
    """
    info, sent_at = await repeated(functools.partial(_timed_info, jetstream, stream), deadline)
    if info.server_time:
        clock.measured(time_ms(info.server_time), sent_at, time.monotonic())
        return info
    if info.config.sealed:
        return info
    subject = key_subject(stream.removeprefix(STREAM_PREFIX), RESERVED_KEY)
    sent_at = time.monotonic()
    try:
        await jetstream.publish(subject, b"", reserved_header(rolls_up=_rolls_up(info.config)), deadline)
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
    """Return a stream's info and the time at which the request for it was sent."""
    sent_at = time.monotonic()
    return await jetstream.stream_info(stream, deadline), sent_at


def _warn_of_differences(wanted: BucketConfig, found: js.StreamConfig) -> None:
    """Log the settings of the links that an existing bucket does not have. The bucket is used as it is."""
    different = stream_differences(wanted, found)
    if different:
        reasons = "; ".join(str(remark) for remark in different)
        _log.warning("bucket_differs", extra={"bucket": wanted.name, "settings": reasons})
    if found.subject_delete_marker_ttl > 0 and not wanted.marks_expired:
        _log.warning("bucket_marks_expired", extra={"bucket": wanted.name})
    if found.max_msgs_per_subject != 1:
        _log.warning("bucket_has_history", extra={"bucket": wanted.name, "history": found.max_msgs_per_subject})


def stream_differences(wanted: BucketConfig, found: js.StreamConfig) -> list[Remark]:
    """Return a remark for each setting that a bucket's stream does not have.

    A default that the link does not give itself was not asked for, so a bucket may differ from it.
    """
    pairs: dict[str, tuple[Any, Any, Any]] = {
        "REPLICAS": (wanted.replicas, found.num_replicas, 1),
        "STORAGE": (wanted.storage, found.storage, "file"),
        "TTL": (wanted.ttl_seconds, found.max_age // NANOSECONDS, 0),
        "EXPIRY_MARKERS": (wanted.marks_expired, found.subject_delete_marker_ttl > 0, False),
        "MAX_BYTES": (wanted.max_bytes, found.max_bytes, -1),
        "MAX_VALUE_SIZE": (wanted.max_value_bytes, found.max_msg_size, -1),
    }
    return [
        Remark(name, f"{text_of(want)} is asked for, but the bucket has {text_of(have)}")
        for name, (want, have, default) in pairs.items()
        if want != have and (name in wanted.given or want != default)
    ]
