"""JetStream's API over a connection: streams, consumers, messages. It does not know what the messages mean.

Source: nats-server server/jetstream_api.go; ADR-19 (API prefixes), ADR-31 (direct get).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from provider import errors
from provider.nats.buckets import CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND, SUBJECT_PREFIX
from provider.nats.connection import Connection
from provider.nats.frames import header_reader, header_value, status_of, status_text
from provider.nats.requests import Reply
from provider.nats.times import time_ms

T = TypeVar("T")

MANY_SUBJECTS = 1024
"""The server's limit of subjects in one request for last messages (nats-server 2.11)."""

STREAM = b"Nats-Stream"
"""Header of a direct get's answer: the name of the stream. A mirror gives its own name."""


class ApiFailure(Struct, frozen=True):
    """The `error` of an API response."""

    code: int
    err_code: int = 0
    description: str = ""

    def to_error(self) -> errors.ApiError:
        return errors.ApiError(self.code, self.err_code, self.description)


class PublishAck(Struct, frozen=True, gc=False):
    """The answer to a message for a stream.

    Attributes:
        stream: Name of the stream that has taken or refused the message.
        seq: Sequence of the message; of the earlier message if this one is a duplicate.
        duplicate: Whether the stream had a message with the same id already.
        type: Kind of the answer; every answer of the API and of services has one, an acknowledgement has none.
    """

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiFailure | None = None
    type: str = ""


class StreamConfig(Struct, frozen=True):
    """The part of a stream's configuration that this provider uses. -1: no limit; times in nanoseconds."""

    name: str
    subjects: list[str] | None = None
    num_replicas: int = 1
    storage: str = "file"
    max_bytes: int = -1
    max_msg_size: int = -1
    max_age: int = 0
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    retention: str = "limits"
    discard: str = "old"
    discard_new_per_subject: bool = False
    no_ack: bool = False
    sealed: bool = False
    deny_purge: bool = False
    allow_rollup_hdrs: bool = False
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: int = 0
    allow_msg_counter: bool = False
    subject_transform: Any = None
    mirror: Any = None
    placement: Any = None
    description: str = ""
    metadata: dict[str, str] | None = None


class StreamState(Struct, frozen=True):
    """The state of a stream. `messages` is the number of stored messages, markers included, `size` their bytes."""

    messages: int = 0
    size: int = field(default=0, name="bytes")
    last_seq: int = 0


class StreamReplica(Struct, frozen=True):
    """A replica as the leader sees it. `lag` is the number of operations that it is behind the leader."""

    current: bool = False
    offline: bool = False
    lag: int = 0


class StreamCluster(Struct, frozen=True):
    """The cluster of a stream. `replicas` are those that do not lead; `name` is "" if the server is alone."""

    name: str = ""
    replicas: list[StreamReplica] | None = None


class StreamInfo(Struct, frozen=True):
    """A stream as the server describes it. `server_time` is the time of the answer, "" before nats-server 2.10."""

    config: StreamConfig
    state: StreamState
    created: str
    server_time: str = field(default="", name="ts")
    cluster: StreamCluster | None = None

    def is_everywhere(self, sequence: int) -> bool:
        """Tell whether every replica has all messages of the stream, and among them a sequence."""
        replicas = (self.cluster and self.cluster.replicas) or []
        return (
            self.state.last_seq >= sequence
            and len(replicas) == self.config.num_replicas - 1
            and all(replica.current and not replica.offline and not replica.lag for replica in replicas)
        )


class Sequences(Struct, frozen=True):
    """The numbers of a message. `stream_seq` is the one in its stream; 0: no message yet."""

    stream_seq: int = 0


class ConsumerInfo(Struct, frozen=True):
    """A consumer as the server describes it.

    Attributes:
        created: The server's time.
        delivered: The last message that was delivered, whether or not it was acknowledged.
        num_ack_pending: Number of messages that were delivered and are not acknowledged.
        num_pending: Number of messages that are still to be delivered.
    """

    name: str
    created: str
    config: dict[str, Any]
    delivered: Sequences
    num_ack_pending: int = 0
    num_pending: int = 0


class StoredMessage(Struct, frozen=True, gc=False):
    """A stored message. `time_ms` is when it was stored by the server's clock, in milliseconds since 1970."""

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
    type: str = ""


class _Purged(Struct, gc=False):
    purged: int = 0


class _ErrorOnly(Struct, gc=False):
    error: ApiFailure | None = None
    type: str = ""


_API_TYPE = "io.nats.jetstream.api."
"""Beginning of the kind of every answer of the API, by which it differs from answers that a stranger may bring about."""

_MANY_HEADERS = _SUBJECT, _SEQUENCE, _NUM_PENDING = b"Nats-Subject", b"Nats-Sequence", b"Nats-Num-Pending"
_UP_TO_SEQUENCE = b"Nats-UpTo-Sequence"
_NO_RESULTS = "No Results"
_read_many_headers = header_reader(*_MANY_HEADERS)
_ack_decoder = msgspec.json.Decoder(PublishAck)
_message_decoder = msgspec.json.Decoder(_MessageResponse)
_purge_decoder = msgspec.json.Decoder(_Purged)
_error_decoder = msgspec.json.Decoder(_ErrorOnly)
_info_decoder = msgspec.json.Decoder(StreamInfo)
_consumer_decoder = msgspec.json.Decoder(ConsumerInfo)


class _Answers:
    """The replies to a request for many messages: their end and their total size."""

    def __init__(self, max_bytes: int | None) -> None:
        self.end = b""
        self._left = max_bytes

    @property
    def are_too_large(self) -> bool:
        return self._left is not None and self._left < 0

    def is_last(self, reply: Reply) -> bool:
        header, payload = reply
        if status_of(header) and header_value(header, STREAM) is None:
            self.end = header
            return True
        if self._left is not None:
            self._left -= len(payload)
        return self.are_too_large


class JetStream:
    """The JetStream of one domain, over one connection."""

    def __init__(self, connection: Connection, domain: str = "") -> None:
        self.connection = connection
        self.api_prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self.publish_prefix = f"{self.api_prefix}." if domain else ""
        """Prefix for writes to a bucket in another domain: a leaf node does not let `$KV.>` through.

        Other subjects pass unchanged, and the server does not map them.
        """

    async def api(self, name: str, body: dict[str, Any] | None, deadline: float) -> bytes:
        """Call the API and return its JSON.

        Raises:
            errors.ApiError: The server answers with an error.
            errors.NatsError: See `Connection.request`.
        """
        payload = msgspec.json.encode(body) if body is not None else b""
        _, answer = await self.connection.request(f"{self.api_prefix}.{name}".encode(), payload, deadline=deadline)
        response = _decode(_error_decoder, answer)
        if not response.type.startswith(_API_TYPE):
            raise errors.UnexpectedReplyError
        if response.error is not None:
            raise response.error.to_error()
        return answer

    async def level(self, deadline: float) -> int:
        """Return the API level: 0 before nats-server 2.11, 1 with TTLs of messages, 2 and more with atomic batches."""
        answer = msgspec.json.decode(await self.api("INFO", None, deadline))
        level = answer.get("api", {}).get("level", 0)
        return level if isinstance(level, int) else 0

    async def stream_info(self, stream: str, deadline: float) -> StreamInfo:
        """Return a description of a stream, or raise `errors.ApiError` with the code `STREAM_NOT_FOUND`."""
        return _decode(_info_decoder, await self.api(f"STREAM.INFO.{stream}", None, deadline))

    async def create_stream(self, config: dict[str, Any], deadline: float) -> StreamInfo:
        return _decode(_info_decoder, await self.api(f"STREAM.CREATE.{config['name']}", config, deadline))

    async def consumer_info(self, stream: str, consumer: str, deadline: float) -> ConsumerInfo | None:
        """Return a description of a consumer, or `None` when it does not exist.

        Raises:
            errors.NatsError: See `api`.
        """
        try:
            answer = await self.api(f"CONSUMER.INFO.{stream}.{consumer}", None, deadline)
        except errors.ApiError as error:
            if error.err_code != CONSUMER_NOT_FOUND:
                raise
            return None
        return _decode(_consumer_decoder, answer)

    async def create_consumer(self, stream: str, config: dict[str, Any], deadline: float) -> ConsumerInfo:
        """Create a consumer, or update it when one of its name exists; the server names a consumer without a name.

        Raises:
            errors.NatsError: See `api`.
        """
        name = f"CONSUMER.CREATE.{stream}.{config['name']}" if "name" in config else f"CONSUMER.CREATE.{stream}"
        answer = await self.api(name, {"stream_name": stream, "config": config}, deadline)
        return _decode(_consumer_decoder, answer)

    async def delete_consumer(self, stream: str, consumer: str, deadline: float) -> None:
        """Delete a consumer.

        Raises:
            errors.NatsError: See `api`.
        """
        await self.api(f"CONSUMER.DELETE.{stream}.{consumer}", None, deadline)

    async def purge(self, stream: str, subject: str, deadline: float, *, below_sequence: int = 0) -> int:
        """Remove a subject's messages and return their number; with `below_sequence`, only those below it."""
        body: dict[str, Any] = {"filter": subject}
        if below_sequence:
            body["seq"] = below_sequence
        return _decode(_purge_decoder, await self.api(f"STREAM.PURGE.{stream}", body, deadline)).purged

    async def last_message(self, stream: str, subject: str, deadline: float) -> StoredMessage | None:
        """Read the last message of a subject from the stream's leader; return `None` if it has no message."""
        return await self._message(stream, {"last_by_subj": subject}, deadline)

    async def last_messages(
        self, stream: str, subjects: Sequence[str], deadline: float, max_bytes: int | None = None
    ) -> dict[str, Reply] | None:
        """Read the last message of several subjects by direct gets, all as of one moment.

        The server ends an answer at `max_bytes`, headers included, or at its own `max_pending`. The rest is read as of
        the same moment, and counted: the server leaves out a message that was overwritten meanwhile.

        Args:
            stream: Name of the stream.
            subjects: The subjects, `MANY_SUBJECTS` at most.
            deadline: When to give up, on the event loop's clock.
            max_bytes: Limit for all payloads together; `None`: no limit.

        Returns:
            Header block and payload by subject, without subjects that have no message; `None` if over `max_bytes`.

        Raises:
            errors.ApiError: The server answers with an error. Code 503: there is no answer as of one moment; try again.
            errors.NatsError: See `Connection.request`.
        """
        target = f"{self.api_prefix}.DIRECT.GET.{stream}".encode()
        wanted: dict[str, Any] = {"multi_last": list(subjects)}
        if max_bytes is not None:
            wanted["max_bytes"] = max_bytes
        answers = _Answers(max_bytes)
        found: dict[str, Reply] = {}
        pending: int | None = None
        while pending != 0:
            replies = await self.connection.request_many(
                target, msgspec.json.encode(wanted), deadline=deadline, is_last=answers.is_last
            )
            if answers.are_too_large:
                return None
            up_to = _up_to(answers.end)
            headers = [_read_many_headers(header) for header, _ in replies]
            if any(len(header) < len(_MANY_HEADERS) for header in headers):
                raise errors.UnexpectedReplyError
            # How many messages are left is in the last message: in the answer's end, nats-server 2.11 has one too few.
            left, last = (int(headers[-1][_NUM_PENDING]), int(headers[-1][_SEQUENCE])) if headers else (0, 0)
            if pending not in (None, len(replies) + left):
                raise errors.ApiError(503, 0, "messages were overwritten while they were read")
            found.update((header[_SUBJECT].decode(), reply) for header, reply in zip(headers, replies, strict=True))
            pending = left
            wanted |= {"seq": last + 1, "up_to_seq": up_to}
        return found

    async def next_message(self, stream: str, subject: str, sequence: int, deadline: float) -> StoredMessage | None:
        """Read from the leader the first message from `sequence` on whose subject matches; wildcards are allowed."""
        return await self._message(stream, {"seq": sequence, "next_by_subj": subject}, deadline)

    async def _message(self, stream: str, body: dict[str, Any], deadline: float) -> StoredMessage | None:
        subject = f"{self.api_prefix}.STREAM.MSG.GET.{stream}".encode()
        _, answer = await self.connection.request(subject, msgspec.json.encode(body), deadline=deadline)
        response = _decode(_message_decoder, answer)
        if not response.type.startswith(_API_TYPE):
            raise errors.UnexpectedReplyError
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
        """Store a message in the stream of its subject and return its sequence."""
        prefix = self.publish_prefix if subject.startswith(SUBJECT_PREFIX) else ""
        target = f"{prefix}{subject}".encode()
        return acknowledged(await self.connection.request(target, payload, header, deadline=deadline)).seq


def _up_to(header: bytes) -> int:
    """Return the sequence as of which the server has answered a request for many messages; 0: it found none.

    Args:
        header: Headers of the status that ends the answer.
    """
    status, description = status_of(header), status_text(header)
    if status == 204:
        return int(header_value(header, _UP_TO_SEQUENCE) or 0)
    if status == 404 and description == _NO_RESULTS:
        return 0
    # 404: a message was removed while the server read.
    raise errors.ApiError(503 if status == 404 else status, 0, description)


def acknowledged(reply: tuple[bytes, bytes], stream: str = "") -> PublishAck:
    """Return a publish acknowledgement.

    Args:
        reply: The reply to the message.
        stream: Name of the stream that should have the message; "": any.

    Raises:
        errors.ApiError: The server refuses the message.
        errors.UnexpectedReplyError: The reply is not the stream's.
    """
    ack = _decode(_ack_decoder, reply[1])
    if ack.type or (stream and ack.stream not in (stream, "")):
        raise errors.UnexpectedReplyError
    if ack.error is not None:
        raise ack.error.to_error()
    if not ack.stream or ack.seq <= 0:
        raise errors.UnexpectedReplyError
    return ack


def _decode(decoder: msgspec.json.Decoder[T], answer: bytes) -> T:
    try:
        return decoder.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.UnexpectedReplyError from None
