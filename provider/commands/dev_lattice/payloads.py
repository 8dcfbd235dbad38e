"""Payloads that are too long for one message, as a host sends them: through the object store named after the lattice."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from msgspec import structs
from nats.aio.client import Client

from contracts.lattice import CHUNK_THRESHOLD_BYTES, Invocation, InvocationResponse

if TYPE_CHECKING:  # loaded with the first long payload
    from nats.js.object_store import ObjectStore

ADDITIONAL_SECONDS = 13.0
"""Additional time of a call whose payload travels this way, as hosts allow it. Source: wasmbus-rpc rpc_client.rs."""


class Payloads:
    """The object store of a lattice."""

    def __init__(self, connection: Client, lattice: str) -> None:
        self._connection = connection
        self._lattice = lattice

    async def send(self, invocation: Invocation) -> Invocation:
        """Put the payload of a long invocation into the store and return the invocation without it."""
        if len(invocation.msg) <= CHUNK_THRESHOLD_BYTES:
            return invocation
        await (await self._store()).put(invocation.id, invocation.msg)
        return structs.replace(invocation, msg=b"")

    async def receive(self, response: InvocationResponse) -> bytes:
        """Return the payload of a response; a long one is read from the store and removed there."""
        length = response.content_length
        if not isinstance(length, int) or length <= len(response.msg):
            return response.msg
        from nats.js.errors import NotFoundError

        store, name = await self._store(), f"{response.invocation_id}-r"
        payload = io.BytesIO()  # without it, nats-py joins the pieces one by one: 40 seconds for 60 MiB
        await store.get(name, payload)
        with contextlib.suppress(NotFoundError):
            await store.delete(name)
        return payload.getvalue()

    async def _store(self) -> ObjectStore:
        from nats.js.errors import BucketNotFoundError, NotFoundError

        jetstream = self._connection.jetstream()
        try:
            return await jetstream.object_store(self._lattice)
        except (BucketNotFoundError, NotFoundError):
            return await jetstream.create_object_store(self._lattice)
