"""The lattice's own records of links, from which the provider learns of a link definition that it missed.

Two sources are read and never written: the bucket LATTICEDATA_{lattice} of hosts since OTP 0.60 and Rust 0.78, and the
stream LATTICECACHE_{lattice} of older hosts. A lattice may have neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from contracts import codec
from provider import errors
from provider.lattice.protocol import LatticeProtocol, LinkEvent
from provider.nats import jetstream as js
from provider.nats.buckets import STREAM_NOT_FOUND, SUBJECT_PREFIX, key_subject, stream_name
from provider.nats.connection import Connection
from provider.nats.headers import is_deletion

_log = logging.getLogger(__name__)

_READ_SECONDS = 2.0
"""Time for one read. A failed scan is repeated after `_RESCAN_SECONDS`, so a slow server costs only a delay."""

_RESCAN_SECONDS = 30.0
"""A change that was published while a subscription was missing is found after this time at the latest."""

_RECORD_PREFIX = "LINKDEF_"


class LinkRecords:
    """The records of one lattice, passed to the protocol.

    At first all records are read, then each published change. After a reconnect, and in intervals, all are read again,
    because a change may have been missed.

    Args:
        connection: Connection to the lattice.
        protocol: State machine that turns a record into a link event.
        settle: Function called before a record is passed to the protocol, which may change a link.
        apply: Callback for each link event.
        domain: JetStream domain of the lattice, or "".
    """

    def __init__(
        self,
        connection: Connection,
        protocol: LatticeProtocol,
        settle: Callable[[], None],
        apply: Callable[[LinkEvent], None],
        domain: str,
    ) -> None:
        lattice = protocol.subjects.lattice
        self._connection = connection
        self._protocol = protocol
        self._settle = settle
        self._apply = apply
        self._jetstream = js.JetStream(connection, domain)
        bucket = f"LATTICEDATA_{lattice}"
        self._sources = (
            (stream_name(bucket), key_subject(bucket, _RECORD_PREFIX)),
            (f"LATTICECACHE_{lattice}", f"lc.{lattice}.linkdefs."),
        )
        self._scanned: dict[str, int] = {}
        self._wake = asyncio.Event()

    async def follow(self) -> None:
        """Read and follow the records until the task is cancelled."""
        stop_waking = self._connection.on_reconnect(self._wake.set)
        try:
            for _, subject in self._sources:
                await self._connection.listen(f"{subject.rpartition('.')[0]}.*", self._on_change)
            while True:
                self._wake.clear()
                await self._scan_all()
                try:
                    async with asyncio.timeout(_RESCAN_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            stop_waking()

    def _on_change(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        self._receive(subject.decode(errors="replace"), header, payload)

    async def _scan_all(self) -> None:
        for stream, subject in self._sources:
            try:
                await self._scan(stream, subject)
            except (errors.NatsError, TimeoutError) as error:
                if getattr(error, "err_code", 0) != STREAM_NOT_FOUND:
                    _log.debug("link_records_unread", extra={"stream": stream, "reason": str(error)})

    async def _scan(self, stream: str, subject_prefix: str) -> None:
        info = await self._jetstream.stream_info(stream, self._deadline())
        if self._scanned.get(stream) == info.state.last_seq:
            return
        wildcard = f"{subject_prefix.rpartition('.')[0]}.*"
        sequence = 1
        while (message := await self._jetstream.next_message(stream, wildcard, sequence, self._deadline())) is not None:
            self._receive(message.subject, message.header, message.payload)
            sequence = message.sequence + 1
        self._scanned[stream] = info.state.last_seq

    def _receive(self, subject: str, header: bytes, payload: bytes) -> None:
        record = subject.rpartition(".")[2]
        if subject.startswith(SUBJECT_PREFIX) and not record.startswith(_RECORD_PREFIX):
            return
        self._settle()
        if is_deletion(header) or not payload:
            self._apply(self._protocol.forget_hash(record.removeprefix(_RECORD_PREFIX)))
            return
        try:
            definition = codec.unpack_json(payload, "link record")
        except codec.MalformedError:
            return
        is_deleted = isinstance(definition, dict) and definition.get("deleted") is True
        self._apply(self._protocol.receive_metadata(definition, is_deleted=is_deleted))

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + _READ_SECONDS
