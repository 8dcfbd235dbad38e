"""The statistics of all running instances, asked for over NATS. The exporter and `top` show them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from contracts.statistics import SERVICE_PREFIX, InstanceStatistics, Text
from provider import errors
from provider.nats.connection import Connection
from provider.nats.requests import new_inbox

_SUBJECT = b"$SRV.STATS"
_NO_RESPONDERS = b"NATS/1.0 503"
"""The header of the server's answer when no service listens."""

_LATE_SECONDS = 0.05
"""Time for instances that are not known yet, after all known ones have answered: most answer within a millisecond."""

MOST_INSTANCES = 1000
"""Instances that are shown. Any client of the account may answer in the name of a service, and none may fill a memory."""


class RunningInstance(NamedTuple):
    """One running provider.

    Attributes:
        id: Id of the instance.
        version: Version of the provider.
        data: Its statistics.
    """

    id: str
    version: str
    data: InstanceStatistics


class _Answer(Struct, frozen=True):
    """The statistics of a service as NATS defines them, as far as they are used."""

    name: Text
    id: Text
    version: Text
    data: InstanceStatistics


class Instances:
    """Asks the instances of a lattice for their statistics.

    Args:
        connection: Connection to the lattice.
        lattice: Lattice prefix; None: every lattice of the account.
    """

    def __init__(self, connection: Connection, lattice: str | None) -> None:
        self._connection = connection
        self._lattice = lattice
        self._loop = asyncio.get_running_loop()
        self._known: set[tuple[str, str]] = set()
        """Lattices and ids of the instances that have answered the last time, be it late."""
        self._inbox = new_inbox()
        self._is_listening = False
        self._asked = 0
        self._answers: dict[tuple[str, str], RunningInstance] = {}
        self._refusal = ""
        self._is_done = asyncio.Event()
        """Set when all known instances have answered, or no further answer is to be expected."""
        self._turn = asyncio.Lock()

    async def gather(self, wait_seconds: float) -> list[RunningInstance]:
        """Return the instances that answer, in a stable order.

        It is done as soon as all instances have answered that did so the last time. One that was too late is waited for
        as well: the instances that are slow are those that an operator must see.

        Args:
            wait_seconds: Time for the answers.

        Raises:
            errors.NotConnectedError: There is no connection.
            errors.PermissionsError: The server refuses the question.
        """
        async with self._turn:
            if not self._is_listening:
                await self._connection.listen(f"{self._inbox}.*", self._on_answer)
                self._connection.on_refusal(_SUBJECT, self._on_refusal)
                self._is_listening = True
            self._answers, self._is_done, self._refusal = {}, asyncio.Event(), ""
            self._connection.publish_request(_SUBJECT, self._reply_subject, b"")
            deadline = self._loop.time() + wait_seconds
            try:
                async with asyncio.timeout_at(deadline):
                    await self._is_done.wait()
                    await asyncio.sleep(_LATE_SECONDS)
            except TimeoutError:
                if not self._connection.is_connected:
                    raise errors.NotConnectedError from None
            finally:
                self._asked += 1  # answers from now on are late
            if self._refusal:
                raise errors.PermissionsError(self._refusal)
            self._known = set(self._answers)
            return sorted(self._answers.values(), key=lambda found: (found.data.lattice, found.data.host_id, found.id))

    @property
    def _reply_subject(self) -> bytes:
        """Subject of the answers to this question, or to the next one. Late answers are told apart by it."""
        return f"{self._inbox}.{self._asked}".encode()

    def _on_answer(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        is_late = subject != self._reply_subject
        if len(self._known if is_late else self._answers) >= MOST_INSTANCES:
            return
        if header.startswith(_NO_RESPONDERS) and not is_late:
            self._is_done.set()
        found = instance_from(payload)
        if found is None or self._lattice not in (None, found.data.lattice):
            return
        if is_late:
            self._known.add((found.data.lattice, found.id))
            return
        self._answers[found.data.lattice, found.id] = found
        if self._known and self._known <= self._answers.keys():
            self._is_done.set()

    def _on_refusal(self, reason: str) -> None:
        self._refusal = reason
        self._is_done.set()


def instance_from(payload: bytes) -> RunningInstance | None:
    """Decode an answer; None if it is of another service, or larger than a provider's."""
    try:
        answer = msgspec.json.decode(payload, type=_Answer)
    except msgspec.DecodeError:  # a field is missing or has another type, or the payload is not JSON
        return None
    if not answer.name.startswith(SERVICE_PREFIX):
        return None
    by_name = {found.operation: found for found in answer.data.operations}
    return RunningInstance(answer.id, answer.version, structs.replace(answer.data, operations=list(by_name.values())))
