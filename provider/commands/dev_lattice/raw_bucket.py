"""Read a bucket the way `nats kv get` does: past the provider, straight from the stream."""

from __future__ import annotations

import nats.errors
from nats.aio.client import Client

from provider.keyvalue.keys import encode_key
from provider.nats.buckets import key_subject, stream_name

_MARKERS = frozenset({"DEL", "PURGE", "MaxAge", "Remove", "Purge"})


class RawBucket:
    """One JetStream bucket over an open connection.

    Args:
        connection: Of the account that has the bucket.
        bucket: Its name, without the stream's `KV_`.
    """

    def __init__(self, connection: Client, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket

    def direct_get_subject(self, key: str) -> str:
        return f"$JS.API.DIRECT.GET.{stream_name(self._bucket)}.{key_subject(self._bucket, encode_key(key))}"

    async def value(self, key: str) -> str | None:
        """Return what is stored under an actor's key, whatever its kind; `None`: nothing, or a marker.

        Raises:
            nats.errors.Error: No such bucket, or no answer.
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
        """Remove the whole bucket, if there is one: nothing stays behind on somebody else's server."""
        await self._connection.request(f"$JS.API.STREAM.DELETE.{stream_name(self._bucket)}", b"", timeout=5)
