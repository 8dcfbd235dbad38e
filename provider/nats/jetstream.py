"""JetStream's API over a connection: subjects, requests, errors. Knows streams; refuses to know what is in them.

Source: nats-server server/jetstream_api.go; ADR-19 (API prefixes), ADR-31 (direct get).
"""

from __future__ import annotations

import base64
import datetime
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from provider import errors
from provider.nats.connection import Connection

T = TypeVar("T")

STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""Both mean that a compare-and-set lost: 10071 names what stands there, 10164 that another write is under way."""

NO_SPACE = frozenset({10002, 10023, 10028, 10047, 10077})
"""Resources of the account or the server, memory, storage, or the stream's own limit: exceeded."""

TTL_LEVEL = 1
"""The API level since which messages may have a time to live of their own (nats-server 2.11)."""


class ApiFailure(Struct, frozen=True):
    """The `error` of an API response."""

    code: int
    err_code: int = 0
    description: str = ""

    def to_error(self) -> errors.ApiError:
        return errors.ApiError(self.code, self.err_code, self.description)


class PublishAck(Struct, frozen=True, gc=False):
    """The answer to a write into a stream."""

    seq: int = 0
    error: ApiFailure | None = None


class StreamConfig(Struct, frozen=True):
    """The part of a stream's configuration that this provider sets or looks at. -1: no limit; times in nanoseconds."""

    name: str
    subjects: list[str] | None = None
    num_replicas: int = 1
    storage: str = "file"
    max_bytes: int = -1
    max_msg_size: int = -1
    max_age: int = 0
    max_msgs_per_subject: int = -1
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    mirror: Any = None


class StreamState(Struct, frozen=True):
    """`messages` counts what is stored, markers included."""

    messages: int = 0
    last_seq: int = 0


class StreamInfo(Struct, frozen=True):
    """`server_time` is the server's clock when it answered, "" before nats-server 2.10."""

    config: StreamConfig
    state: StreamState
    created: str
    server_time: str = field(default="", name="ts")


class StoredMessage(Struct, frozen=True, gc=False):
    """A message as it stands in a stream. `time_ms` is the server's, in milliseconds since 1970."""

    subject: str
    sequence: int
    time_ms: int
    header: bytes
    payload: bytes


class _RawMessage(Struct, gc=False):
    subject: str
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


class _MessageResponse(Struct, gc=False):
    message: _RawMessage | None = None
    error: ApiFailure | None = None


class _Purged(Struct, gc=False):
    purged: int = 0


class _ErrorOnly(Struct, gc=False):
    error: ApiFailure | None = None


_ack_decoder = msgspec.json.Decoder(PublishAck)
_message_decoder = msgspec.json.Decoder(_MessageResponse)
_purge_decoder = msgspec.json.Decoder(_Purged)
_error_decoder = msgspec.json.Decoder(_ErrorOnly)
_info_decoder = msgspec.json.Decoder(StreamInfo)


class JetStream:
    """The JetStream of one domain, over one connection."""

    def __init__(self, connection: Connection, domain: str = "") -> None:
        self.connection = connection
        self.api_prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self.publish_prefix = f"{self.api_prefix}." if domain else ""
        """What stands before a subject that is written to: a leaf node drops `$KV.>` on its way to another domain."""

    async def api(self, name: str, body: dict[str, Any] | None, deadline: float) -> bytes:
        """Call the API and return its JSON.

        Raises:
            errors.ApiError: The server's answer is an error.
            errors.NatsError: See `Connection.request`.
        """
        payload = msgspec.json.encode(body) if body is not None else b""
        _, answer = await self.connection.request(f"{self.api_prefix}.{name}".encode(), payload, deadline=deadline)
        failure = _decode(_error_decoder, answer).error
        if failure is not None:
            raise failure.to_error()
        return answer

    async def level(self, deadline: float) -> int:
        """Return the API level: 0 before nats-server 2.11, 1 with TTLs per message, 2 and more with atomic batches."""
        answer = msgspec.json.decode(await self.api("INFO", None, deadline))
        level = answer.get("api", {}).get("level", 0)
        return level if isinstance(level, int) else 0

    async def stream_info(self, stream: str, deadline: float) -> StreamInfo:
        """Return what a stream is, or raise `errors.ApiError` with `STREAM_NOT_FOUND`."""
        return _decode(_info_decoder, await self.api(f"STREAM.INFO.{stream}", None, deadline))

    async def create_stream(self, config: dict[str, Any], deadline: float) -> StreamInfo:
        return _decode(_info_decoder, await self.api(f"STREAM.CREATE.{config['name']}", config, deadline))

    async def purge(self, stream: str, subject: str, deadline: float, *, below_sequence: int = 0) -> int:
        """Remove a subject's messages and return how many; those from `below_sequence` on stay, when it is given."""
        body: dict[str, Any] = {"filter": subject}
        if below_sequence:
            body["seq"] = below_sequence
        return _decode(_purge_decoder, await self.api(f"STREAM.PURGE.{stream}", body, deadline)).purged

    async def last_message(self, stream: str, subject: str, deadline: float) -> StoredMessage | None:
        """Read the last message of a subject from the stream's leader; `None` when there is none."""
        return await self._message(stream, {"last_by_subj": subject}, deadline)

    async def next_message(self, stream: str, subject: str, sequence: int, deadline: float) -> StoredMessage | None:
        """Read the first message from `sequence` on whose subject matches, wildcards allowed, from the leader."""
        return await self._message(stream, {"seq": sequence, "next_by_subj": subject}, deadline)

    async def _message(self, stream: str, body: dict[str, Any], deadline: float) -> StoredMessage | None:
        subject = f"{self.api_prefix}.STREAM.MSG.GET.{stream}".encode()
        _, answer = await self.connection.request(subject, msgspec.json.encode(body), deadline=deadline)
        response = _decode(_message_decoder, answer)
        if response.error is not None:
            if response.error.err_code == MESSAGE_NOT_FOUND:
                return None
            raise response.error.to_error()
        raw = response.message
        if raw is None:
            raise errors.ApiError(500, 0, "answer without a message")
        header = base64.b64decode(raw.hdrs) if raw.hdrs else b""
        payload = base64.b64decode(raw.data) if raw.data else b""
        return StoredMessage(raw.subject, raw.seq, time_ms(raw.time), header, payload)

    async def publish(self, subject: str, payload: bytes, header: bytes, deadline: float) -> int:
        """Write into a stream and return the message's sequence."""
        target = f"{self.publish_prefix}{subject}".encode()
        return acknowledged(await self.connection.request(target, payload, header, deadline=deadline))


def acknowledged(reply: tuple[bytes, bytes]) -> int:
    """Return the sequence that a publish acknowledgement gives.

    Raises:
        errors.ApiError: It is a refusal.
    """
    ack = _decode(_ack_decoder, reply[1])
    if ack.error is not None:
        raise ack.error.to_error()
    return ack.seq


def time_ms(text: str) -> int:
    """Convert a server's time, e.g. 2026-01-02T03:04:05.123456789Z, to milliseconds since 1970; 0 for no time."""
    match = _TIME.match(text)
    if match is None:
        return 0
    fraction = (match[2] or "0")[:6]
    moment = datetime.datetime.fromisoformat(f"{match[1]}.{fraction:0<6}{match[3].replace('Z', '+00:00')}")
    return int(moment.timestamp() * 1000)


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$")


def _decode(decoder: msgspec.json.Decoder[T], answer: bytes) -> T:
    try:
        return decoder.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.ApiError(500, 0, "answer that is not JetStream's") from None
