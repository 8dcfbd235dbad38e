"""Counts, failures and times of each operation, as NATS service statistics.

`nats micro ls` and `nats micro stats` show them.

Source: ADR-32 (service API).
"""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import msgspec

from contracts.operations import REQUESTS
from provider import errors
from provider.nats.connection import Connection


class OperationStatistics:
    """The counts of one operation. Times are in nanoseconds."""

    __slots__ = ("errors", "last_error", "requests", "time_ns")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.time_ns = 0
        self.last_error = ""


class ServiceStatistics:
    """The counters of all operations, and the answers to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`."""

    def __init__(
        self, *, name: str, instance_id: str, version: str, description: str, subject: str, queue: str
    ) -> None:
        self._name = name
        self._id = instance_id
        self._version = version
        self._description = description
        self._subject = subject
        self._queue = queue
        self._started = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        self._operations = {operation: OperationStatistics() for operation in REQUESTS}

    def count(self, operation: str, seconds: float, error: str) -> None:
        """Count one call. `error` is "" if it succeeded. Only operations of the contract are counted."""
        found = self._operations.get(operation)
        if found is None:
            return
        found.requests += 1
        found.time_ns += int(seconds * 1e9)
        if error:
            found.errors += 1
            found.last_error = error

    async def serve(self, connection: Connection) -> None:
        """Answer the service API on a connection until it is closed."""
        for verb, answer in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):

            def on_request(subject: bytes, reply: bytes, header: bytes, payload: bytes, make: Any = answer) -> None:
                with contextlib.suppress(errors.NotConnectedError):
                    connection.answer(reply, msgspec.json.encode(make()))

            for name in (f"$SRV.{verb}", f"$SRV.{verb}.{self._name}", f"$SRV.{verb}.{self._name}.{self._id}"):
                await connection.listen(name, on_request)

    def _ping(self) -> dict[str, Any]:
        return self._answer("ping")

    def _info(self) -> dict[str, Any]:
        endpoints = [self._endpoint(operation) for operation in sorted(self._operations)]
        return self._answer("info") | {"description": self._description, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            self._endpoint(operation)
            | {
                "num_requests": counts.requests,
                "num_errors": counts.errors,
                "last_error": counts.last_error,
                "processing_time": counts.time_ns,
                "average_processing_time": counts.time_ns // max(counts.requests, 1),
            }
            for operation, counts in sorted(self._operations.items())
        ]
        return self._answer("stats") | {"started": self._started, "endpoints": endpoints}

    def _answer(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._name,
            "id": self._id,
            "version": self._version,
            "metadata": {},
        }

    def _endpoint(self, operation: str) -> dict[str, Any]:
        return {"name": operation.replace(".", "_"), "subject": self._subject, "queue_group": self._queue}
