"""The stream of a bucket's pages: its name, its configuration, and the mark by which it is known."""

from __future__ import annotations

from typing import Any

from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.nats.buckets import TTL_LEVEL, key_subject, stream_name
from provider.nats.jetstream import StreamConfig

_SUFFIX = "=pages"
"""No bucket of a link ends in this: `BUCKET` takes no equals sign, and the default name has none."""

_MARK = "keyvalue-nats.pages-of"
"""Key in the metadata of a stream of pages; its value is the name of the bucket."""


def pages_bucket(bucket: str) -> str:
    """Return the name under which the pages of a bucket are stored, without the `KV_` of their stream.

    Their subjects are those of a bucket too, so that they pass wherever a bucket does: through leaf nodes, between domains.
    """
    return bucket + _SUFFIX


def bucket_of_pages(stream: str) -> str:
    """Return the name of the bucket whose pages a stream would have by its name, or "" for any other stream."""
    prefix = stream_name("")
    is_of_pages = stream.startswith(prefix) and stream.endswith(_SUFFIX)
    return stream.removeprefix(prefix).removesuffix(_SUFFIX) if is_of_pages else ""


def pages_config(bucket: str, found: StreamConfig, level: int) -> dict[str, Any]:
    """Return the configuration for the pages of a bucket.

    Pages have no maximum age: a page may belong to a value that was written long after it.

    Args:
        bucket: Name of the bucket.
        found: The configuration of the bucket's stream, whose replicas, storage, placement and size count here too.
        level: The server's API level; it does not know fields of a later one.
    """
    name = pages_bucket(bucket)
    config: dict[str, Any] = {
        "name": stream_name(name),
        "description": _description(bucket),
        "subjects": [key_subject(name, ">")],
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": found.max_bytes,
        "max_age": 0,
        "max_msg_size": -1,
        "storage": found.storage,
        "discard": "new",
        "num_replicas": found.num_replicas,
        "deny_delete": True,
        "allow_direct": True,
        # Unknown to nats-server before 2.10, which leaves it out: there the description is the mark.
        "metadata": {_MARK: bucket},
    }
    if found.placement is not None:
        config["placement"] = found.placement
    if level >= TTL_LEVEL:
        config["allow_msg_ttl"] = True
    return config


def reason_not_to_use(bucket: str, pages: StreamConfig) -> str:
    """Return the reason why a stream is not that of a bucket's pages, or loses them; "" if it may be used."""
    is_marked = (pages.metadata or {}).get(_MARK) == bucket or pages.description == _description(bucket)
    if not is_marked or pages.subjects != [key_subject(pages_bucket(bucket), ">")]:
        return f"stream {pages.name!r} exists, but it is not marked as the one for the pages of bucket {bucket!r}"
    if pages.max_age:
        return f"stream {pages.name!r} has max_age, so it loses pages of values that are still there"
    return unmet_requirement(pages)


def reason_not_to_write(bucket: StreamConfig, pages: StreamConfig) -> str:
    """Return the reason why a bucket's values must not depend on a stream of pages; "" if they may.

    A value lasts as long as the weaker of the two streams.
    """
    if pages.num_replicas < bucket.num_replicas:
        found, wanted = pages.num_replicas, bucket.num_replicas
        return f"stream {pages.name!r} has {found} replicas, fewer than the {wanted} of its bucket; edit the stream"
    if pages.storage == "memory" and bucket.storage != "memory":
        return f"stream {pages.name!r} is in memory, but its bucket is in files"
    return ""


def _description(bucket: str) -> str:
    return f"Pages of bucket {bucket} (keyvalue-nats)"
