"""Find out which permissions the user of a connection lacks, without a change.

A publication is probed with a reply subject below `_R_.`, which the server keeps for itself. It looks at the permission to
publish first and at the reply subject next, refuses the message for one of the two, and says for which. So no probe is
ever delivered. A subscription is made and ended at once; its messages are dropped.

Source: nats-server server/client.go, processInboundClientMsg (2.9 to 2.15).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable

from provider.commands.check.permissions import Permission
from provider.nats.connection import Connection

_REPLY = "_R_.keyvalue-nats-check."

_HARMLESS = ("INFO", "STREAM.INFO.", "STREAM.MSG.GET.", "DIRECT.GET.")
"""Requests without an effect, should a server deliver them after all."""


class _Refusals:
    """The refusals of the server, as texts."""

    def __init__(self) -> None:
        self.publications: set[str] = set()
        self.others: list[str] = []

    def is_subscription(self, subject: str) -> bool:
        return any(f'Subscription to "{subject}"' in text for text in self.others)

    def is_kept_back(self, number: int) -> bool:
        """Tell whether a probe was refused only for its reply subject, which means that it may be published."""
        return any(f'"{_REPLY}{number}"' in text for text in self.others)


async def lacking(
    connection: Connection, permissions: Iterable[Permission], timeout_seconds: float
) -> dict[Permission, bool | None]:
    """Return for each permission whether the user lacks it; `None` where the server gives no hint.

    Raises:
        errors.NotConnectedError: The connection was lost.
    """
    wanted = list(dict.fromkeys(permissions))
    refusals = _Refusals()
    ends = [connection.on_refusal(b"", refusals.others.append)]
    publications = [permission for permission in wanted if permission.verb == "publish"]
    for permission in publications:
        subject = permission.subject
        ends.append(connection.on_refusal(subject.encode(), functools.partial(_add, refusals.publications, subject)))
    try:
        numbers = {permission: number for number, permission in enumerate(publications)}
        harmless = {item: number for item, number in numbers.items() if _is_harmless(item.subject)}
        found = await _publications(connection, harmless, refusals, timeout_seconds)
        if None not in found.values():
            rest = {item: number for item, number in numbers.items() if item not in found}
            found |= await _publications(connection, rest, refusals, timeout_seconds)
        subscriptions = [permission for permission in wanted if permission.verb == "subscribe"]
        await asyncio.gather(*(_subscribe(connection, item.pattern, timeout_seconds) for item in subscriptions))
        found |= {item: refusals.is_subscription(item.pattern) for item in subscriptions}
    finally:
        for end in ends:
            end()
    return {permission: found.get(permission) for permission in wanted}


def _add(subjects: set[str], subject: str, reason: str) -> None:
    subjects.add(subject)


def _is_harmless(subject: str) -> bool:
    request = subject.partition(".API.")[2]
    return subject.startswith("$JS.") and request.startswith(_HARMLESS)


async def _publications(
    connection: Connection, numbers: dict[Permission, int], refusals: _Refusals, timeout_seconds: float
) -> dict[Permission, bool | None]:
    """Publish to the subjects of permissions, each with the reply subject of its number."""
    for permission, number in numbers.items():
        connection.publish_request(permission.subject.encode(), f"{_REPLY}{number}".encode(), b"")
    await connection.flush(timeout_seconds)
    found: dict[Permission, bool | None] = {}
    for permission, number in numbers.items():
        is_refused = permission.subject in refusals.publications
        found[permission] = is_refused if is_refused or refusals.is_kept_back(number) else None
    return found


async def _subscribe(connection: Connection, pattern: str, timeout_seconds: float) -> None:
    listener = await connection.listen(pattern, _drop)
    await connection.stop_listening(listener, timeout_seconds)


def _drop(*message: bytes) -> None:
    """Ignore a message that a probe has received."""
