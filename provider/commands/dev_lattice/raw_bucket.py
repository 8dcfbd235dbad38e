"""A bucket read directly from its stream, as `nats kv get` does, to check the provider's answers independently of it."""

from __future__ import annotations

import nats.errors
from nats.aio.client import Client

from provider.keyvalue.keys import encode_key
from provider.nats.buckets import key_subject, stream_name

_MARKERS = frozenset({"DEL", "PURGE", "MaxAge", "Remove", "Purge"})
"""Values of the headers that mark a deleted key: written by clients, or by the server. Source: ADR-8, ADR-43."""


class RawBucket:
    """One JetStream bucket over an open connection.

    Args:
        connection: Connection to the account that owns the bucket.
        bucket: Name of the bucket, without the stream's `KV_` prefix.
    """

    def __init__(self, connection: Client, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket

    def direct_get_subject(self, key: str) -> str:
        return f"$JS.API.DIRECT.GET.{stream_name(self._bucket)}.{key_subject(self._bucket, encode_key(key))}"

    async def value(self, key: str) -> str | None:
        """Return the stored bytes of an actor's key as text, whatever its kind, or None if it has no value.

        Raises:
            nats.errors.Error: There is no such bucket, or no answer.
        """
        reply = await self._connection.request(self.direct_get_subject(key), b"", timeout=2)
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return None
        if "Status" in headers:
            raise nats.errors.Error(f"direct get answered {headers}")
        if _MARKERS & {headers.get("KV-Operation"), headers.get("Nats-Marker-Reason")}:
            return None
        return reply.data.decode(errors="replace")

    async def delete(self) -> None:
        """Remove the bucket if it exists, so that nothing remains on a server that belongs to the user."""
        await self._connection.request(f"$JS.API.STREAM.DELETE.{stream_name(self._bucket)}", b"", timeout=5)
