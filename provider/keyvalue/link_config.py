"""Link values -> what a link is to be: its store and its connection. Pure.

Knows the name, the aliases and the form of every setting; refuses to know where a setting came from.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from contracts import codec
from contracts.secret import Secret
from provider import errors
from provider.keyvalue.keys import encode_key
from provider.nats.buckets import NANOSECONDS
from provider.nats.settings import ConnectionSettings


class Backend(enum.Enum):
    """What kind of store a link has."""

    BUCKET = "bucket"
    """Durable, in JetStream."""

    CACHE = "cache"
    """In memory, replicated to the other instances over plain subjects."""


class Consistency(enum.Enum):
    """What a read of a replicated bucket promises."""

    STRONG = "strong"
    """The last acknowledged write, from whichever provider; an error when that cannot be proven."""

    LEADER = "leader"
    """What the stream's leader has; a leader that was cut off is believed for some seconds."""

    FAST = "fast"
    """What any replica has, but nothing older than this process has seen."""


@dataclass(frozen=True, slots=True)
class BucketConfig:
    """The bucket of a link and how to make it when it is not there. -1 or 0: no limit.

    Attributes:
        marks_expired: Whether the server puts a marker where a value has expired, so that watchers are told. A value
            written at that very moment may be lost to it.
    """

    name: str
    is_created: bool = True
    replicas: int = 1
    storage: str = "file"
    ttl_seconds: int = 0
    max_bytes: int = -1
    max_value_bytes: int = -1
    marks_expired: bool = False


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The cache of a link. Replicas with equal subjects hold the same. 0: no limit.

    Attributes:
        state_subject: Where replicas tell each other what changes.
        replay_subject: Where a replica is asked for what others lack, with its id behind it.
        heartbeat_seconds: How often each says what it has seen.
        max_keys: How many keys there may be.
        max_bytes: How large all of them may be.
        max_value_bytes: How large one text, member or element may be.
        join_wait_seconds: How long a joiner may wait for its first exchange before it answers.
        forget_seconds: How long an absent replica is waited for with forgetting deletions.
    """

    state_subject: str
    replay_subject: str
    heartbeat_seconds: int
    max_keys: int
    max_bytes: int
    max_value_bytes: int
    join_wait_seconds: int
    forget_seconds: int


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """What changes the actor is told of.

    Attributes:
        patterns: Of bucket keys, as in subjects; none: it is told of nothing.
        tries: How often it is called with one change before that is put aside.
    """

    patterns: tuple[str, ...]
    tries: int


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What a link is to be. Of `bucket` and `cache` the one that its backend names counts."""

    backend: Backend
    connection: ConnectionSettings
    bucket: BucketConfig
    cache: CacheConfig
    consistency: Consistency
    key_prefix: str
    watch: WatchConfig

    @property
    def store_name(self) -> str:
        """What operators know the store by: the bucket, or the cache's subject."""
        return self.cache.state_subject if self.backend is Backend.CACHE else self.bucket.name


class _Setting:
    """One link value: how its text becomes a value, and what else it is called."""

    def __init__(self, parse: Callable[[str], Any], *aliases: str) -> None:
        self.parse = parse
        self.aliases = aliases


def _count(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}")
        return int(text)

    return parse


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return text.lower()

    return parse


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


_LARGEST_SECONDS = (2**63 - 1) // NANOSECONDS
"""The server counts nanoseconds in 64 bits."""


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})\s*([smhd]?)", text.lower())
    if match is None:
        raise ValueError("expected seconds, or a number with one of the units s m h d")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > _LARGEST_SECONDS:
        raise ValueError(f"expected at most {_LARGEST_SECONDS} seconds, which is 292 years")
    return seconds


def _bytes(largest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,15})\s*([BKMGT]?)(?:I?B)?", text.upper())
        if text == "-1":
            return -1
        if match is None:
            raise ValueError("expected bytes, or a number with one of the units K M G T")
        size = int(match[1]) * _SIZES[match[2]]
        if size > largest:
            raise ValueError(f"expected at most {largest} bytes")
        return size or -1

    return parse


def _bucket_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", text):
        raise ValueError("expected letters, digits, _ and - only")
    return text


def _token(name: str) -> str:
    """Return a name as one token of a subject; two names never share one."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), name) or "="


def _subject(text: str) -> str:
    if not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", text) or len(text) > 200 or not text.isascii():
        raise ValueError("expected a NATS subject without wildcards")
    return text


def _servers(text: str) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise ValueError("expected a URL")
    return tuple(server_url(server) for server in servers)


def server_url(text: str) -> str:
    """Return a server's URL with a scheme, or raise `ValueError` saying what is wrong with it, not showing it."""
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL like nats://host:4222") from None
    if parts.scheme not in ("nats", "tls"):
        raise ValueError(f"expected a URL of scheme nats or tls, not {parts.scheme[:20]!r}")
    if not parts.hostname or port == 0:
        raise ValueError("expected a URL like nats://host:4222")
    return url


def _seed(text: str) -> Secret:
    from contracts.nkeys import key_pair  # noqa: PLC0415  (1.3 MiB with libsodium, which the state-proxy connector spares)

    key_pair(text).wipe()
    return Secret(text)


def _js_domain(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text):
        raise ValueError("expected letters, digits, _ and - only")
    return text


def _patterns(text: str) -> tuple[str, ...]:
    patterns = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for pattern in patterns:
        words = pattern.split(".")
        if "" in words or ">" in words[:-1] or any(len(word) > 1 and set(word) & {"*", ">"} for word in words):
            raise ValueError("expected keys in which * stands for one part between dots, and > at the end for the rest")
    return patterns


def _watched(pattern: str, key_prefix: str) -> str:
    """Return the bucket keys that a pattern of an actor's keys stands for."""
    try:
        prefix = encode_key("x", key_prefix).removesuffix("x")
        words = [word if word in ("*", ">") else encode_key(word) for word in pattern.split(".")]
    except errors.StoreError as error:
        raise errors.LinkError("WATCH", str(error)) from None
    if prefix and not prefix.endswith("."):
        raise errors.LinkError(
            "WATCH", "a KEY_PREFIX that ends in a dot, right behind another character, is needed with it"
        )
    return prefix + ".".join(words)


_SETTINGS: dict[str, _Setting] = {
    "BACKEND": _Setting(_one_of(*(backend.value for backend in Backend))),
    "BUCKET": _Setting(_bucket_name),
    "CREATE": _Setting(_one_of("always", "never", "true", "false")),
    "REPLICAS": _Setting(_count(1)),
    "STORAGE": _Setting(_one_of("file", "memory")),
    "TTL": _Setting(_seconds),
    "EXPIRY_MARKERS": _Setting(_one_of("true", "false")),
    "MAX_BYTES": _Setting(_bytes(2**63 - 1)),
    "MAX_VALUE_SIZE": _Setting(_bytes(2**31 - 1)),
    "MAX_KEYS": _Setting(_count(0)),
    "CONSISTENCY": _Setting(_one_of(*(consistency.value for consistency in Consistency))),
    "KEY_PREFIX": _Setting(str),
    "WATCH": _Setting(_patterns),
    "WATCH_TRIES": _Setting(_count(1)),
    "STATE_REPL_SUBJECT": _Setting(_subject),
    "REPLAY_REQ_SUBJECT": _Setting(_subject),
    "REPLAY_HEARTBEAT_SECS": _Setting(_count(1)),
    "JOIN_WAIT_SECS": _Setting(_count(0)),
    "FORGET_SECS": _Setting(_count(1)),
    "URL": _Setting(_servers, "NATS_URL", "CLUSTER_URI"),
    "CREDS_FILE": _Setting(str, "CREDSFILE", "NATS_CREDS_FILE"),
    "CLIENT_JWT": _Setting(Secret),
    "CLIENT_SEED": _Setting(_seed),
    "NKEY_SEED": _Setting(_seed),
    "TOKEN": _Setting(Secret),
    "USER": _Setting(str),
    "PASSWORD": _Setting(Secret),
    "TLS_CA": _Setting(str),
    "TLS_CA_FILE": _Setting(str),
    "TLS_CERT_FILE": _Setting(str),
    "TLS_KEY_FILE": _Setting(str),
    "JS_DOMAIN": _Setting(_js_domain),
}

_CACHE_BYTES = 256 * 2**20
"""MAX_BYTES of a cache where a link gives none."""

_NAMES = {alias: name for name, setting in _SETTINGS.items() for alias in (name, *setting.aliases)}
_HARNESS_VALUES = "CONFIG_B64"
_CREDENTIALS = ("CREDS_FILE", "CLIENT_JWT", "CLIENT_SEED", "NKEY_SEED", "TOKEN", "USER", "PASSWORD")
_TLS = ("TLS_CA", "TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE")


def canonical_values(values: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return values under their canonical names, and the names that no setting has.

    Names may be in any letter case, with `-` for `_`. An empty value is as good as none. The test harness's
    `config_b64`, a copy of the values as JSON, is read where a value is not given by itself.
    """
    known: dict[str, str] = {}
    unknown: list[str] = []
    for raw_name, value in [*_harness_values(values).items(), *values.items()]:
        upper = raw_name.upper().replace("-", "_")
        name = _NAMES.get(upper)
        if name is None:
            if upper != _HARNESS_VALUES:
                unknown.append(raw_name)
        elif isinstance(value, bool):
            known[name] = str(value).lower()
        elif isinstance(value, (str, int)) and str(value) != "":
            known[name] = str(value).strip() if name != "KEY_PREFIX" else str(value)
    return known, sorted(set(unknown) - _harness_values(values).keys())


def parse_link(
    values: Mapping[str, str], *, lattice: str, link_name: str, lattice_connection: ConnectionSettings
) -> LinkConfig:
    """Turn canonical values into a link's configuration.

    Args:
        values: From `canonical_values`, all sources merged.
        lattice: For the default bucket name.
        link_name: Likewise.
        lattice_connection: What a link without settings of its own connects with.

    Raises:
        errors.LinkError: Names the setting and what was expected, never its value.
    """
    parsed: dict[str, Any] = {}
    for name, text in values.items():
        try:
            parsed[name] = _SETTINGS[name].parse(text)
        except ValueError as error:
            raise errors.LinkError(name, str(error)) from None
    default_name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{lattice}_{link_name}")
    default_root = f"kvcache.{_token(lattice)}.{_token(link_name)}"
    cache = CacheConfig(
        state_subject=parsed.get("STATE_REPL_SUBJECT", f"{default_root}.state"),
        replay_subject=parsed.get("REPLAY_REQ_SUBJECT", f"{default_root}.replay"),
        heartbeat_seconds=parsed.get("REPLAY_HEARTBEAT_SECS", 5),
        max_keys=parsed.get("MAX_KEYS", 0),
        max_bytes=max(parsed.get("MAX_BYTES", _CACHE_BYTES), 0),
        max_value_bytes=max(parsed.get("MAX_VALUE_SIZE", 0), 0),
        join_wait_seconds=parsed.get("JOIN_WAIT_SECS", 0),
        forget_seconds=parsed.get("FORGET_SECS", 3600),
    )
    bucket = BucketConfig(
        name=parsed.get("BUCKET", default_name),
        is_created=parsed.get("CREATE", "always") in ("always", "true"),
        replicas=parsed.get("REPLICAS", 1),
        storage=parsed.get("STORAGE", "file"),
        ttl_seconds=parsed.get("TTL", 0),
        max_bytes=parsed.get("MAX_BYTES", -1),
        max_value_bytes=parsed.get("MAX_VALUE_SIZE", -1),
        marks_expired=parsed.get("EXPIRY_MARKERS") == "true",
    )
    backend = Backend(parsed.get("BACKEND", "bucket"))
    key_prefix = parsed.get("KEY_PREFIX", "")
    patterns = tuple(_watched(pattern, key_prefix) for pattern in parsed.get("WATCH", ()))
    if patterns and backend is Backend.CACHE:
        raise errors.LinkError("WATCH", "a cache cannot be watched, only a bucket")
    return LinkConfig(
        backend=backend,
        connection=_connection(parsed, lattice_connection),
        bucket=bucket,
        cache=cache,
        consistency=Consistency(parsed.get("CONSISTENCY", "strong")),
        key_prefix=key_prefix,
        watch=WatchConfig(patterns, parsed.get("WATCH_TRIES", 5)),
    )


def _connection(parsed: Mapping[str, Any], lattice: ConnectionSettings) -> ConnectionSettings:
    """Build the connection; the lattice's credentials go to no server but the lattice's."""
    if not any(name in parsed for name in ("URL", "JS_DOMAIN", *_CREDENTIALS, *_TLS)):
        return lattice
    for name, needed in (("CLIENT_JWT", "CLIENT_SEED"), ("USER", "PASSWORD"), ("TLS_CERT_FILE", "TLS_KEY_FILE")):
        if (name in parsed) != (needed in parsed):
            missing = needed if name in parsed else name
            raise errors.LinkError(missing, f"not given, but needed with {name if name in parsed else needed}")
    given_credentials = any(name in parsed for name in _CREDENTIALS)
    if "URL" not in parsed and not given_credentials:
        base = lattice
    else:
        base = ConnectionSettings(
            servers=parsed.get("URL", lattice.servers),
            creds_file=parsed.get("CREDS_FILE", ""),
            client_jwt=parsed.get("CLIENT_JWT", Secret("")),
            client_seed=parsed.get("CLIENT_SEED", parsed.get("NKEY_SEED", Secret(""))),
            token=parsed.get("TOKEN", Secret("")),
            user=parsed.get("USER", ""),
            password=parsed.get("PASSWORD", Secret("")),
            is_tls="URL" not in parsed and lattice.is_tls,
        )
    return ConnectionSettings(
        servers=base.servers,
        creds_file=base.creds_file,
        client_jwt=base.client_jwt,
        client_seed=base.client_seed,
        token=base.token,
        user=base.user,
        password=base.password,
        is_tls=base.is_tls,
        tls_ca=parsed.get("TLS_CA", ""),
        tls_ca_file=parsed.get("TLS_CA_FILE", ""),
        tls_cert_file=parsed.get("TLS_CERT_FILE", ""),
        tls_key_file=parsed.get("TLS_KEY_FILE", ""),
        js_domain=parsed.get("JS_DOMAIN", "" if "URL" in parsed else lattice.js_domain),
    )


def _harness_values(values: Mapping[str, Any]) -> dict[str, Any]:
    encoded = next((value for name, value in values.items() if name.upper() == _HARNESS_VALUES), None)
    if not isinstance(encoded, str):
        return {}
    try:
        decoded = codec.unpack_json(codec.decode_base64(encoded, _HARNESS_VALUES), _HARNESS_VALUES)
    except codec.MalformedError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
