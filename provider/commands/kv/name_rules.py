"""The rules of `nats kv` for names of buckets and keys, and for patterns of keys. Pure.

Source: ADR-8 (legal names); nats.go jetstream/kv.go.
"""

from __future__ import annotations

import re

from provider import errors
from provider.commands.errors import InvalidNameError
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, decode_key, encode_key, encode_part, is_legal_key

_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_PATTERN_RULE = "a pattern is a key in which * may stand for one part between dots, and > at the end for the rest"


def check_bucket(name: str) -> str:
    """Return the name of a bucket unchanged if it is valid.

    Raises:
        InvalidNameError: The name is not valid.
    """
    if not _BUCKET.match(name):
        raise InvalidNameError("bucket", name, "a bucket's name has only letters, digits, _ and -")
    return name


def stored_key(name: str) -> str:
    """Return the key as stored that a person names.

    A name that buckets allow is the stored key itself. Any other is that of an actor's key, which is stored escaped.

    Raises:
        InvalidNameError: There can be no such key.
    """
    if name == RESERVED_KEY:
        raise InvalidNameError("key", name, "it is reserved for the provider")
    try:
        key = name if is_legal_key(name) else encode_key(name)
    except errors.EmptyKeyError:
        raise InvalidNameError("key", name, "it is empty") from None
    except errors.KeyTooLongError as error:
        raise _too_long("key", name, error.size) from None
    except UnicodeEncodeError:
        raise InvalidNameError("key", name, "it is not UTF-8") from None
    if len(key) > MAX_BUCKET_KEY_BYTES:
        raise _too_long("key", name, len(key))
    return key


def stored_pattern(pattern: str) -> str:
    """Return the pattern of stored keys that a person names; see `stored_key`.

    Raises:
        InvalidNameError: The pattern is not valid.
    """
    *first, last = pattern.split(".")
    try:
        parts = [*(_stored_part(part, "*") for part in first), _stored_part(last, "*>")]
    except (ValueError, errors.KeyTooLongError):
        raise InvalidNameError("pattern", pattern, _PATTERN_RULE) from None
    stored = ".".join(parts)
    if not pattern or len(stored) > MAX_BUCKET_KEY_BYTES:
        raise InvalidNameError("pattern", pattern, _PATTERN_RULE)
    return stored


def actor_key(bucket_key: str) -> str | None:
    """Return the key as actors write it, or None if that is the same text, or no actor can have written it."""
    key = decode_key(bucket_key)
    return key if key != bucket_key else None


def actor_note(bucket_key: str) -> str:
    """Return a note of the key as actors write it, or "" if that is the same text."""
    key = actor_key(bucket_key)
    if key is None:
        return ""
    import json

    return f"actor's key: {json.dumps(key, ensure_ascii=not key.isprintable())}"


def noted_key(bucket_key: str) -> str:
    """Return a stored key with its note, for a message."""
    note = actor_note(bucket_key)
    return f"{bucket_key} ({note})" if note else bucket_key


def _stored_part(part: str, wildcards: str) -> str:
    """Return a part of a pattern as stored.

    Raises:
        ValueError: A wildcard is not alone in the part, or not allowed there, or the part is not UTF-8.
    """
    if len(part) == 1 and part in wildcards:
        return part
    if set(part) & {"*", ">"}:
        raise ValueError
    return part if is_legal_key(part) else encode_part(part)


def _too_long(what: str, name: str, size: int) -> InvalidNameError:
    return InvalidNameError(what, name, f"it has {size} bytes as stored, the maximum is {MAX_BUCKET_KEY_BYTES}")
