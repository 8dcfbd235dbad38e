"""Lists of permissions in the documentation: filled in for a server, and compared with what a client has used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SENT = re.compile(r"cid:(\d+) .*<<- \[(H?PUB|SUB) (\S+)")
_CONNECTED = re.compile(r'cid:(\d+) .*<<- \[CONNECT .*"name": ?"keyvalue-nats')


def listed(page: Path, names: dict[str, str], buckets: Iterable[str]) -> tuple[str, list[str], list[str]]:
    """Return a page's first block of permissions, and its patterns to publish and to subscribe to.

    Args:
        page: The page.
        names: Word of the block -> the name to fill in.
        buckets: Names to fill in for `BUCKET`; its lines are repeated for each.
    """
    block, *_ = re.findall(r"```\n(permissions .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for word, name in names.items():
        block = re.sub(rf"(?<=[\"._]){word}(?=[\".])", name, block)
    lines = []
    for line in block.splitlines():
        is_of_bucket = "BUCKET" in line.partition("#")[0]
        lines += [line.replace("BUCKET", name) for name in buckets] if is_of_bucket else [line]
    block = "\n".join(lines)
    publish, subscribe = block.split("subscribe:")
    return block, re.findall(r'"([^"]+)"', publish), re.findall(r'"([^"]+)"', subscribe)


def unused(log: str, publish: list[str], subscribe: list[str], buckets: Iterable[str]) -> list[str]:
    """Return the patterns that no provider has used, by the log of a server that traces messages."""
    providers = set(_CONNECTED.findall(log))
    sent = {(verb == "SUB", subject) for cid, verb, subject in _SENT.findall(log) if cid in providers}
    published = [subject for is_subscribed, subject in sent if not is_subscribed]
    subscribed = [subject for is_subscribed, subject in sent if is_subscribed]
    missing = []
    for patterns, subjects in ((publish, published), (subscribe, subscribed)):
        by_form: dict[str, bool] = {}
        for pattern in patterns:
            form = re.sub(rf"(?<=[_.])({'|'.join(buckets)})(?=\.|$)", "BUCKET", pattern)
            by_form[form] = by_form.get(form, False) or any(matches(pattern, subject) for subject in subjects)
        missing += [form for form, is_used in by_form.items() if not is_used]
    return missing


def matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and matches(".".join(wanted[:-1]), ".".join(tokens[: len(wanted) - 1]))
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))
