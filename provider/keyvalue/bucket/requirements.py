"""The settings that the stream of a bucket must have, whoever made it.

Source: nats-server server/stream.go (retention, discard policy), ADR-49 (counters).
"""

from __future__ import annotations

from typing import Any, Protocol


class StreamSettings(Protocol):
    """The settings of a stream that `unmet_requirement` looks at, as in `jetstream.StreamConfig`."""

    @property
    def name(self) -> str: ...
    @property
    def retention(self) -> str: ...
    @property
    def discard(self) -> str: ...
    @property
    def discard_new_per_subject(self) -> bool: ...
    @property
    def no_ack(self) -> bool: ...
    @property
    def subject_transform(self) -> Any: ...
    @property
    def allow_msg_counter(self) -> bool: ...


def unmet_requirement(config: StreamSettings) -> str:
    """Return the setting for which a stream cannot serve as a bucket, with the reason, or "" for a usable one.

    These streams acknowledge writes that nobody can read later, or take none. A setting that only forbids some operations
    is not among them: see `Traits`.
    """
    stream = f"stream {config.name!r} has"
    if config.retention != "limits":
        return f"{stream} retention {config.retention}, so acknowledged values are lost"
    if config.no_ack:
        return f"{stream} no_ack, so it does not acknowledge writes"
    if config.subject_transform is not None:
        return f"{stream} subject_transform, so it stores values under other names"
    if config.allow_msg_counter:
        return f"{stream} allow_msg_counter, so it takes only the server's own counters"
    if config.discard_new_per_subject:
        return f"{stream} discard_new_per_subject, so it does not take another value for a key"
    if config.discard == "old":
        limits = [name for name in ("max_bytes", "max_msgs") if getattr(config, name) > 0]
        if limits:
            return f"{stream} discard old with {limits[0]}, so it deletes values to make room for others"
    return ""
