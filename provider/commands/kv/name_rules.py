"""The rules of `nats kv` for names of buckets and keys, and for patterns of keys. Pure.

Source: ADR-8 (legal names); nats.go jetstream/kv.go.
"""

from __future__ import annotations

import re

from provider import errors
from provider.commands.errors import InvalidNameError
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, decode_key, encode_key

_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_TOKEN = re.compile(r"[-/_=a-zA-Z0-9]+\Z")
_KEY_RULE = "a key has only letters, digits, dots and - / _ =, and no dot at its ends or beside another"
_PATTERN_RULE = "a pattern is a key whose parts between dots may be *, and whose last part may be >"


def check_bucket(name: str) -> str:
    """Return the name of a bucket unchanged if it is valid.

    Raises:
        InvalidNameError: The name is not valid.
    """
    if not _BUCKET.match(name):
        raise InvalidNameError("bucket", name, "a bucket's name has only letters, digits, _ and -")
    return name


def check_key(key: str) -> str:
    """Return a key unchanged if it is valid.

    Raises:
        InvalidNameError: The key is not valid. If an actor could use it, the text shows its stored form.
    """
    if key == RESERVED_KEY:
        raise InvalidNameError("key", key, "it is reserved for the provider")
    if len(key) > MAX_BUCKET_KEY_BYTES:
        raise InvalidNameError("key", key, f"it has {len(key)} bytes, the maximum is {MAX_BUCKET_KEY_BYTES}")
    if not all(_TOKEN.match(token) for token in key.split(".")):
        raise InvalidNameError("key", key, f"{_KEY_RULE}{_stored_form(key)}")
    return key


def check_pattern(pattern: str) -> str:
    """Return a pattern of keys unchanged if it is valid.

    Raises:
        InvalidNameError: The pattern is not valid.
    """
    *first, last = pattern.split(".")
    is_legal = all(part == "*" or _TOKEN.match(part) for part in first)
    if not is_legal or not (last in ("*", ">") or _TOKEN.match(last)) or len(pattern) > MAX_BUCKET_KEY_BYTES:
        raise InvalidNameError("pattern", pattern, _PATTERN_RULE)
    return pattern


def actor_key(bucket_key: str) -> str | None:
    """Return the key as actors write it, or None if that is the same text, or no actor can have written it."""
    key = decode_key(bucket_key)
    return key if key != bucket_key else None


def _stored_form(key: str) -> str:
    try:
        stored = encode_key(key)
    except (errors.StoreError, UnicodeEncodeError):
        return ""
    return f"; an actor's key of that name is stored as {stored}"
