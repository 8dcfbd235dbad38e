"""The settings of a bucket, as a person gives them and as the server reports them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from provider.nats.buckets import STREAM_PREFIX


@dataclass(frozen=True, slots=True)
class Republish:
    """The subject to which the server republishes writes. `source` is a pattern of subjects; "" means all of them."""

    destination: str
    source: str = ""
    is_headers_only: bool = False


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """The settings of a new bucket. -1, 0 and "" mean that a limit or a feature is absent.

    Attributes:
        history: Number of revisions kept of each key.
        ttl_seconds: Maximum age of every value.
        cluster: Cluster whose servers store the replicas.
        tags: Tags that each of these servers must have.
        marker_ttl_seconds: Time for which the server keeps the marker of an expired key.
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
    """The server's report on a bucket. Durations are in nanoseconds, sizes in bytes; `state` counts markers too.

    Attributes:
        pages_bytes: Size of the stream of its pages, in a list of buckets.
    """

    config: _Config
    state: _State
    created: str = ""
    cluster: _Cluster | None = None
    pages_bytes: int = 0

    @property
    def name(self) -> str:
        return self.config.name.removeprefix(STREAM_PREFIX)


class BucketStatus(Struct, frozen=True):
    """A bucket, and the way its keys expire.

    Attributes:
        expiry_reason: Reason the server does not remove expired values, so that only the provider and this command hide
            them; "" if the server does remove them.
        unusable: Reason the bucket cannot be used, naming a setting of its stream; "" if it can.
        ignored: Options that were given and that the server ignored.
        pages: The stream of the pages of large values; `None` before the first large value.
        pages_unusable: Reason that stream takes no pages; "" if it does.
    """

    info: BucketInfo
    expiry_reason: str
    unusable: str = ""
    ignored: tuple[str, ...] = ()
    pages: BucketInfo | None = None
    pages_unusable: str = ""
