"""The lattice's own records of links under hosts of wasmCloud 1.x, from which missed links are found.

The bucket LATTICEDATA_{lattice} has a record for each component, with its links and the names of their configs; the
bucket CONFIGDATA_{lattice} has the configs. Both are read and never written. Secrets are in neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from contracts.codec import MalformedError
from contracts.wasmcloud1 import LinkRecord, decode_component_record, decode_config
from provider import errors
from provider.lattice.protocol import LinkEvent
from provider.lattice.wasmcloud1.protocol import RecordedLink, Wasmcloud1Protocol
from provider.nats import jetstream as js
from provider.nats.buckets import STREAM_NOT_FOUND, key_subject, stream_name
from provider.nats.connection import Connection
from provider.nats.headers import is_deletion

_log = logging.getLogger(__name__)

_READ_SECONDS = 2.0
"""Time for one read. A failed scan is repeated after `_RESCAN_SECONDS`, so a slow server costs only a delay."""

_RESCAN_SECONDS = 30.0
"""A link that was missed while the connection seemed to be well is found after this time at the latest."""

_FIRST_SECONDS = 0.5
"""Time for the records at the start: hundreds of reads. The rest is read later, while calls are served."""

_SETTLE_SECONDS = 1.0
"""Time that a host needs at most to put a link that it has recorded. Only a link that was missed is put from a record."""

_RECORD_PREFIX = "COMPONENT_"


class Wasmcloud1LinkRecords:
    """The records of one lattice, passed to the protocol: at the start, after each reconnect, and in intervals.

    Args:
        connection: Connection to the lattice.
        protocol: State machine that compares records with the links in force.
        apply: Callback for each link event.

    Attributes:
        notice: Reason why the records cannot be read, for health; None if they can, or in a lattice without records.
    """

    def __init__(
        self, connection: Connection, protocol: Wasmcloud1Protocol, apply: Callable[[LinkEvent], None]
    ) -> None:
        lattice = protocol.subjects.lattice
        self.notice: str | None = None
        self._connection = connection
        self._protocol = protocol
        self._apply = apply
        self._jetstream = js.JetStream(connection, "")
        self._records = f"LATTICEDATA_{lattice}"
        self._configs = f"CONFIGDATA_{lattice}"
        self._last_sequence = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Read the records soon: a link has arrived that they may not have any more."""
        self._wake.set()

    async def read_first(self) -> None:
        """Read the records before calls are served, for a link that was put while this process started."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._scan_or_note()

    async def follow(self) -> None:
        """Read the records again and again until the task is cancelled."""
        stop_waking = self._connection.on_reconnect(self._wake.set)
        try:
            while True:
                # The messages of a host follow its records. Until they had the time to arrive, no link was missed.
                await asyncio.sleep(_SETTLE_SECONDS)
                self._wake.clear()
                await self._scan_or_note()
                try:
                    async with asyncio.timeout(_RESCAN_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            stop_waking()

    async def _scan_or_note(self) -> None:
        try:
            await self._scan()
            self.notice = None
        except (errors.NatsError, TimeoutError) as error:
            if getattr(error, "err_code", 0) == STREAM_NOT_FOUND or isinstance(error, errors.NoRespondersError):
                self.notice = None  # a lattice without records, or without JetStream
                self._protocol.unchecked.clear()
                return
            notice = f"links that were missed are not found: {self._records} cannot be read: {error}"
            if notice != self.notice:
                _log.warning("link_records_unread", extra={"reason": notice})
            self.notice = notice

    async def _scan(self) -> None:
        stream = stream_name(self._records)
        info = await self._jetstream.stream_info(stream, self._deadline())
        last = info.state.last_seq
        if last < self._last_sequence:
            self._protocol.forget_records()
            self._last_sequence = 0
        prefix = key_subject(self._records, _RECORD_PREFIX)
        wildcard = f"{prefix.rpartition('.')[0]}.>"  # an id may have dots
        sequence = self._last_sequence + 1
        while sequence <= last:
            message = await self._jetstream.next_message(stream, wildcard, sequence, self._deadline())
            if message is None:
                break
            sequence = message.sequence + 1
            if message.subject.startswith(prefix):
                await self._receive(message.subject.removeprefix(prefix), message)
        self._last_sequence = last
        for component_id in sorted(self._protocol.unchecked):
            await self._check(component_id, stream, prefix + component_id)

    async def _check(self, component_id: str, stream: str, subject: str) -> None:
        """Read the record of one component again."""
        self._protocol.unchecked.discard(component_id)
        try:
            record = await self._jetstream.last_message(stream, subject, self._deadline())
        except BaseException:
            self._protocol.forget_record(component_id)
            raise
        if record is not None:
            await self._receive(component_id, record)

    async def _receive(self, component_id: str, message: js.StoredMessage) -> None:
        links = _links(message.header, message.payload)
        if links is None:
            return
        written = message.time_ms / 1000
        deleted, wanted = self._protocol.receive_record(component_id, message.sequence, written, links)
        for event in deleted:
            self._apply(event)
        try:
            for link in wanted:
                self._apply(self._protocol.put_recorded(link, await self._read_configs(link)))
        except BaseException:
            self._protocol.forget_record(component_id)
            raise

    async def _read_configs(self, link: RecordedLink) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for name in link.configs:
            subject = key_subject(self._configs, name)
            message = await self._jetstream.last_message(stream_name(self._configs), subject, self._deadline())
            if message is None or is_deletion(message.header):
                continue
            try:
                found[name] = decode_config(message.payload)
            except MalformedError as error:
                _log.warning("link_config_unread", extra={"config": name, "reason": str(error)})
        return found

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + _READ_SECONDS


def _links(header: bytes, payload: bytes) -> list[LinkRecord] | None:
    """Return the links in a record, without any if it was removed; None if it cannot be read."""
    if is_deletion(header) or not payload:
        return []
    try:
        return decode_component_record(payload)
    except MalformedError:
        return None
