"""The table of link values: the name, form, default and meaning of each. Pure.

A link value is a setting that an operator gives with a link. The parser, `keyvalue-nats dev --link-value` and
docs/settings.md all follow this table. It does not know where a value was given, nor what a link becomes with it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from contracts.secret import Secret
from provider.keyvalue import link_forms as form


class Backend(enum.Enum):
    """The kind of store behind a link."""

    BUCKET = "bucket"
    """Durable, in JetStream."""

    CACHE = "cache"
    """In memory, replicated between provider instances over plain subjects."""


class Consistency(enum.Enum):
    """The promise of a read from a replicated bucket."""

    STRONG = "strong"
    """The last acknowledged write, whichever provider made it; an error when that cannot be proven."""

    LEADER = "leader"
    """The value on the stream's leader. A leader that was cut off may answer old values for some seconds."""

    FAST = "fast"
    """The value on any replica, but never older than one that this process has seen."""


class Paged(enum.Enum):
    """The choice of values that get pages."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


class ReplicationAuth(enum.Enum):
    """The proof that replicas of a cache demand of each other."""

    ON = "on"
    """Messages that a key of the cluster has signed."""

    UPGRADE = "upgrade"
    """Signed messages. Values are also pulled from replicas of releases that do not sign."""

    OFF = "off"
    """No proof: every client that may publish on the subjects is believed."""


class BucketArgument(enum.Enum):
    """The treatment of the name with which a component opens its store."""

    CHECK = "check"
    """The name must be one of the link's own."""

    IGNORE = "ignore"
    """Any name opens the store of the link, as under provider-keyvalue-redis."""


class SettingGroup(enum.Enum):
    """The groups of link values, in the order of the documentation."""

    STORE = "store"
    """Of a bucket and of a cache."""

    BUCKET = "bucket"
    CACHE = "cache"
    WATCH = "watch"
    CONNECTION = "connection"


class LinkValue(Struct, frozen=True):
    """One link value.

    Attributes:
        name: The canonical name.
        parse: Turns the text that was given into a value; raises `ValueError` with the expected form.
        meaning: Description for operators, in Markdown.
        example: A text that `parse` takes; of a secret, only its beginning.
        default: A text that means the same as no text; "" without a default.
        cache_default: The default for a cache, where it differs.
        derived_default: Template of a default that is made from the names of lattice and link.
        backend: The only backend that the value is for; `None`: both.
        aliases: Other names.
        is_secret: True if `parse` returns a `Secret`.
    """

    name: str
    group: SettingGroup
    parse: Callable[[str], Any]
    meaning: str
    example: str
    default: str = ""
    cache_default: str = ""
    derived_default: str = ""
    aliases: tuple[str, ...] = ()
    is_secret: bool = False

    @property
    def backend(self) -> Backend | None:
        return _BACKENDS.get(self.group)

    def default_for(self, backend: Backend) -> str:
        """Return the text of the default; "" without a default, or if it is derived."""
        return self.cache_default if self.cache_default and backend is Backend.CACHE else self.default


_BACKENDS = {SettingGroup.BUCKET: Backend.BUCKET, SettingGroup.WATCH: Backend.BUCKET, SettingGroup.CACHE: Backend.CACHE}


_VALUES = (
    LinkValue(
        "BACKEND",
        SettingGroup.STORE,
        form.one_of(*(backend.value for backend in Backend)),
        "The kind of store: `bucket` is durable, in JetStream; `cache` is in memory, replicated between instances.",
        example="cache",
        default="bucket",
    ),
    LinkValue(
        "KEY_PREFIX",
        SettingGroup.STORE,
        str,
        "Text that is put before every key, so that several links can share a store.",
        example="shop.",
    ),
    LinkValue(
        "MAX_BYTES",
        SettingGroup.STORE,
        form.size(2**63 - 1),  # nats-server keeps it in 64 bits with a sign
        "Maximum size of the store, a [size](#durations-and-sizes). `-1` or `0`: no limit. A bucket is given this limit "
        "when it is created.",
        example="512M",
        default="-1",
        cache_default="256M",  # a cache without a limit would end with its process being killed for memory
    ),
    LinkValue(
        "MAX_VALUE_SIZE",
        SettingGroup.STORE,
        form.size(2**31 - 1),  # nats-server keeps it in 32 bits with a sign
        "Maximum size of one value, a [size](#durations-and-sizes). In a bucket: of the message with its headers, given when "
        "the bucket is created; with several replicas at least 256. In a cache: of one text, member or element.",
        example="64K",
        default="-1",
    ),
    LinkValue(
        "BUCKET_ARGUMENT",
        SettingGroup.STORE,
        form.one_of(*(policy.value for policy in BucketArgument)),
        "The names with which a component of a 1.x host may open its store. `check`: none, `default`, the name of the link "
        "and that of the bucket. `ignore`: any.",
        example="ignore",
        default="check",
    ),
    LinkValue(
        "BUCKET",
        SettingGroup.BUCKET,
        form.name(200),  # nats-server takes 255 characters for the name of the stream, which begins with KV_
        "The bucket's name: letters, digits, `_` and `-`. Any other character of the default becomes `_`.",
        example="users",
        derived_default="{lattice}_{link_name}",
    ),
    LinkValue(
        "CREATE",
        SettingGroup.BUCKET,
        form.one_of("always", "never", "true", "false"),
        "`always` or `true`: a bucket that does not exist is created. `never` or `false`: the link waits until it exists.",
        example="never",
        default="always",
        aliases=("ENABLE_BUCKET_AUTO_CREATE",),
    ),
    LinkValue(
        "REPLICAS",
        SettingGroup.BUCKET,
        form.count(1),
        "Number of servers that keep a bucket that is created.",
        example="3",
        default="1",
    ),
    LinkValue(
        "STORAGE",
        SettingGroup.BUCKET,
        form.one_of("file", "memory"),
        "Storage of a bucket that is created: `file` or `memory`.",
        example="memory",
        default="file",
    ),
    LinkValue(
        "TTL",
        SettingGroup.BUCKET,
        form.seconds(0),
        "Maximum age of all values of a bucket that is created, a [duration](#durations-and-sizes). `0`: no limit.",
        example="30d",
        default="0",
    ),
    LinkValue(
        "EXPIRY_MARKERS",
        SettingGroup.BUCKET,
        form.one_of("true", "false"),
        "`true`: nats-server 2.11 and later writes a marker when a value expires, so that watchers are told, in a bucket "
        "that is created with it. A value that is written at the moment of expiry may be lost.",
        example="true",
        default="false",
    ),
    LinkValue(
        "PAGED",
        SettingGroup.BUCKET,
        form.one_of(*(paged.value for paged in Paged)),
        "Whether values that are too large for one message get [pages](paged-values.md). `auto`: where the bucket has no "
        "history. Values with pages are read and changed in any case.",
        example="true",
        default="auto",
    ),
    LinkValue(
        "CONSISTENCY",
        SettingGroup.BUCKET,
        form.one_of(*(consistency.value for consistency in Consistency)),
        "The promise of reads from a bucket with several replicas. `strong`: the last acknowledged write, or an error. "
        "`leader`: what the stream's leader has; during a partition it may be some seconds old. `fast`: what any "
        "replica has, but nothing older than this process has seen.",
        example="fast",
        default="strong",
    ),
    LinkValue(
        "MAX_KEYS",
        SettingGroup.CACHE,
        form.count(0),
        "Maximum number of keys. `0`: no limit.",
        example="100000",
        default="0",
    ),
    LinkValue(
        "STATE_REPL_SUBJECT",
        SettingGroup.CACHE,
        form.subject,
        "Subject on which replicas send each other changes. Caches with the same subject are one cache.",
        example="cache.sessions.state",
        derived_default="kvcache.{lattice}.{link_name}.state",
    ),
    LinkValue(
        "REPLAY_REQ_SUBJECT",
        SettingGroup.CACHE,
        form.subject,
        "Subject on which a replica is asked for changes that another one lacks. A `.` and the replica's id follow it.",
        example="cache.sessions.replay",
        derived_default="kvcache.{lattice}.{link_name}.replay",
    ),
    LinkValue(
        "REPLICATION_AUTH",
        SettingGroup.CACHE,
        form.one_of(*(proof.value for proof in ReplicationAuth)),
        "The proof that replicas demand of each other. `on`: messages signed with a key of the cluster. `upgrade`: a new "
        "instance also takes the values of instances of releases that do not sign, for the time of an upgrade. `off`: "
        "none, every client that may publish on the subjects is believed.",
        example="upgrade",
        default="on",
    ),
    LinkValue(
        "REPLICATION_KEY",
        SettingGroup.CACHE,
        form.passphrase,
        "Text of 16 characters or more that all instances share, to sign their messages with in place of the cluster's key. "
        "Hosts of wasmCloud 1.x give no such key.",
        example="b7GkT2pWq9LmX4sD...",
        is_secret=True,
    ),
    LinkValue(
        "REPLAY_HEARTBEAT_SECS",
        SettingGroup.CACHE,
        form.seconds(1),
        "Time between two heartbeats of a replica, a [duration](#durations-and-sizes). Heartbeats reveal lost messages.",
        example="2",
        default="5",
    ),
    LinkValue(
        "JOIN_WAIT_SECS",
        SettingGroup.CACHE,
        form.seconds(0),
        "Maximum [duration](#durations-and-sizes) for which a new replica holds back its answers until its first exchange "
        "with another replica.",
        example="10s",
        default="0",
    ),
    LinkValue(
        "FORGET_SECS",
        SettingGroup.CACHE,
        form.seconds(1),
        "[Duration](#durations-and-sizes) for which deletions are remembered for an absent replica.",
        example="1d",
        default="3600",
    ),
    LinkValue(
        "WATCH",
        SettingGroup.WATCH,
        form.patterns,
        "Keys whose changes the actor or component is called with, separated by commas. `*` matches one part between dots, "
        "`>` at the end matches the rest. Patterns may overlap. With `SET@` before it, a pattern is for new values alone, "
        "with `DEL@` for the end of values.",
        example="orders.*,users.>",
    ),
    LinkValue(
        "WATCH_TRIES",
        SettingGroup.WATCH,
        form.count(1),
        "Number of calls with one change after which it becomes a dead letter.",
        example="10",
        default="5",
    ),
    LinkValue(
        "URL",
        SettingGroup.CONNECTION,
        form.servers,
        "NATS servers, separated by commas, with scheme `nats://` or `tls://`. Without it, those of the lattice.",
        example="nats://a.example:4222,nats://b.example:4222",
        aliases=("NATS_URL", "CLUSTER_URI"),
    ),
    LinkValue(
        "CREDS_FILE",
        SettingGroup.CONNECTION,
        str,
        "Path of a credentials file on the host's machine.",
        example="/etc/nats/keyvalue.creds",
        aliases=("CREDSFILE", "NATS_CREDS_FILE"),
    ),
    LinkValue(
        "CLIENT_JWT",
        SettingGroup.CONNECTION,
        Secret,
        "User JWT of a credentials file. Needs `CLIENT_SEED`.",
        example="eyJ0eX...",
        is_secret=True,
    ),
    LinkValue(
        "CLIENT_SEED",
        SettingGroup.CONNECTION,
        form.seed,
        "User seed of a credentials file. Needs `CLIENT_JWT`.",
        example="SUA...",
        is_secret=True,
    ),
    LinkValue(
        "NKEY_SEED",
        SettingGroup.CONNECTION,
        form.seed,
        "Seed of a user that the server knows by its nkey.",
        example="SUA...",
        is_secret=True,
    ),
    LinkValue("TOKEN", SettingGroup.CONNECTION, Secret, "Authentication token.", example="s3cr...", is_secret=True),
    LinkValue("USER", SettingGroup.CONNECTION, str, "Name of a user. Needs `PASSWORD`.", example="keyvalue"),
    LinkValue(
        "PASSWORD",
        SettingGroup.CONNECTION,
        Secret,
        "Password of that user. Needs `USER`.",
        example="s3cr...",
        is_secret=True,
    ),
    LinkValue(
        "TLS_CA",
        SettingGroup.CONNECTION,
        str,
        "Certificate authority, as PEM text. Without it and `TLS_CA_FILE`, those of the system.",
        example="-----BEGIN CERTIFICATE-----...",
    ),
    LinkValue(
        "TLS_CA_FILE",
        SettingGroup.CONNECTION,
        str,
        "Path of the PEM file of a certificate authority.",
        example="/etc/nats/ca.pem",
    ),
    LinkValue(
        "TLS_CERT_FILE",
        SettingGroup.CONNECTION,
        str,
        "Path of the PEM file of a client certificate. Needs `TLS_KEY_FILE`.",
        example="/etc/nats/client.pem",
    ),
    LinkValue(
        "TLS_KEY_FILE",
        SettingGroup.CONNECTION,
        str,
        "Path of the PEM file of that certificate's key. Needs `TLS_CERT_FILE`.",
        example="/etc/nats/client.key",
    ),
    LinkValue(
        "JS_DOMAIN",
        SettingGroup.CONNECTION,
        form.name(100),  # far more than any domain has; it becomes part of every subject of the JetStream API
        "JetStream domain, across leaf nodes. Without it and `URL`, the domain that the host names, if any.",
        example="hub",
    ),
)

LINK_VALUES = {value.name: value for value in _VALUES}
"""Canonical name -> link value."""

NAMES = {alias: value.name for value in _VALUES for alias in (value.name, *value.aliases)}
"""Every accepted name in capital letters -> canonical name."""
