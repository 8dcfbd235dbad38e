"""The NATS service API: the provider's name and version, the counts of each operation, and the state of the instance.

`nats micro ls` and `nats micro stats` show the counts; the state is the `data` of the statistics.

Source: ADR-32 (service API).
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from contracts.statistics import MOST_ROWS, InstanceStatistics
from provider import errors
from provider.lattice.call_counts import CallCounts, OperationCounts
from provider.nats.buckets import NANOSECONDS
from provider.nats.connection import Connection

_MOST_SHARE = 0.1
"""Share of the process's time that statistics may take: any client of the account may ask for them."""

_MOST_AT_ONCE_SECONDS = 0.1
"""Time that statistics may take at once, after they took none for a second: more than a hundred answers."""


class ServiceNames(Struct, frozen=True):
    """The names under which a service appears.

    Attributes:
        name: Name of the service, the same for all its instances.
        instance_id: Id of the instance.
        version: Version of the provider.
        description: Description for people.
        subject: Subject of invocations.
        queue: Queue group of that subject.
    """

    name: str
    instance_id: str
    version: str
    description: str
    subject: str
    queue: str


class ServiceStatistics:
    """The answers to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.

    Args:
        counts: Counts of the calls.
        describe: Returns the state of the instance, with at most a given number of links and of stores of each kind.
        names: Names under which the service appears.
    """

    def __init__(self, counts: CallCounts, describe: Callable[[int], InstanceStatistics], names: ServiceNames) -> None:
        self._counts = counts
        self._describe = describe
        self._names = names
        self._last = b""
        self._left_seconds = _MOST_AT_ONCE_SECONDS
        """Time that is left for new answers, as of `_left_at`."""
        self._left_at = time.perf_counter()
        self._started = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")

    async def serve(self, connection: Connection) -> None:
        """Answer the service API on a connection until it is closed."""
        names = self._names
        for verb, answer in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):

            def on_request(subject: bytes, reply: bytes, header: bytes, payload: bytes, make: Any = answer) -> None:
                with contextlib.suppress(errors.NotConnectedError, errors.MessageTooLargeError):
                    connection.answer(reply, make(connection.max_payload_bytes))

            for name in (f"$SRV.{verb}", f"$SRV.{verb}.{names.name}", f"$SRV.{verb}.{names.name}.{names.instance_id}"):
                await connection.listen(name, on_request)

    def _ping(self, max_bytes: int) -> bytes:
        return msgspec.json.encode(self._answer("ping"))

    def _info(self, max_bytes: int) -> bytes:
        endpoints = [self._endpoint(operation) for operation in sorted(self._counts.operations)]
        return msgspec.json.encode(
            self._answer("info") | {"description": self._names.description, "endpoints": endpoints}
        )

    def _stats(self, max_bytes: int) -> bytes:
        """Return the statistics as of now, with every call that has been answered. In a flood of requests, some get the last."""
        began = time.perf_counter()
        left = min(self._left_seconds + (began - self._left_at) * _MOST_SHARE, _MOST_AT_ONCE_SECONDS)
        if left > 0:
            self._last = self._encoded_stats(max_bytes)
            left -= time.perf_counter() - began
        self._left_seconds, self._left_at = left, began
        return self._last

    def _encoded_stats(self, max_bytes: int) -> bytes:
        """Return the statistics with as many links and stores as fit into a message."""
        totals, none = self._counts.totals(), OperationCounts()
        endpoints = [
            self._counted(operation, totals.get(operation, none)) for operation in sorted(self._counts.operations)
        ]
        answer = self._answer("stats") | {"started": self._started, "endpoints": endpoints}
        most = MOST_ROWS
        encoded = msgspec.json.encode(answer | {"data": self._describe(most)})
        while len(encoded) > max_bytes and most:
            most //= 2
            encoded = msgspec.json.encode(answer | {"data": self._describe(most)})
        return encoded

    def _counted(self, operation: str, counts: OperationCounts) -> dict[str, Any]:
        time_ns = int(counts.seconds * NANOSECONDS)
        return self._endpoint(operation) | {
            "num_requests": counts.requests,
            "num_errors": counts.errors,
            "last_error": counts.last_error,
            "processing_time": time_ns,
            "average_processing_time": time_ns // max(counts.requests, 1),
        }

    def _answer(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._names.name,
            "id": self._names.instance_id,
            "version": self._names.version,
            "metadata": {},
        }

    def _endpoint(self, operation: str) -> dict[str, Any]:
        return {"name": operation.replace(".", "_"), "subject": self._names.subject, "queue_group": self._names.queue}
