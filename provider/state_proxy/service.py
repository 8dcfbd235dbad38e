"""The service behind the socket over the life of the process: it waits for the bucket, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from provider import errors
from provider.keyvalue.bucket.store import BucketStore
from provider.nats.connection import Connection
from provider.state_proxy import file_operations as ops
from provider.state_proxy.connector import Connector, seconds_of
from provider.state_proxy.conversation import BodyLimits
from provider.state_proxy.http1 import Response
from provider.state_proxy.key_memory import UnansweredReads
from provider.state_proxy.keyspace import Keyspace
from provider.state_proxy.refusals import UNAVAILABLE, RequestRefusedError, refusal_of

_ATTRIBUTE_LIMITS = BodyLimits(4096, 4096, "the limit of an attribute")
"""A number in a JSON object."""

_UNUSED_LIMITS = BodyLimits(65536, 65536, "the limit of a body without a use")


class ConnectorService:
    """The operations of a connector, from before its bucket is open until the process ends.

    Args:
        keyspace: The actor's keys.

    Attributes:
        reason: The reason why the bucket is not open.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self.reason = "the bucket is still being opened"
        self._unanswered = UnansweredReads()
        self._keyspace = keyspace
        self._connector: Connector | None = None
        self._is_settled = asyncio.Event()
        self._is_ending = False

    def opened(self, store: BucketStore, connection: Connection) -> None:
        """Answer from now on, also the requests that wait."""
        self._connector = Connector(store, connection, self._keyspace, self._unanswered)
        self._is_settled.set()

    def failed(self, reason: str) -> None:
        """Refuse all requests, also those that wait: the bucket will not be opened."""
        self.reason = reason
        self._is_settled.set()

    def end(self) -> None:
        """Begin no further changes. Those that have begun are finished, and reads are answered."""
        self._is_ending = True

    async def body_limits(self, operation: ops.FileOperation) -> BodyLimits:
        """Return the limits of the body of an operation that begins. For a write the bucket and its server tell.

        Raises:
            RequestRefusedError: The operation cannot begin.
        """
        if self._is_ending and isinstance(operation, ops.CHANGES):
            raise RequestRefusedError(UNAVAILABLE, "the connector is about to end")
        if isinstance(operation, ops.WriteFile):
            return (await self._opened(operation)).file_limits
        return _ATTRIBUTE_LIMITS if isinstance(operation, ops.WriteTtl) else _UNUSED_LIMITS

    async def perform(self, operation: ops.FileOperation, body: bytes | AsyncIterator[bytes]) -> Response:
        """Carry out an operation. Errors become answers."""
        try:
            connector = await self._opened(operation)
        except RequestRefusedError as error:
            return refusal_of(error, is_connected=True)
        return await connector.perform(operation, body)

    def has_failed(self, operation: ops.FileOperation) -> None:
        """Take note of an operation whose client got an error instead of a result."""
        if isinstance(operation, ops.ReadFile | ops.StatFile):
            with contextlib.suppress(errors.StoreError):  # the name cannot be a key, or is that of the mount
                bucket_key = self._keyspace.bucket_key(operation.key)
                self._unanswered.failed(bucket_key, is_read=isinstance(operation, ops.ReadFile))

    async def _opened(self, operation: ops.FileOperation) -> Connector:
        """Return the connector; wait for it as long as the operation may take.

        Raises:
            RequestRefusedError: The bucket is not open.
        """
        if self._connector is None:
            try:
                async with asyncio.timeout(seconds_of(operation)):
                    await self._is_settled.wait()
            except TimeoutError:
                pass
        if self._connector is None:
            raise RequestRefusedError(UNAVAILABLE, self.reason)
        return self._connector
