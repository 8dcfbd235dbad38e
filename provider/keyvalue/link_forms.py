"""The forms of link values: parsers that turn a text into a value. Pure.

Each raises `ValueError` with the form that was expected. The message never shows the text, since it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from contracts.secret import Secret
from provider.units import parse_size, parse_whole_seconds

_MAX_SUBJECT = 200
"""Bytes. A replica's id still follows, and nats-server takes 4096 bytes for a whole protocol line."""


_MIN_PASSPHRASE = 16
"""16 random letters and digits have 95 bits: members publish signatures, by which a shorter text could be guessed."""

NEW_VALUES, ENDS = "SET@", "DEL@"
"""Beginnings of patterns that are for new values, or for ends of values, alone; as in provider-keyvalue-redis."""


def count(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # 18 digits always fit into 64 bits.
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}")
        return int(text)

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return text.lower()

    return parse


def size(maximum_bytes: int) -> Callable[[str], int]:
    return lambda text: parse_size(text, maximum_bytes)


def seconds(minimum: int) -> Callable[[str], int]:
    return lambda text: parse_whole_seconds(text, minimum)


def name(maximum_characters: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", text) or len(text) > maximum_characters:
            raise ValueError("expected letters, digits, _ and - only")
        return text

    return parse


def subject(text: str) -> str:
    if not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", text) or len(text) > _MAX_SUBJECT or not text.isascii():
        raise ValueError("expected a NATS subject without wildcards")
    return text


def patterns(text: str) -> tuple[str, ...]:
    """Return patterns of keys, each once; none for an empty text. Each may be for one kind of change alone."""
    found = tuple(dict.fromkeys(_parts(text)))
    for pattern in found:
        words = keys_of(pattern).split(".")
        if "" in words or ">" in words[:-1] or any(len(word) > 1 and set(word) & {"*", ">"} for word in words):
            raise ValueError("expected keys in which * stands for one part between dots, and > at the end for the rest")
    return found


def keys_of(pattern: str) -> str:
    """Return a pattern without the kind of change that it is for."""
    return pattern.removeprefix(NEW_VALUES).removeprefix(ENDS) if pattern.startswith((NEW_VALUES, ENDS)) else pattern


def servers(text: str) -> tuple[str, ...]:
    found = tuple(server_url(server) for server in _parts(text))
    if not found:
        raise ValueError("expected a URL")
    return found


def _parts(text: str) -> list[str]:
    """Return the parts between commas that are not empty."""
    return [part.strip() for part in text.split(",") if part.strip()]


def server_url(text: str) -> str:
    """Return a server's URL with a scheme, in one spelling: links with equal servers share a connection.

    Raises:
        ValueError: The text is not such a URL. The message does not show it, since it may hold a password.
    """
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL like nats://host:4222") from None
    if parts.scheme not in ("nats", "tls"):
        raise ValueError(f"expected a URL of scheme nats or tls, not {parts.scheme[:20]!r}")  # the rest may be anything
    if not parts.hostname or port == 0:
        raise ValueError("expected a URL like nats://host:4222")
    return url.rstrip("/")


def passphrase(text: str) -> Secret:
    if len(text) < _MIN_PASSPHRASE:
        raise ValueError(f"expected at least {_MIN_PASSPHRASE} characters")
    return Secret(text)


def seed(text: str) -> Secret:
    from contracts.nkeys import key_pair  # noqa: PLC0415  (1.3 MiB with libsodium, which the state-proxy does without)

    key_pair(text).wipe()
    return Secret(text)
