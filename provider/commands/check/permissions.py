"""The permissions that a provider needs, as the operations page lists them, and the weight of each that is missing. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from provider.commands.check.findings import State
from provider.keyvalue.bucket.pages.pages_settings import pages_bucket
from provider.keyvalue.keys import encode_key
from provider.keyvalue.link_config import BucketConfig, CacheConfig
from provider.nats.buckets import key_subject, stream_name
from provider.nats.jetstream import StreamConfig

_ANY = "keyvalue-nats-check"
"""The token that stands for every wildcard when a publication is probed."""

_SMALL_VALUE_BYTES = 4096
"""A bucket whose values are at most this large may have no room for a marker, which repeats its key in headers."""


class Need(enum.Enum):
    """The reason for which a permission is needed. The text completes `needed ...`."""

    ALWAYS = "always"
    CONSUMERS = "for the sweep of expired values, ListKeys and WATCH"
    WATCH = "for WATCH"
    CACHE = "for the cache"
    RECORDS = "to find links that were put while no provider was running"
    LONG_PAYLOADS = "for payloads over 900 KB"
    STATISTICS = "for statistics, the exporter and top"
    CREATING = "to make a bucket that does not exist"
    LEADER_READS = "if the bucket has several replicas, history, a mirror, or no allow_direct"
    NO_ROOM = "if there may be no room for the marker of a deleted key"
    PAGES = "for values that do not fit into one message"
    ALL_PAGES = "for values that do not fit into one message, in a bucket of several replicas"


class Permission(NamedTuple):
    """One permission of a user.

    Attributes:
        verb: `publish` or `subscribe`.
        pattern: The subjects.
        need: The reason.
        probe: The subject to publish to as a test; "": made from the pattern.
    """

    verb: str
    pattern: str
    need: Need
    probe: str = ""

    @property
    def subject(self) -> str:
        """A subject that the permission covers: of a subscription the pattern itself, as the provider subscribes to it."""
        if self.verb == "subscribe":
            return self.pattern
        tokens = self.pattern.split(".")
        return self.probe or ".".join(_ANY if token in ("*", ">") else token for token in tokens)


def _all(verb: str, need: Need, *patterns: str) -> list[Permission]:
    return [Permission(verb, pattern, need) for pattern in patterns]


def inbox() -> list[Permission]:
    return _all("subscribe", Need.ALWAYS, "_INBOX.>")


_SERVICE = ("$SRV.PING", "$SRV.PING.>", "$SRV.INFO", "$SRV.INFO.>", "$SRV.STATS", "$SRV.STATS.>")


def of_lattice(lattice: str, provider: str, link_name: str) -> list[Permission]:
    """Return the permissions for a lattice of hosts of 0.x."""
    data, cache, objects = f"KV_LATTICEDATA_{lattice}", f"LATTICECACHE_{lattice}", f"OBJ_{lattice}"
    reads = ("$JS.API.STREAM.INFO", "$JS.API.STREAM.MSG.GET")
    rpc = f"wasmbus.rpc.{lattice}.{provider}.{link_name}"
    return [
        *_all("subscribe", Need.ALWAYS, rpc, f"{rpc}.>"),
        *_all("subscribe", Need.STATISTICS, *_SERVICE),
        *_all("publish", Need.RECORDS, *(f"{api}.{stream}" for stream in (data, cache) for api in reads)),
        *_all("subscribe", Need.RECORDS, f"$KV.LATTICEDATA_{lattice}.*", f"lc.{lattice}.linkdefs.*"),
        *_all("publish", Need.LONG_PAYLOADS, f"$JS.API.STREAM.CREATE.{objects}"),
        *_all("publish", Need.LONG_PAYLOADS, f"$JS.API.STREAM.MSG.GET.{objects}", f"$JS.API.STREAM.PURGE.{objects}"),
        *_all("publish", Need.LONG_PAYLOADS, f"$O.{lattice}.>"),
    ]


def of_lattice_of_components(lattice: str, provider: str) -> list[Permission]:
    """Return the permissions for a lattice of hosts of 1.x."""
    data = f"KV_LATTICEDATA_{lattice}"
    return [
        *_all("publish", Need.ALWAYS, "_INBOX.>"),
        *_all("subscribe", Need.ALWAYS, f"{lattice}.{provider}.wrpc.>", f"wasmbus.rpc.{lattice}.{provider}.>"),
        *_all("subscribe", Need.ALWAYS, f"wasmbus.rpc.{lattice}.*.linkdefs.put"),
        *_all("subscribe", Need.STATISTICS, *_SERVICE),
        *_all("publish", Need.RECORDS, f"$JS.API.STREAM.INFO.{data}", f"$JS.API.STREAM.MSG.GET.{data}"),
        *_all("publish", Need.RECORDS, f"$JS.API.STREAM.MSG.GET.KV_CONFIGDATA_{lattice}"),
    ]


def of_bucket(config: BucketConfig, key_prefix: str = "") -> list[Permission]:
    """Return the permissions for a bucket."""
    name, stream = config.name, stream_name(config.name)
    written = key_subject(name, encode_key(_ANY, key_prefix))
    return [
        *_all("publish", Need.ALWAYS, "$JS.API.INFO", f"$JS.API.STREAM.INFO.{stream}"),
        *_all("publish", Need.CREATING, f"$JS.API.STREAM.CREATE.{stream}"),
        *_all("publish", Need.ALWAYS, f"$JS.API.DIRECT.GET.{stream}"),
        Permission("publish", f"$JS.API.DIRECT.GET.{stream}.>", Need.ALWAYS, f"$JS.API.DIRECT.GET.{stream}.{written}"),
        *_all("publish", Need.LEADER_READS, f"$JS.API.STREAM.MSG.GET.{stream}"),
        Permission("publish", key_subject(name, ">"), Need.ALWAYS, written),
        *_all("publish", Need.NO_ROOM, f"$JS.API.STREAM.PURGE.{stream}"),
        *_consumers(stream, Need.CONSUMERS),
        *_pages(name),
    ]


def _consumers(stream: str, need: Need) -> list[Permission]:
    api = "$JS.API.CONSUMER"
    return _all("publish", need, f"{api}.CREATE.{stream}", f"{api}.MSG.NEXT.{stream}.>", f"{api}.DELETE.{stream}.>")


def _pages(bucket: str) -> list[Permission]:
    name = pages_bucket(bucket)
    stream, api = stream_name(name), "$JS.API.STREAM"
    return [
        *_all("publish", Need.PAGES, f"{api}.INFO.{stream}", f"$JS.API.DIRECT.GET.{stream}.>", key_subject(name, ">")),
        *_all("publish", Need.PAGES, f"{api}.CREATE.{stream}", f"{api}.PURGE.{stream}"),
        *_consumers(stream, Need.PAGES),
        *_all("publish", Need.PAGES, f"{api}.MSG.GET.{stream}", f"{api}.MSG.GET.{stream_name(bucket)}"),
        *_all("publish", Need.ALL_PAGES, f"$JS.API.DIRECT.GET.{stream}"),
    ]


def of_watch(bucket: str, lattice: str, *, is_of_components: bool) -> list[Permission]:
    """Return the permissions for a link with WATCH, beside those of its bucket."""
    stream, api = stream_name(bucket), "$JS.API.CONSUMER"
    called = f"{lattice}.*.wrpc.>" if is_of_components else f"wasmbus.rpc.{lattice}.*"
    dead = (f"keyvalue.dead.{lattice}.>", f"$JS.API.STREAM.CREATE.KEYVALUE_DEAD_{lattice}")
    consumer = (f"{api}.INFO.{stream}.>", f"{api}.CREATE.{stream}.>", f"$JS.ACK.{stream}.>")
    return _all("publish", Need.WATCH, *consumer, called, *dead)


def of_cache(config: CacheConfig) -> list[Permission]:
    """Return the permissions for a cache."""
    subjects = config.state_subject, f"{config.replay_subject}.*"
    return [*_all("publish", Need.CACHE, *subjects), *_all("subscribe", Need.CACHE, *subjects)]


def in_domain(permission: Permission, domain: str) -> Permission:
    """Return the permission that is needed instead when JetStream is in another domain."""
    if not domain or permission.verb == "subscribe":
        return permission
    pattern, probe = permission.pattern, permission.probe
    if pattern.startswith("$JS.ACK."):
        return permission._replace(pattern="$JS.ACK.>", probe=permission.subject)
    return permission._replace(pattern=_moved(pattern, domain), probe=_moved(probe, domain))


def _moved(subject: str, domain: str) -> str:
    if subject.startswith("$KV."):
        return f"$JS.{domain}.API.{subject}"
    return subject.replace("$JS.API.", f"$JS.{domain}.API.", 1) if subject.startswith("$JS.API.") else subject


def weights(
    bucket: StreamConfig | None, pages: StreamConfig | None, *, is_created: bool, is_known: bool
) -> Mapping[Need, State]:
    """Return the weight of a permission that is missing, by its need.

    Args:
        bucket: The bucket's stream; `None` without one.
        pages: The stream of its pages; `None` without one.
        is_created: Whether the provider may make the bucket.
        is_known: Whether the server could be asked for the streams. Where it could not, more may be needed than is known.
    """
    has_copies = bucket is not None and bucket.num_replicas > 1
    asks_leader = bucket is not None and (has_copies or bucket.max_msgs_per_subject != 1 or not bucket.allow_direct)
    is_small = bucket is not None and 0 < bucket.max_msg_size < _SMALL_VALUE_BYTES
    may_lack = State.NOTE if is_known else State.WARNING
    of_pages = State.FAILED if pages is not None else State.NOTE
    creating = State.FAILED if bucket is None else State.WARNING
    return {
        Need.ALWAYS: State.FAILED,
        Need.CONSUMERS: State.FAILED,
        Need.WATCH: State.FAILED,
        Need.CACHE: State.FAILED,
        Need.RECORDS: State.WARNING,
        Need.LONG_PAYLOADS: State.WARNING,
        Need.STATISTICS: State.WARNING,
        Need.CREATING: creating if is_created else State.NOTE,
        Need.LEADER_READS: State.FAILED if asks_leader else may_lack,
        Need.NO_ROOM: State.WARNING if has_copies or is_small else may_lack,
        Need.PAGES: of_pages,
        Need.ALL_PAGES: of_pages if has_copies else State.NOTE,
    }
