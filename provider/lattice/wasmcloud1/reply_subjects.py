"""The rule for subjects that a caller names: the provider publishes to inboxes only. Pure.

A message of the provider has the provider's permissions. Sent to `$JS.API.STREAM.DELETE.x`, even an empty one is obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

DEFAULT_PREFIX = "_INBOX"
"""The prefix of every NATS client, unless it is configured otherwise. Hosts use two more tokens of 22 characters each."""

_MAX_BYTES = 255
"""Three times as many as clients make of a long prefix. It bounds what each call makes this process remember."""

_TOKEN = rb"[^\x00-\x20\x7f-\xff.*>$]+"
"""A token without white space, control characters, wildcards, and `$`, with which servers mark subjects of their own."""


def inbox_check(prefixes: Iterable[str]) -> Callable[[bytes], bool]:
    """Return a function that tells whether a subject is an inbox: below one of the prefixes, and harmless.

    Args:
        prefixes: The first tokens of inboxes, such as `_INBOX` or `_INBOX_shop.app`.
    """
    choices = b"|".join(re.escape(prefix.encode()) for prefix in prefixes)
    match = re.compile(rb"(?:%b)(?:\.%b)+" % (choices, _TOKEN)).fullmatch
    return lambda subject: len(subject) <= _MAX_BYTES and match(subject) is not None


def is_prefix(text: str) -> bool:
    """Tell whether a text may be configured as a prefix of inboxes."""
    token = _TOKEN.decode("latin-1")
    return len(text) < _MAX_BYTES // 2 and re.fullmatch(rf"{token}(?:\.{token})*", text, re.ASCII) is not None
