"""A bucket as a person asks for it, and as a server tells of it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from provider.nats.buckets import STREAM_PREFIX


@dataclass(frozen=True, slots=True)
class Republish:
    """Where a server sends a copy of what is written; `source` is a pattern of subjects, "": all."""

    destination: str
    source: str = ""
    is_headers_only: bool = False


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """How a bucket is made; -1, 0 and "" mean without.

    Attributes:
        history: How many revisions of a key are kept.
        ttl_seconds: Greatest age of any value.
        cluster: Where its replicas are to be; so are `tags`, which their servers have all of.
        marker_ttl_seconds: How long the server marks a key whose value has expired.
    """

    name: str
    history: int = 1
    ttl_seconds: int = 0
    replicas: int = 1
    storage: str = "file"
    max_bytes: int = -1
    max_value_bytes: int = -1
    description: str = ""
    is_compressed: bool = False
    cluster: str = ""
    tags: tuple[str, ...] = ()
    marker_ttl_seconds: int = 0
    republish: Republish | None = None


class _Placement(Struct, frozen=True):
    cluster: str = ""
    tags: list[str] = []


class _Republished(Struct, frozen=True):
    src: str = ""
    dest: str = ""
    headers_only: bool = False


class _Config(Struct, frozen=True):
    name: str
    description: str = ""
    storage: str = "file"
    compression: str = "none"
    num_replicas: int = 1
    max_msgs_per_subject: int = -1
    max_bytes: int = -1
    max_msg_size: int = -1
    max_age: int = 0
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: int = 0
    sealed: bool = False
    placement: _Placement | None = None
    republish: _Republished | None = None


class _State(Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    last_seq: int = 0
    last_ts: str = ""
    num_subjects: int = 0


class _Replica(Struct, frozen=True):
    name: str = ""
    current: bool = False
    offline: bool = False
    lag: int = 0


class _Cluster(Struct, frozen=True):
    name: str = ""
    leader: str = ""
    replicas: list[_Replica] | None = None


class BucketInfo(Struct, frozen=True):
    """What a server tells of a bucket. Times in nanoseconds, sizes in bytes; `state` counts markers as well."""

    config: _Config
    state: _State
    created: str = ""
    cluster: _Cluster | None = None

    @property
    def name(self) -> str:
        return self.config.name.removeprefix(STREAM_PREFIX)


class BucketStatus(Struct, frozen=True):
    """A bucket and how the keys in it expire.

    Attributes:
        expiry_reason: Why the server does not remove a value whose time has come, so that only the provider and this
            command hide it; "": it does.
        ignored: Settings that were asked for and that the server does not know.
    """

    info: BucketInfo
    expiry_reason: str
    ignored: tuple[str, ...] = ()
