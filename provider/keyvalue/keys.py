"""An actor's key <-> the key in a bucket. Pure.

A key that `nats kv` allows is stored under its own name. Any other key is escaped part by part, so that patterns of keys and
prefixes that end in a dot go on working: a part between two dots that is empty, or has a character that is not allowed,
becomes `=_` and its UTF-8 form, in which each byte that is no letter, digit, `-`, `/` or `_` is written `=HH`. `user:1` is
stored as `=_user=3A1`, `.profile` as `=_.profile`.

A part that looks like the result of this is escaped too, so two keys never have the same stored form. No other allowed key
is changed. The `nats kv` command prints, lists and reads every stored form.

Source: ADR-8 (legal keys); nats-server refuses control lines over 4096 bytes.
"""

from __future__ import annotations

import re
from binascii import a2b_qp

from provider import errors

MAX_BUCKET_KEY_BYTES = 3500
"""Longest key as stored. The server's control line of 4096 bytes must also hold the subject's prefix, the reply subject and
the sizes."""

RESERVED_KEY = "=_lease"
"""Key that is written to renew a read lease. No actor's key is stored under it: an actor's `=_lease` is escaped, and
`lease` is not."""

_ESCAPE = "=_"
_OWN_NAME = re.compile(rf"(?!{_ESCAPE})[-/_=a-zA-Z0-9]+(?:\.(?!{_ESCAPE})[-/_=a-zA-Z0-9]+)*\Z")
"""A key of which no part is escaped or begins as an escaped one does: most keys, in one look."""

_LEGAL = re.compile(r"[-/_=a-zA-Z0-9]+(?:\.[-/_=a-zA-Z0-9]+)*\Z")
_ESCAPED_PART = re.compile(rf"{_ESCAPE}(?:lease\Z|\Z|.*=[0-9A-F]{{2}})")
"""The parts that escaping makes, that of the empty part, and the reserved key. A part that merely begins with `=_` is not
one of them: it keeps its name."""

_ESCAPED_BYTES = tuple(chr(byte) if re.match(r"[-/_a-zA-Z0-9]", chr(byte)) else f"={byte:02X}" for byte in range(256))
"""Each byte as it stands in an escaped part."""


def is_legal_key(key: str) -> bool:
    """Tell whether every client of a bucket takes a text as the name of a key, whatever its length."""
    return _LEGAL.match(key) is not None


def encode_key(key: str, prefix: str = "") -> str:
    """Return the key under which an actor's key is stored.

    Args:
        key: The actor's key: any text but the empty one.
        prefix: The link's KEY_PREFIX, put before the key.

    Raises:
        errors.EmptyKeyError: The key is empty.
        errors.KeyTooLongError: The stored form is too long.
    """
    if not key:
        raise errors.EmptyKeyError
    whole = prefix + key
    encoded = whole if _OWN_NAME.match(whole) else ".".join(map(encode_part, whole.split(".")))
    if len(encoded) > MAX_BUCKET_KEY_BYTES:
        raise errors.KeyTooLongError(len(encoded), MAX_BUCKET_KEY_BYTES)
    return encoded


def decode_key(bucket_key: str, prefix: str = "") -> str | None:
    """Return the actor's key.

    Args:
        bucket_key: The key as stored.
        prefix: The link's KEY_PREFIX.

    Returns:
        `None` if no actor with this prefix can have written the key: it is reserved, or another client's.
    """
    try:
        key = ".".join(map(_decode_part, bucket_key.split("."))) if _ESCAPE in bucket_key else bucket_key
    except ValueError:  # not ASCII, or not UTF-8 when unescaped
        return None
    if not key.startswith(prefix) or key == prefix:
        return None
    key = key[len(prefix) :]
    try:
        return key if encode_key(key, prefix) == bucket_key else None
    except (errors.StoreError, UnicodeEncodeError):
        return None


def encode_part(part: str) -> str:
    """Return one part of a key, without a dot, as stored."""
    if is_legal_key(part) and not _ESCAPED_PART.match(part):
        return part
    return _ESCAPE + "".join(map(_ESCAPED_BYTES.__getitem__, part.encode()))


def _decode_part(part: str) -> str:
    """Return a part as the actor wrote it. What no escaping makes may have any result: `decode_key` checks it."""
    return a2b_qp(part.removeprefix(_ESCAPE)).decode() if _ESCAPED_PART.match(part) else part
