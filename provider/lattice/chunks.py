"""Payloads that are too long for one message. They travel through the object store named after the lattice.

OTP hosts read the time of an object as `modified`, Rust hosts and nats-py as `mtime`, so both are written.

Source: ADR-20 (object store); wasmbus-rpc v0.15 chunkify.rs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import secrets
from collections.abc import Iterator

import msgspec

from contracts.long_values import LongBytes, empty_buffer
from provider import errors
from provider.nats import jetstream as js
from provider.nats.connection import Connection
from provider.nats.frames import header_block
from provider.tasks import share

CHUNK_BYTES = 128 * 1024
"""The default of ADR-20, far below the default max_payload of a server."""

_PIECES_AT_ONCE = 4
"""Pieces that wait for their acknowledgement. They hide most round trips, and the answers of other calls, which the server reads
after them, do not wait for long."""

_READS_AT_ONCE = 8
"""Pieces that are asked for at once: a megabyte hides most round trips."""

_HASHED_BYTES = 1024 * 1024
"""Size of the pieces that are hashed: the lock of the interpreter is taken for a moment between them."""

_CLEAN_UP_SECONDS = 0.5
"""The caller is waiting for its error. Pieces that are not removed in this time stay in the object store."""

_ROLLUP = header_block((b"Nats-Rollup", b"sub"))


class _ObjectInfo(msgspec.Struct):
    nuid: str
    size: int = 0
    chunks: int = 0
    digest: str = ""
    deleted: bool = False


_info_decoder = msgspec.json.Decoder(_ObjectInfo)


class ChunkStore:
    """The object store of one lattice."""

    def __init__(self, connection: Connection, lattice: str, domain: str) -> None:
        self._jetstream = js.JetStream(connection, domain)
        self._bucket = lattice
        self._stream = f"OBJ_{lattice}"

    async def fetch(self, name: str, size: int, deadline: float) -> memoryview:
        """Read an object and remove it. In memory it takes its size and a few pieces.

        Args:
            name: Id of the invocation.
            size: Size in bytes that the invocation states. An object of another size is not read.
            deadline: Time on the event loop's clock.

        Raises:
            errors.ChunkError: The object is missing, or differs from its metadata or from the stated size.
        """
        try:
            info = await self._info(name, deadline)
            if info.size != size:
                raise errors.ChunkError(f"object of {info.size} bytes where the invocation says {size}")
            payload = await self._read(info, deadline)
            await self._remove(name, info, deadline)
        except errors.NatsError as error:
            raise errors.ChunkError(str(error)) from None
        return payload

    async def put(self, name: str, payload: bytes | LongBytes, deadline: float) -> None:
        """Write an object, which is copied piece by piece. Its reader removes it.

        Raises:
            errors.ChunkError: The object could not be written.
        """
        nuid = secrets.token_hex(11)
        whole = payload if isinstance(payload, LongBytes) else LongBytes([payload])
        size = min(CHUNK_BYTES, self._jetstream.connection.max_payload_bytes)
        pieces = map(bytes, whole.cuts(size))
        first = next(pieces)
        subject = f"$O.{self._bucket}.C.{nuid}"
        hashing = asyncio.create_task(_sha256(whole))  # beside the writes, which take longer
        try:
            try:
                await self._jetstream.publish(subject, first, b"", deadline)
            except errors.NoRespondersError:
                await self._create(deadline)
                await self._jetstream.publish(subject, first, b"", deadline)
            await self._write(subject, pieces, deadline)
            digest = base64.urlsafe_b64encode(await hashing).decode()
            info = self._meta(name, nuid, len(whole), -(-len(whole) // size), f"SHA-256={digest}", is_deleted=False)
            await self._jetstream.publish(self._meta_subject(name), info, _ROLLUP, deadline)
        except errors.NatsError as error:
            with contextlib.suppress(errors.NatsError):  # without metadata, no reader finds and removes these pieces
                until = asyncio.get_running_loop().time() + _CLEAN_UP_SECONDS
                await self._jetstream.purge(self._stream, subject, until)
            raise errors.ChunkError(str(error)) from None
        finally:
            hashing.cancel()

    async def _write(self, subject: str, pieces: Iterator[bytes], deadline: float) -> None:
        """Write pieces in their order, several at a time."""

        async def write_some() -> None:
            for piece in pieces:
                await self._jetstream.publish(subject, piece, b"", deadline)

        await share(write_some, _PIECES_AT_ONCE)

    async def remove(self, name: str, deadline: float) -> None:
        """Remove an object without reading it.

        Raises:
            errors.ChunkError: The object is missing, or could not be removed.
        """
        try:
            await self._remove(name, await self._info(name, deadline), deadline)
        except errors.NatsError as error:
            raise errors.ChunkError(str(error)) from None

    async def _info(self, name: str, deadline: float) -> _ObjectInfo:
        message = await self._jetstream.last_message(self._stream, self._meta_subject(name), deadline)
        if message is None:
            raise errors.ChunkError("the payload of this invocation is not there")
        try:
            info = _info_decoder.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise errors.ChunkError("metadata of the payload cannot be read") from None
        if info.deleted:
            raise errors.ChunkError("the payload of this invocation was removed")
        if not info.nuid.isalnum():
            raise errors.ChunkError("metadata of the payload cannot be read")
        return info

    async def _read(self, info: _ObjectInfo, deadline: float) -> memoryview:
        subject = f"$O.{self._bucket}.C.{info.nuid}"
        payload = empty_buffer(max(info.size, 0))
        have, sequence, at_once = 0, 1, 1
        while have < info.size:
            # The pieces of an object mostly follow each other in the stream. Each request is for the next one from some sequence
            # on, so where others lie between, several bring the same, and no piece is passed over.
            wanted = range(sequence, sequence + at_once)
            asked = (self._jetstream.next_message(self._stream, subject, first, deadline) for first in wanted)
            found = {
                message.sequence: message.payload for message in await asyncio.gather(*asked) if message is not None
            }
            if not found:
                raise errors.ChunkError(f"payload ends after {have} of {info.size} bytes")
            for number in sorted(found):
                piece = found[number]
                if have + len(piece) > info.size:
                    raise errors.ChunkError("payload is not the one that its metadata describes")
                payload[have : have + len(piece)] = piece
                have += len(piece)
            sequence = max(found) + 1
            at_once = min(2 * at_once, _READS_AT_ONCE) if len(found) == at_once else max(at_once // 2, 1)
        digest = base64.urlsafe_b64encode(await _sha256(LongBytes([payload]))).decode().rstrip("=")
        if info.size < 0 or (info.digest and info.digest.partition("=")[2].rstrip("=") != digest):
            raise errors.ChunkError("payload is not the one that its metadata describes")
        return payload

    async def _remove(self, name: str, info: _ObjectInfo, deadline: float) -> None:
        meta = self._meta(name, info.nuid, 0, 0, "", is_deleted=True)
        await self._jetstream.publish(self._meta_subject(name), meta, _ROLLUP, deadline)
        await self._jetstream.purge(self._stream, f"$O.{self._bucket}.C.{info.nuid}", deadline)

    async def _create(self, deadline: float) -> None:
        config = {
            "name": self._stream,
            "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
            "retention": "limits",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "storage": "file",
            "discard": "new",
            "num_replicas": 1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        await self._jetstream.create_stream(config, deadline)

    def _meta_subject(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _meta(self, name: str, nuid: str, size: int, chunks: int, digest: str, *, is_deleted: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        return msgspec.json.encode(
            {
                "name": name,
                "description": None,
                "options": {"max_chunk_size": CHUNK_BYTES},
                "bucket": self._bucket,
                "nuid": nuid,
                "size": size,
                "chunks": chunks,
                "digest": digest,
                "deleted": is_deleted,
                "link": None,
                "modified": now,
                "mtime": now,
            }
        )


async def _sha256(payload: LongBytes) -> bytes:
    """Return the digest of a payload, computed in a thread: for 64 MiB it takes a fifth of a second."""

    def hashed() -> bytes:
        digest = hashlib.sha256()
        for piece in payload.cuts(_HASHED_BYTES):
            digest.update(piece)
        return digest.digest()

    return await asyncio.to_thread(hashed)
