"""The settings of a store that several links share. Pure.

A setting that any link gives counts, whatever the order of the links. Of two links that contradict each other the first one
wins, and both are told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec import structs

from provider.keyvalue.given_values import Remark, text_of
from provider.keyvalue.link_config import BucketConfig, CacheConfig

_FIELDS = {
    "REPLICAS": "replicas",
    "STORAGE": "storage",
    "TTL": "ttl_seconds",
    "EXPIRY_MARKERS": "marks_expired",
    "PAGED": "paged",
    "MAX_KEYS": "max_keys",
    "MAX_BYTES": "max_bytes",
    "MAX_VALUE_SIZE": "max_value_bytes",
    "REPLAY_HEARTBEAT_SECS": "heartbeat_seconds",
    "JOIN_WAIT_SECS": "join_wait_seconds",
    "FORGET_SECS": "forget_seconds",
}
"""Link value -> field of `BucketConfig` or `CacheConfig`. The other fields are the identity of the store."""

StoreConfig = TypeVar("StoreConfig", BucketConfig, CacheConfig)


def joined_settings(configs: Iterable[StoreConfig]) -> StoreConfig:
    """Return the settings of a store.

    Args:
        configs: Settings of its links, at least one, the first link first.
    """
    first, *others = configs
    joined = first
    for other in others:
        added = (other.given - joined.given) & _FIELDS.keys()
        if added:
            fields = {_FIELDS[name]: getattr(other, _FIELDS[name]) for name in added}
            joined = structs.replace(joined, given=joined.given | added, **fields)
        # A link with CREATE=never waits for the bucket; it does not keep another link from creating it.
        if getattr(other, "is_created", False):
            joined = structs.replace(joined, is_created=True)
    return joined


def contradictions(config: StoreConfig, others: Iterable[StoreConfig]) -> list[Remark]:
    """Return a remark for each setting of one link that another link of the store gives with another value."""
    remarks: dict[str, Remark] = {}
    for other in others:
        for name in config.given & other.given & _FIELDS.keys():
            ours, theirs = getattr(config, _FIELDS[name]), getattr(other, _FIELDS[name])
            if ours != theirs and name not in remarks:
                reason = f"{text_of(ours)} is asked for, but {text_of(theirs)} by another link of the same store"
                remarks[name] = Remark(name, reason)
    return [remarks[name] for name in sorted(remarks)]
