"""Buckets as text for people and JSON objects for programs. Pure: the time zone is an argument."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from provider.commands.kv.bucket_info import BucketInfo, BucketStatus
from provider.commands.kv.rendering import one_line
from provider.nats.buckets import NANOSECONDS
from provider.units import format_bytes, format_seconds

Row = tuple[str, str]
"""Label and text."""


def status_rows(status: BucketStatus) -> list[Row]:
    """Return all properties of a bucket, under the labels of `nats kv info`."""
    info, config = status.info, status.info.config
    rows = [
        ("Bucket Name", info.name),
        ("Description", one_line(config.description.encode())),
        ("History Kept", str(config.max_msgs_per_subject)),
        ("Values Stored", str(info.state.messages)),
        ("Keys", str(info.state.num_subjects)),
        ("Last Revision", str(info.state.last_seq)),
        ("Compressed", "false" if config.compression in ("", "none") else "true"),
        ("Backing Store Kind", "JetStream"),
        ("Bucket Size", format_bytes(info.state.bytes)),
        ("Maximum Bucket Size", _limit(config.max_bytes)),
        ("Maximum Value Size", _limit(config.max_msg_size)),
        ("Maximum Age", format_seconds(config.max_age / NANOSECONDS) if config.max_age else "unlimited"),
        ("Expiry of Keys", _expiry_note(status)),
        ("If the Server Is Killed", _return_note(status)),
        ("Limit Marker TTL", _marker_ttl(config.subject_delete_marker_ttl)),
        ("JetStream Stream", config.name),
        ("Storage", config.storage.capitalize()),
        ("Replicas", str(config.num_replicas)),
        ("Direct Get", "true" if config.allow_direct else "false"),
        ("Sealed", "true" if config.sealed else ""),
        ("Not Usable", status.unusable),
        *_pages_rows(status),
    ]
    if placement := config.placement:
        rows += [("Placement Cluster", placement.cluster), ("Placement Tags", ", ".join(placement.tags))]
    if republish := config.republish:
        label = "Republishing Headers" if republish.headers_only else "Republishing"
        rows.append((label, f"{republish.src} to {republish.dest}"))
    return [row for row in [*rows, *_cluster_rows(info)] if row[1]]


def _pages_rows(status: BucketStatus) -> list[Row]:
    pages = status.pages
    if pages is None:
        return []
    return [
        ("Pages Stream", pages.config.name),
        ("Pages", f"{pages.state.messages} of {format_bytes(pages.state.bytes)} together"),
        ("Pages Not Usable", status.pages_unusable),
    ]


def info_object(info: BucketInfo) -> dict[str, Any]:
    """Return a bucket for programs: sizes in bytes, durations in seconds, -1 or 0 for no limit."""
    config = info.config
    return {
        "bucket": info.name,
        "description": config.description,
        "created": info.created,
        "values": info.state.messages,
        "keys": info.state.num_subjects,
        "bytes": info.state.bytes,
        "last_revision": info.state.last_seq,
        "history": config.max_msgs_per_subject,
        "ttl_seconds": config.max_age / NANOSECONDS,
        "max_bucket_size": config.max_bytes,
        "max_value_size": config.max_msg_size,
        "storage": config.storage,
        "replicas": config.num_replicas,
        "compressed": config.compression not in ("", "none"),
    }


def status_object(status: BucketStatus) -> dict[str, Any]:
    """Return a bucket for programs, including its expiry and placement, which take a second request."""
    config, cluster = status.info.config, status.info.cluster
    found = info_object(status.info) | {
        "expires_by_itself": not status.expiry_reason,
        "marker_ttl_seconds": config.subject_delete_marker_ttl / NANOSECONDS,
        "placement_cluster": config.placement.cluster if config.placement else "",
        "placement_tags": config.placement.tags if config.placement else [],
    }
    if status.unusable:
        found["unusable"] = status.unusable
    if pages := status.pages:
        found["pages"] = {
            "stream": pages.config.name,
            "pages": pages.state.messages,
            "bytes": pages.state.bytes,
            "replicas": pages.config.num_replicas,
        } | ({"unusable": status.pages_unusable} if status.pages_unusable else {})
    if config.republish:
        found["republish"] = {"source": config.republish.src, "destination": config.republish.dest}
    if cluster is not None and cluster.name:
        found |= {"cluster": cluster.name, "leader": cluster.leader}
    return found


BUCKET_COLUMNS = ("Bucket", "Description", "Created", "Size", "Values", "Last Update")


def bucket_row(info: BucketInfo, zone: tzinfo | None) -> list[str]:
    """Return a row under `BUCKET_COLUMNS`."""
    return [
        info.name,
        one_line(info.config.description.encode()),
        _server_time(info.created, zone),
        format_bytes(info.state.bytes + info.pages_bytes),
        str(info.state.messages),
        _server_time(info.state.last_ts, zone) if info.state.last_seq else "never",
    ]


def heading(status: BucketStatus, zone: tzinfo | None) -> str:
    created = _server_time(status.info.created, zone)
    return f"Information for Key-Value Store Bucket {status.info.name} created {created}"


def _server_time(text: str, zone: tzinfo | None) -> str:
    try:
        return f"{datetime.fromisoformat(text[:19] + '+00:00').astimezone(zone):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return ""


def _limit(size: int) -> str:
    return format_bytes(size) if size >= 0 else "unlimited"


def _marker_ttl(nanoseconds: int) -> str:
    return format_seconds(nanoseconds / NANOSECONDS) if nanoseconds else ""


def _return_note(status: BucketStatus) -> str:
    """Return whether removed values may come back when the server is killed. Source: nats-server issue 8505."""
    config = status.info.config
    if not config.allow_msg_ttl:
        return ""
    bound = ", until the maximum age" if config.max_age else ""
    return f"values that other clients replaced by some with a Nats-TTL may come back{bound}; the provider's do not"


def _expiry_note(status: BucketStatus) -> str:
    if not status.expiry_reason:
        return "removed by the server"
    return f"hidden by the provider and by this command, removed later: {status.expiry_reason}"


def _cluster_rows(info: BucketInfo) -> list[Row]:
    if info.cluster is None or not info.cluster.name:
        return []
    rows = [("Cluster", info.cluster.name), ("Leader", info.cluster.leader)]
    for replica in info.cluster.replicas or []:
        words = [replica.name, "current" if replica.current else "outdated"]
        if replica.offline:
            words.append("OFFLINE")
        if replica.lag:
            words.append(f"{replica.lag} operations behind")
        rows.append(("Replica", ", ".join(words)))
    return rows
