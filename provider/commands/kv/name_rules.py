"""Names of buckets, keys and patterns of keys as `nats kv` has them. Pure.

Source: ADR-8 (legal names); nats.go jetstream/kv.go.
"""

from __future__ import annotations

import re

from provider import errors
from provider.commands.errors import InvalidNameError
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, decode_key, encode_key

_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_TOKEN = re.compile(r"[-/_=a-zA-Z0-9]+\Z")
_KEY_RULE = "a key has letters, digits, dots and - / _ = only, and no dot at its ends or beside another"
_PATTERN_RULE = "a pattern is a key whose parts between dots may be *, and whose last part may be >"


def check_bucket(name: str) -> str:
    """Return a bucket's name.

    Raises:
        InvalidNameError: It is none.
    """
    if not _BUCKET.match(name):
        raise InvalidNameError("bucket", name, "a bucket's name has letters, digits, _ and - only")
    return name


def check_key(key: str) -> str:
    """Return a key.

    Raises:
        InvalidNameError: It is none; says how it is stored if an actor may have such a key.
    """
    if key == RESERVED_KEY:
        raise InvalidNameError("key", key, "it is the provider's own")
    if len(key) > MAX_BUCKET_KEY_BYTES:
        raise InvalidNameError("key", key, f"it has {len(key)} bytes, the maximum is {MAX_BUCKET_KEY_BYTES}")
    if not all(_TOKEN.match(token) for token in key.split(".")):
        raise InvalidNameError("key", key, f"{_KEY_RULE}{_stored_form(key)}")
    return key


def check_pattern(pattern: str) -> str:
    """Return a pattern of keys.

    Raises:
        InvalidNameError: It is none.
    """
    *first, last = pattern.split(".")
    is_legal = all(part == "*" or _TOKEN.match(part) for part in first)
    if not is_legal or not (last in ("*", ">") or _TOKEN.match(last)) or len(pattern) > MAX_BUCKET_KEY_BYTES:
        raise InvalidNameError("pattern", pattern, _PATTERN_RULE)
    return pattern


def actor_key(bucket_key: str) -> str | None:
    """Return how an actor knows a key, if it knows it by another name; `None`: by the same, or not at all."""
    key = decode_key(bucket_key)
    return key if key != bucket_key else None


def _stored_form(key: str) -> str:
    try:
        stored = encode_key(key)
    except (errors.StoreError, UnicodeEncodeError):
        return ""
    return f"; an actor's key of that name is stored as {stored}"
