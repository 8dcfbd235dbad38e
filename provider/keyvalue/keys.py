"""An actor's key <-> the key in a bucket. Pure.

A key that `nats kv` allows is stored under its own name. Of any other key, each byte of its UTF-8 form that is not
allowed becomes `=HH`; so does an `=` that two upper-case hex digits follow, and a `.` at either end or after another
one. The encoding is injective, and a key prints, lists and reads back with the `nats kv` command.

Source: ADR-8 (legal keys); nats-server refuses control lines over 4096 bytes.
"""

from __future__ import annotations

import re

from provider import errors

MAX_BUCKET_KEY_BYTES = 3500
"""The longest key as stored: subject, reply subject and sizes must fit in the server's control line."""

RESERVED_KEY = "=5Flease"
"""Written to renew a read lease. No actor's key is stored under it: `_` is never escaped."""

_PLAIN = re.compile(r"[-/_a-zA-Z0-9]+(?:\.[-/_a-zA-Z0-9]+)*\Z")
_LEGAL = frozenset(b"-/_=.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HEX = frozenset(b"0123456789ABCDEF")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def encode_key(key: str, prefix: str = "") -> str:
    """Return the key under which an actor's key is stored.

    Args:
        key: Any text but the empty one.
        prefix: The link's KEY_PREFIX, put before it.

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
    """Return the actor's key, or `None` when no actor of this prefix could have written it: reserved, or foreign."""
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
