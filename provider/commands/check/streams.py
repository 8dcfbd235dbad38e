"""The stream of a bucket and the stream of its pages, against the link's settings and the provider's needs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from provider.commands.check.account import NEARLY_FULL, Account, no_room
from provider.commands.check.findings import Finding, failed, note, ok, warning
from provider.keyvalue.bucket.pages.pages_settings import reason_not_to_use, reason_not_to_write
from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.stream import SMALLEST_REPLICATED_BYTES, stream_differences
from provider.keyvalue.link_config import BucketConfig
from provider.nats.buckets import NANOSECONDS, TTL_LEVEL, key_subject
from provider.nats.jetstream import StreamConfig, StreamInfo

_EDIT = "nats stream edit"


def missing_bucket(config: BucketConfig, account: Account | None, *, is_alone: bool) -> Finding:
    """Return a finding on a bucket that does not exist.

    Args:
        config: The link's settings.
        account: The account; `None` if it is not known.
        is_alone: Whether the server is known to be in no cluster.
    """
    about = f"bucket {config.name}"
    if not config.is_created:
        advice = "Make it with `keyvalue-nats kv add`, or correct BUCKET."
        return failed(about, "does not exist, and CREATE is never", advice)
    if is_alone and config.replicas > 1:
        text = f"does not exist, and cannot be made: REPLICAS is {config.replicas}, and the server is in no cluster"
        return warning(about, text, "Correct REPLICAS, or make the servers a cluster.")
    if account is not None and (text := no_room(account, config.replicas, config.storage, config.max_bytes)):
        return failed(about, f"does not exist, and cannot be made: {text}", "Raise the account's limit.")
    return note(about, "does not exist; the provider makes it when the link is opened")


def bucket_findings(config: BucketConfig, info: StreamInfo, level: int) -> Iterator[Finding]:
    """Yield findings on an existing bucket.

    Args:
        config: The link's settings.
        info: The stream.
        level: The server's API level.
    """
    about, found = f"bucket {config.name}", info.config
    faults = list(_faults(config.name, found))
    for fault in faults:
        yield failed(about, fault, f"Make another bucket, or change this one with `{_EDIT}`.")
    if not faults:
        yield ok(about, _shown(info))
    for remark in stream_differences(config, found):
        advice = f"Change the bucket with `{_EDIT}`, or the link: a bucket is used as it is."
        yield warning(about, str(remark), advice)
    yield from _traits(about, config, found, level)
    yield from fullness(about, info)
    yield from replica_findings(about, info)


def pages_findings(bucket: str, of_bucket: StreamConfig, pages: StreamInfo | None) -> Iterator[Finding]:
    """Yield findings on the stream of a bucket's pages; `None`: it does not exist."""
    about = f"pages of {bucket}"
    if pages is None:
        yield note(about, "no stream yet; the provider makes it for the first value that needs pages")
        return
    if reason := reason_not_to_use(bucket, pages.config):
        yield failed(about, reason, "Values that do not fit into one message fail: rename or change that stream.")
        return
    if reason := reason_not_to_write(of_bucket, pages.config):
        yield failed(about, reason, f"Change the stream with `{_EDIT}`: until then no page is written.")
    else:
        yield ok(about, _shown(pages))
    yield from fullness(about, pages)
    yield from replica_findings(about, pages)


def fullness(about: str, info: StreamInfo) -> Iterator[Finding]:
    """Yield a finding for each limit of a stream that is nearly reached."""
    advice = f"Give it room with `{_EDIT}`, delete keys, or run `keyvalue-nats kv compact`."
    limits = (
        ("bytes", info.state.size, info.config.max_bytes),
        ("messages", info.state.messages, info.config.max_msgs),
    )
    for unit, size, most in limits:
        if most > 0 and size >= most * NEARLY_FULL:
            yield warning(about, f"{size} of {most} {unit}: it refuses writes when it is full", advice)


def replica_findings(about: str, info: StreamInfo) -> Iterator[Finding]:
    """Yield findings on replicas that are missing, offline or behind."""
    others = (info.cluster and info.cluster.replicas) or []
    wanted = info.config.num_replicas
    if wanted == 1:
        return
    advice = "Look at the servers with `nats server report jetstream`."
    counts = (
        (wanted - 1 - len(others), "missing"),
        (sum(replica.offline for replica in others), "offline"),
        (sum(not replica.offline and not replica.current for replica in others), "behind the leader"),
    )
    faults = [f"{count} {what}" for count, what in counts if count > 0]
    lost = counts[0][0] + counts[1][0]
    if (wanted - lost) * 2 <= wanted:
        yield failed(about, f"of {wanted} replicas, {' and '.join(faults)}: there is no majority, so no write", advice)
    elif faults:
        yield warning(about, f"of {wanted} replicas, {' and '.join(faults)}", advice)
    else:
        yield ok(about, f"all {wanted} replicas are up to date")


def _faults(bucket: str, found: StreamConfig) -> Iterator[str]:
    """Yield the reasons for which a link with this bucket does not open, or takes no writes."""
    if found.subjects != [key_subject(bucket, ">")]:
        yield f"stream {found.name!r} does not have the subjects of a key-value bucket"
    if reason := unmet_requirement(found):
        yield reason
    if found.num_replicas > 1 and 0 <= found.max_msg_size < SMALLEST_REPLICATED_BYTES:
        yield f"max_msg_size {found.max_msg_size}: several replicas need {SMALLEST_REPLICATED_BYTES} bytes at least"
    if found.sealed:
        yield "is sealed, so it takes no writes"
    if found.mirror is not None:
        yield "is a mirror, so it takes no writes"


def _traits(about: str, config: BucketConfig, found: StreamConfig, level: int) -> Iterator[Finding]:
    """Yield findings on settings that cost something."""
    if found.storage == "memory" and config.storage != "memory" and "STORAGE" not in config.given:
        text = "is in memory, so its values are lost when all its servers restart"
        yield warning(about, text, "Give STORAGE=memory if that is meant, or make a bucket in files.")
    if found.max_age and not config.ttl_seconds and "TTL" not in config.given:
        text = f"has a maximum age, so each value is removed after {found.max_age / NANOSECONDS:g} s"
        yield warning(about, text, f"Give TTL if that is meant, or take it from the stream with `{_EDIT}`.")
    if level >= TTL_LEVEL and not found.allow_msg_ttl:
        text = "allow_msg_ttl is off, so the server removes no expired values; the provider's sweep does, once a minute"
        yield warning(about, text, f"Switch it on with `{_EDIT} --allow-msg-ttl`.")
    if found.subject_delete_marker_ttl > 0 and not config.marks_expired:
        text = "has markers for expired values, so a write at the moment of expiry may be lost"
        yield warning(about, text, "Give EXPIRY_MARKERS=true if that is meant, or take them from the stream.")
    if found.max_msgs_per_subject != 1:
        kept = found.max_msgs_per_subject if found.max_msgs_per_subject > 0 else "all"
        text = (
            f"keeps {kept} revisions of each key, so the server removes no expired values, and reads go to the leader"
        )
        yield warning(about, text, f"Set one message per subject with `{_EDIT}` unless the history is wanted.")
        if not found.allow_rollup_hdrs or found.deny_purge:
            text = "does not let markers remove the history of their keys (allow_rollup_hdrs, deny_purge)"
            yield warning(about, text, f"Switch rollups on with `{_EDIT}`.")
    if not found.allow_direct:
        text = "allow_direct is off, so all reads go to the leader, which takes longer"
        yield warning(about, text, f"Switch it on with `{_EDIT} --allow-direct`.")


def _shown(info: StreamInfo) -> str:
    config, state = info.config, info.state
    most = config.max_bytes if config.max_bytes >= 0 else "unlimited"
    replicas = f"{config.num_replicas} replica" + ("s" if config.num_replicas > 1 else "")
    return (
        f"{replicas}, {config.storage} storage, discard {config.discard}, "
        f"{state.messages} messages, {state.size} of {most} bytes"
    )
