"""The time at which a server removes a message of a bucket by itself, by its TTL or by the bucket's maximum age.

A value of a provider also carries its own end, by which reads decide: see `entries`.
"""

from __future__ import annotations

from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.entries import SEQUENCE, TTL
from provider.nats import jetstream as js
from provider.nats.buckets import NANOSECONDS_PER_MS, key_subject
from provider.nats.frames import header_value
from provider.nats.headers import ttl_seconds

_NEVER = b"never"


async def server_end_ms(
    jetstream: js.JetStream, bucket: Bucket, bucket_key: str, revision: int, deadline: float
) -> int:
    """Return the time at which the server removes a revision of a key, in milliseconds since 1970.

    Returns:
        0 if the server never removes it, or if the key has another revision by now.

    Raises:
        errors.NatsError, TimeoutError: The server could not be asked.
    """
    config = (await jetstream.stream_info(bucket.stream, deadline)).config
    if not config.max_age and not config.allow_msg_ttl:
        return 0
    subject = key_subject(bucket.name, bucket_key)
    if config.num_replicas == 1 and config.allow_direct:
        request = f"{jetstream.api_prefix}.DIRECT.GET.{bucket.stream}.{subject}".encode()
        header, _ = await jetstream.connection.request(request, deadline=deadline)
        found = int(header_value(header, SEQUENCE) or 0)
        time_ms = js.time_ms((header_value(header, b"Nats-Time-Stamp") or b"").decode(errors="replace"))
    else:
        message = await jetstream.last_message(bucket.stream, subject, deadline)
        if message is None:
            return 0
        found, time_ms, header = message.sequence, message.time_ms, message.header
    return end_ms(header, time_ms, config) if found == revision else 0


def end_ms(header: bytes, time_ms: int, config: js.StreamConfig) -> int:
    """Return the time at which the server removes a message that was stored at `time_ms`; 0: never.

    A message with the TTL "never" outlives the stream's maximum age; one with a time does not. A server that does not accept
    TTLs in this stream stores them like any other header.

    Source: ADR-43; nats-server server/filestore.go, server/memstore.go.
    """
    ttl = header_value(header, TTL) if config.allow_msg_ttl else None
    if ttl is not None and ttl.lower() == _NEVER:
        return 0
    seconds = ttl_seconds(ttl or b"")
    ends = [time_ms + seconds * 1000] if seconds else []
    if config.max_age:
        ends.append(time_ms + config.max_age // NANOSECONDS_PER_MS)
    return min(ends, default=0)
