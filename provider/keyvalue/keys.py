"""An actor's key <-> the key in a bucket. Pure.

A key that `nats kv` allows is stored under its own name. In any other key, each byte of the UTF-8 form that is not allowed
becomes `=HH`. So does an `=` that is followed by two upper-case hex digits, and a `.` at either end or after another `.`. Two
keys never have the same stored form, and the `nats kv` command prints, lists and reads every one of them.

Source: ADR-8 (legal keys); nats-server refuses control lines over 4096 bytes.
"""

from __future__ import annotations

import re

from provider import errors

MAX_BUCKET_KEY_BYTES = 3500
"""Longest key as stored. The server's control line of 4096 bytes must also hold the subject's prefix, the reply subject and
the sizes."""

RESERVED_KEY = "=5Flease"
"""Key that is written to renew a read lease. No actor's key is stored under it, because `_` is never escaped."""

_PLAIN = re.compile(r"[-/_a-zA-Z0-9]+(?:\.[-/_a-zA-Z0-9]+)*\Z")
_LEGAL = frozenset(b"-/_=.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HEX = frozenset(b"0123456789ABCDEF")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


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
    encoded = whole if _PLAIN.match(whole) else _escape(whole)
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
        raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), bucket_key.encode())
        key = raw.decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return None
    if not key.startswith(prefix) or key == prefix:
        return None
    key = key[len(prefix) :]
    try:
        return key if encode_key(key, prefix) == bucket_key else None
    except errors.StoreError:
        return None


def _escape(key: str) -> str:
    raw = key.encode("utf-8")
    out = bytearray()
    last = len(raw) - 1
    for index, byte in enumerate(raw):
        if byte == ord("."):
            is_legal = 0 < index < last and raw[index - 1] != byte
        elif byte == ord("="):
            is_legal = not (index + 2 <= last and raw[index + 1] in _HEX and raw[index + 2] in _HEX)
        else:
            is_legal = byte in _LEGAL
        if is_legal:
            out.append(byte)
        else:
            out += b"=%02X" % byte
    return out.decode("ascii")
