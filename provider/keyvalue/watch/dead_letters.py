"""Dead letters: the changes that an actor does not take, stored in a stream of the lattice."""

from __future__ import annotations

import asyncio
from typing import Any

from provider import errors
from provider.keyvalue.watch.position import Position
from provider.nats import jetstream as js
from provider.nats.buckets import NANOSECONDS
from provider.nats.frames import header_block

DEAD_SUBJECT = "keyvalue.dead"
"""The beginning of the subjects; the lattice and the consumer's name follow."""

_KEPT_DAYS = 30
"""Time for an operator to read a dead letter and to repair its cause."""

_KEPT_COUNT = 100_000
"""Limit of the stream's growth when an actor fails at everything."""

_REASON_BYTES = 500
"""Greatest length of the reason in a header: the actor chooses its text."""

_REQUEST_SECONDS = 4.0
"""Time limit for storing, with a stream to create first: twice that of a usual request."""


async def store_dead_letter(
    jetstream: js.JetStream, lattice: str, position: Position, subject: str, payload: bytes
) -> None:
    """Store the change at which the actor fails. A payload that does not fit beside the headers is left out.

    Args:
        jetstream: The JetStream that has the bucket.
        lattice: Name of the lattice as a token of a subject.
        position: The change's revision, its failed calls and their reason.
        subject: Subject of the change.
        payload: Payload of the change.

    Raises:
        errors.NatsError: The change could not be stored.
    """
    pairs = [
        (b"Kv-Subject", subject.encode()),
        (b"Kv-Revision", b"%d" % position.called_revision),
        (b"Kv-Tries", b"%d" % position.failed_calls),
        (b"Kv-Error", " ".join(position.reason.split()).encode()[:_REASON_BYTES]),
    ]
    header = header_block(*pairs)
    if len(header) + len(payload) > jetstream.connection.max_payload_bytes:
        header = header_block(*pairs, (b"Kv-Omitted-Bytes", b"%d" % len(payload)))
        payload = b""
    target = f"{DEAD_SUBJECT}.{lattice}.{position.name}"
    deadline = asyncio.get_running_loop().time() + _REQUEST_SECONDS
    try:
        await jetstream.publish(target, payload, header, deadline)
    except errors.NoRespondersError:
        # The lattice's first dead letter: no stream has the subject yet.
        await jetstream.create_stream(_stream_config(lattice), deadline)
        await jetstream.publish(target, payload, header, deadline)


def _stream_config(lattice: str) -> dict[str, Any]:
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
