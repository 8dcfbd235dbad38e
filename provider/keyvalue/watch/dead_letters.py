"""Where changes go that an actor does not take: a stream of the lattice."""

from __future__ import annotations

import asyncio
from typing import Any

from provider import errors
from provider.keyvalue.watch.position import Place
from provider.nats import jetstream as js
from provider.nats.buckets import NANOSECONDS
from provider.nats.frames import header_block

DEAD_SUBJECT = "keyvalue.dead"
"""With lattice and consumer behind it."""

_KEPT_DAYS = 30
_KEPT_COUNT = 100_000
_REQUEST_SECONDS = 4.0


async def put_aside(jetstream: js.JetStream, lattice: str, place: Place, subject: str, payload: bytes) -> None:
    """Keep the change at which an actor fails. Without its payload, if that does not fit into a message with the reason.

    Args:
        jetstream: The bucket's.
        lattice: As part of a subject.
        place: Says which change, how often the actor was called with it, and what it said.
        subject: Of the change.
        payload: Of the change.

    Raises:
        errors.NatsError: It could not be kept.
    """
    pairs = [
        (b"Kv-Subject", subject.encode()),
        (b"Kv-Revision", b"%d" % place.begun_revision),
        (b"Kv-Tries", b"%d" % place.failed_calls),
        (b"Kv-Error", " ".join(place.reason.split()).encode()[:500]),
    ]
    header = header_block(*pairs)
    if len(header) + len(payload) > jetstream.connection.max_payload_bytes:
        header = header_block(*pairs, (b"Kv-Omitted-Bytes", b"%d" % len(payload)))
        payload = b""
    target = f"{DEAD_SUBJECT}.{lattice}.{place.name}"
    deadline = asyncio.get_running_loop().time() + _REQUEST_SECONDS
    try:
        await jetstream.publish(target, payload, header, deadline)
    except errors.NoRespondersError:
        await jetstream.create_stream(_stream(lattice), deadline)
        await jetstream.publish(target, payload, header, deadline)


def _stream(lattice: str) -> dict[str, Any]:
    return {
        "name": f"KEYVALUE_DEAD_{lattice}",
        "subjects": [f"{DEAD_SUBJECT}.{lattice}.>"],
        "retention": "limits",
        "max_age": _KEPT_DAYS * 86400 * NANOSECONDS,
        "max_bytes": -1,
        "max_msgs": _KEPT_COUNT,
        "storage": "file",
        "discard": "old",
        "num_replicas": 1,
    }
