"""The configuration of a link, made from its link values: its store, its connection, its watch. Pure.

`link_values` has the name and the form of each value. This module knows how values depend on each other. It does not know
where a value was given.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from msgspec import Struct

from contracts.secret import Secret
from provider import errors
from provider.keyvalue import link_forms as form
from provider.keyvalue.keys import encode_key, encode_part
from provider.keyvalue.link_values import (
    LINK_VALUES,
    Backend,
    BucketArgument,
    Consistency,
    Paged,
    ReplicationAuth,
    SettingGroup,
)
from provider.nats.settings import ConnectionSettings


class BucketConfig(Struct, frozen=True):
    """The bucket of a link, and the settings that it is created with. -1, or 0 of a duration: no limit.

    Attributes:
        name: Name of the bucket, without the `KV_` of its stream.
        is_created: True if the provider creates a bucket that does not exist.
        marks_expired: True if the server writes a marker when a value expires, so that watchers are told. A value
            written at that moment may be lost.
        paged: Whether large values get pages.
        given: Names of the link values that the link itself gives, without those that only have a default.
    """

    name: str
    is_created: bool = True
    replicas: int = 1
    storage: str = "file"
    ttl_seconds: int = 0
    max_bytes: int = -1
    max_value_bytes: int = -1
    marks_expired: bool = False
    paged: Paged = Paged.AUTO
    given: frozenset[str] = frozenset()


class CacheConfig(Struct, frozen=True):
    """The cache of a link. Replicas with equal subjects are one cache. 0: no limit.

    Attributes:
        state_subject: Subject on which replicas publish their changes.
        replay_subject: Subject on which a replica is asked for changes that another one lacks; its id follows.
        auth: Proof that replicas demand of each other.
        heartbeat_seconds: Time between two heartbeats of a replica.
        max_keys: Maximum number of keys.
        max_bytes: Maximum size of all keys and values.
        max_value_bytes: Maximum size of one text, member or element.
        join_wait_seconds: Maximum time for which a new replica holds back its answers until its first exchange.
        forget_seconds: Time for which deletions are remembered for an absent replica.
        key: Text that the replicas share, from which they make the key of their signatures; "": the cluster's key.
        given: As in `BucketConfig`.
    """

    state_subject: str
    replay_subject: str
    auth: ReplicationAuth
    heartbeat_seconds: int
    max_keys: int
    max_bytes: int
    max_value_bytes: int
    join_wait_seconds: int
    forget_seconds: int
    key: Secret = Secret("")
    given: frozenset[str] = frozenset()


class WatchConfig(Struct, frozen=True):
    """The changes that the actor is told of.

    Attributes:
        puts: Patterns of the keys whose new values are told, as bucket keys in the form of subjects.
        ends: Patterns of the keys of which it is told that they have no value any more.
        tries: Number of calls with one change after which it becomes a dead letter.
    """

    puts: tuple[str, ...]
    ends: tuple[str, ...]
    tries: int

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns; without any, the actor is told of nothing."""
        return tuple(dict.fromkeys(self.puts + self.ends))


class LinkConfig(Struct, frozen=True):
    """Everything that a link's values decide. Only the one of `bucket` and `cache` that `backend` names is used."""

    backend: Backend
    connection: ConnectionSettings
    bucket: BucketConfig
    cache: CacheConfig
    consistency: Consistency
    key_prefix: str
    watch: WatchConfig
    bucket_argument: BucketArgument = BucketArgument.CHECK

    @property
    def store_name(self) -> str:
        """The name that operators know the store by: the bucket, or the cache's subject."""
        return self.cache.state_subject if self.backend is Backend.CACHE else self.bucket.name

    def opens_by(self, name: str, link_name: str) -> bool:
        """Tell whether a component may open the link's store by a name."""
        return self.bucket_argument is BucketArgument.IGNORE or name in ("", "default", link_name, self.store_name)


_CREDENTIALS = ("CREDS_FILE", "CLIENT_JWT", "CLIENT_SEED", "NKEY_SEED", "TOKEN", "USER", "PASSWORD")
_PAIRS = (("CLIENT_JWT", "CLIENT_SEED"), ("USER", "PASSWORD"), ("TLS_CERT_FILE", "TLS_KEY_FILE"))
"""Values that are of no use without each other."""


def parse_link(
    values: Mapping[str, str],
    *,
    lattice: str,
    link_name: str,
    lattice_connection: ConnectionSettings,
    own: Collection[str] = (),
) -> LinkConfig:
    """Turn canonical values into a link's configuration.

    Args:
        values: Texts by canonical name, all sources merged.
        lattice: Name of the lattice, for derived defaults.
        link_name: Name of the link, for derived defaults.
        lattice_connection: Connection of a link that gives no connection value of its own.
        own: Names of the values that the link itself gives; the others are defaults.

    Raises:
        errors.LinkError: A value cannot be used. The error names the setting and the expected form, and never shows the value.
    """
    given: dict[str, Any] = {}
    for name, text in values.items():
        try:
            given[name] = LINK_VALUES[name].parse(text)
        except ValueError as error:
            raise errors.LinkError(name, str(error)) from None
    of_bucket = {**_defaults(Backend.BUCKET), **given}
    of_cache = {**_defaults(Backend.CACHE), **given}
    return LinkConfig(
        watch=_watch(of_bucket),
        backend=Backend(of_bucket["BACKEND"]),
        connection=_connection(given, lattice_connection),
        bucket=_bucket(of_bucket, lattice, link_name, _of_group(own, SettingGroup.BUCKET)),
        cache=_cache(of_cache, lattice, link_name, _of_group(own, SettingGroup.CACHE)),
        consistency=Consistency(of_bucket["CONSISTENCY"]),
        key_prefix=given.get("KEY_PREFIX", ""),
        bucket_argument=BucketArgument(of_bucket["BUCKET_ARGUMENT"]),
    )


@functools.cache  # parsing the texts takes as long as all else that is done for a link
def _defaults(backend: Backend) -> Mapping[str, Any]:
    """Return the default of each value that has one which does not depend on the link."""
    texts = {name: value.default_for(backend) for name, value in LINK_VALUES.items()}
    return {name: LINK_VALUES[name].parse(text) for name, text in texts.items() if text}


def _of_group(names: Collection[str], group: SettingGroup) -> frozenset[str]:
    """Return the names of values that concern one kind of store."""
    return frozenset(name for name in names if LINK_VALUES[name].group in (SettingGroup.STORE, group))


def _bucket(values: Mapping[str, Any], lattice: str, link_name: str, given: frozenset[str]) -> BucketConfig:
    derived = LINK_VALUES["BUCKET"].derived_default.format(lattice=lattice, link_name=link_name)
    return BucketConfig(
        name=values.get("BUCKET", re.sub(r"[^A-Za-z0-9_-]", "_", derived)),
        is_created=values["CREATE"] in ("always", "true"),
        paged=Paged(values["PAGED"]),
        replicas=values["REPLICAS"],
        storage=values["STORAGE"],
        ttl_seconds=values["TTL"],
        max_bytes=values["MAX_BYTES"],
        max_value_bytes=values["MAX_VALUE_SIZE"],
        marks_expired=values["EXPIRY_MARKERS"] == "true",
        given=given,
    )


def _cache(values: Mapping[str, Any], lattice: str, link_name: str, given: frozenset[str]) -> CacheConfig:
    def subject(name: str) -> str:
        derived = LINK_VALUES[name].derived_default.format(lattice=_token(lattice), link_name=_token(link_name))
        found: str = values.get(name, derived)
        return found

    return CacheConfig(
        state_subject=subject("STATE_REPL_SUBJECT"),
        replay_subject=subject("REPLAY_REQ_SUBJECT"),
        auth=ReplicationAuth(values["REPLICATION_AUTH"]),
        key=values.get("REPLICATION_KEY", Secret("")),
        heartbeat_seconds=values["REPLAY_HEARTBEAT_SECS"],
        max_keys=values["MAX_KEYS"],
        max_bytes=max(values["MAX_BYTES"], 0),
        max_value_bytes=max(values["MAX_VALUE_SIZE"], 0),
        join_wait_seconds=values["JOIN_WAIT_SECS"],
        forget_seconds=values["FORGET_SECS"],
        given=given,
    )


def _token(name: str) -> str:
    """Return a name as one token of a subject. Different names have different tokens."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), name) or "="


def _watch(values: Mapping[str, Any]) -> WatchConfig:
    given: tuple[str, ...] = values.get("WATCH", ())
    if given and values["BACKEND"] == Backend.CACHE.value:
        raise errors.LinkError("WATCH", "a cache cannot be watched, only a bucket")

    def without(kind: str) -> tuple[str, ...]:
        wanted = (form.keys_of(pattern) for pattern in given if not pattern.startswith(kind))
        return tuple(dict.fromkeys(_bucket_pattern(pattern, values.get("KEY_PREFIX", "")) for pattern in wanted))

    return WatchConfig(without(form.ENDS), without(form.NEW_VALUES), values["WATCH_TRIES"])


def _bucket_pattern(pattern: str, key_prefix: str) -> str:
    """Return the pattern of bucket keys that matches the same keys as a pattern of an actor's keys."""
    try:
        prefix = encode_key("x", key_prefix).removesuffix("x")
        words = [word if word in ("*", ">") else encode_part(word) for word in pattern.split(".")]
    except errors.StoreError as error:
        raise errors.LinkError("WATCH", str(error)) from None
    if prefix and not prefix.endswith("."):
        raise errors.LinkError("WATCH", "a KEY_PREFIX that ends in a dot is needed with it")
    return prefix + ".".join(words)


def _connection(given: Mapping[str, Any], lattice: ConnectionSettings) -> ConnectionSettings:
    """Return the connection of a link. The lattice's credentials are sent to the lattice's servers only."""
    if not any(LINK_VALUES[name].group is SettingGroup.CONNECTION for name in given):
        return lattice
    for name, needed in _PAIRS:
        if (name in given) != (needed in given):
            missing, present = (needed, name) if name in given else (name, needed)
            raise errors.LinkError(missing, f"not given, but needed with {present}")
    is_own = "URL" in given or any(name in given for name in _CREDENTIALS)
    return replace(
        _own_connection(given, lattice) if is_own else lattice,
        tls_ca=given.get("TLS_CA", ""),
        tls_ca_file=given.get("TLS_CA_FILE", ""),
        tls_cert_file=given.get("TLS_CERT_FILE", ""),
        tls_key_file=given.get("TLS_KEY_FILE", ""),
        js_domain=given.get("JS_DOMAIN", "" if "URL" in given else lattice.js_domain),
    )


def _own_connection(given: Mapping[str, Any], lattice: ConnectionSettings) -> ConnectionSettings:
    """Return a connection with nothing of the lattice but, where the link gives no URL, its servers and their TLS."""
    return ConnectionSettings(
        servers=given.get("URL", lattice.servers),
        creds_file=given.get("CREDS_FILE", ""),
        client_jwt=given.get("CLIENT_JWT", Secret("")),
        client_seed=given.get("CLIENT_SEED", given.get("NKEY_SEED", Secret(""))),
        token=given.get("TOKEN", Secret("")),
        user=given.get("USER", ""),
        password=given.get("PASSWORD", Secret("")),
        is_tls="URL" not in given and lattice.is_tls,
        root_files=() if "URL" in given else lattice.root_files,
    )
