"""One connection of the unix socket: its requests and answers, one after another. Knows no buckets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from provider.errors import ProviderError
from provider.state_proxy.file_operations import FileOperation, operation_of
from provider.state_proxy.http1 import (
    CONTINUE,
    Event,
    Malformed,
    RequestEnd,
    RequestHead,
    RequestParser,
    Response,
    StreamedBody,
    encode_answer,
)
from provider.state_proxy.refusals import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    RequestRefusedError,
    refusal,
    refusal_of,
)

_log = logging.getLogger(__name__)

_READ_BYTES = 65536
"""The buffer limit of asyncio's own reader."""

_SMALL_BODY_BYTES = 65536
"""256 connections with a body of this size take 16 MiB, half of the connector's memory. Larger bodies take turns."""

_UNSENT_BYTES = 65536
"""An answer that leaves more in asyncio's write buffer is waited for; a smaller rest cannot fill the memory."""

_NEVER = float("inf")

_NO_RESULT = frozenset({403, 500, 503, 504})
"""Statuses from which the client cannot tell whether the key exists."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits of the clients. Times are spent waiting for the client, not for the bucket.

    A body has no time limit: an actor that writes a file as a stream may pause between two writes. The number of bodies is
    limited instead.

    Attributes:
        connections: Connections served at once; further ones wait for an idle one to be closed.
        waiting_connections: Connections that wait; further ones are refused.
        large_bodies: Bodies over 64 KiB of a known length, of requests and answers, in memory at once; further ones wait
            for `turn_seconds` and are then refused.
        large_streams: The same for bodies in chunks, which may stay for any time.
        idle_seconds: Time between two requests.
        head_seconds: Time from the first byte of a request to the end of its head.
        answer_seconds: Time until the client has received an answer, or a large part of it.
        ending_seconds: Time for requests under way when the server closes.
        tick_seconds: Interval at which deadlines are checked.
    """

    connections: int = 256
    waiting_connections: int = 1024
    large_bodies: int = 4
    large_streams: int = 4
    turn_seconds: float = 5.0
    idle_seconds: float = 600.0
    head_seconds: float = 10.0
    answer_seconds: float = 20.0
    ending_seconds: float = 5.0
    tick_seconds: float = 0.25


class Turns:
    """The turns of large bodies in memory, shared by all connections: of those with a known length, and of streams."""

    def __init__(self, limits: ClientLimits) -> None:
        self.bodies = asyncio.Semaphore(limits.large_bodies)
        self.streams = asyncio.Semaphore(limits.large_streams)


class BodyLimits(NamedTuple):
    """Limits of the body of a request, in bytes.

    Attributes:
        whole_bytes: Longest body that is received before the operation is carried out.
        most_bytes: Longest body; one of more than `whole_bytes` is received by the operation, in parts.
        name: The setting behind `most_bytes`, for the error.
    """

    whole_bytes: int
    most_bytes: int
    name: str


class Service(Protocol):
    """The functions that answer requests."""

    async def body_limits(self, operation: FileOperation) -> BodyLimits:
        """Return the limits of the body of an operation that begins.

        Raises:
            RequestRefusedError: The operation cannot begin.
        """
        ...

    async def perform(self, operation: FileOperation, body: bytes | AsyncIterator[bytes]) -> Response:
        """Carry out an operation. Its errors become answers; those of the body's parts are left to the caller."""
        ...

    def has_failed(self, operation: FileOperation) -> None:
        """Take note of an operation whose client gets an error instead of a result."""
        ...


class _SlowClientError(Exception):
    """The client has begun a request and not continued it in time."""


class _UnusableError(Exception):
    """The connection cannot be used further. `answer` is sent before it closes, unless it is `None`."""

    def __init__(self, answer: Response | None = None) -> None:
        super().__init__()
        self.answer = answer


class _TooLargeError(Exception):
    """A body is over its limit."""


_UNKNOWN_LIMITS = BodyLimits(_SMALL_BODY_BYTES, _SMALL_BODY_BYTES, "the limit of a request that is not known")


class Conversation:
    """The requests of one connection.

    Args:
        reader: The client's bytes.
        writer: The bytes for the client.
        service: The functions that answer.
        limits: Limits of the client.
        turns: Turns of large bodies.

    Attributes:
        deadline: Time on the event loop's clock by which the client must act; infinity while it need not.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: Service,
        limits: ClientLimits,
        turns: Turns,
    ) -> None:
        self.deadline = _NEVER
        self._reader = reader
        self._writer = writer
        self._service = service
        self._limits = limits
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser()
        self._events: deque[Event] = deque()
        self._is_idle = True
        self._has_answered = False
        self._is_writing = False
        self._is_ending = False
        self._turn: asyncio.Semaphore | None = None
        self._is_receiving = False
        """True until the body of the request under way has come to its end."""
        self._body_error: Exception | None = None
        """The error that has ended a body which an operation receives."""

    def expire(self) -> None:
        """Stop waiting for the client, whose deadline has passed."""
        self.deadline = _NEVER
        if self._is_writing:
            self._writer.transport.abort()
        else:
            self._reader.set_exception(_SlowClientError())

    def is_spare(self, now: float) -> bool:
        """Return whether the client loses nothing if the connection is closed: it is idle, and not because it is new."""
        if not self._is_idle or self.deadline == _NEVER:
            return False
        idle_seconds = now - (self.deadline - self._limits.idle_seconds)
        return self._has_answered or idle_seconds > self._limits.head_seconds

    def end(self) -> None:
        """Close an idle connection now, and any other after the request under way."""
        self._is_ending = True
        if self._is_idle:
            self._reader.set_exception(_UnusableError())

    async def run(self) -> None:
        """Answer requests until the client closes the connection or it becomes unusable; then close it."""
        try:
            while await self._exchange():
                self._has_answered = True
        except _UnusableError as error:
            if error.answer is not None:
                await self._answer(error.answer, None)
        except _SlowClientError:
            if not self._is_idle:
                await self._answer(refusal(TOO_SLOW, "the request did not come in time"), None)
        except OSError:
            pass  # the client is gone; its last request has been carried out
        finally:
            await self._close()

    async def _close(self) -> None:
        self.deadline = self._loop.time() + self._limits.answer_seconds
        self._is_writing = True
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass
        finally:
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Receive a request and answer it. Return whether another may follow."""
        head = await self._head()
        if head is None:
            return False
        operation, answer = self._operation(head)
        self.deadline = _NEVER
        limits = _UNKNOWN_LIMITS
        try:
            if operation is None:
                await self._body(head, limits)
                assert answer is not None, "a request without an operation has its refusal"
                await self._answer(answer, head)
            else:
                limits = await self._service.body_limits(operation)
                answer = await self._perform(operation, await self._body(head, limits))
                answer, first_piece = await self._with_first_piece(answer)
                if answer.status in _NO_RESULT:
                    self._service.has_failed(operation)
                if self._is_receiving:  # refused before all of its body had come
                    await self._refuse_rest(answer, head)
                    return False
                await self._answer(answer, head, first_piece)
                if answer.stream is not None:
                    await self._send_rest(answer.stream, operation)
        except _TooLargeError:
            too_large = refusal(TOO_LARGE, f"the body is over {limits.most_bytes} bytes, {limits.name}")
            await self._refuse_rest(answer or too_large, head)
            return False
        except RequestRefusedError as error:
            await self._refuse_rest(refusal_of(error, is_connected=True), head)
            return False
        finally:
            self._give_turn_back()
        return head.keeps_alive and not self._is_ending

    # --- receiving

    async def _head(self) -> RequestHead | None:
        """Wait for a request. Return `None` if the client has closed the connection between two requests."""
        self._is_idle = not self._events and not self._parser.is_amid
        self.deadline = self._loop.time() + (self._limits.idle_seconds if self._is_idle else self._limits.head_seconds)
        event = await self._next()
        self._is_idle = False
        match event:
            case None:
                return None
            case RequestHead():
                return event
            case Malformed():
                raise _UnusableError(refusal(BAD_REQUEST, event.reason))
        raise AssertionError(f"a request begins with its head, not with {event!r}")

    async def _next(self) -> Event | None:
        """Return the next event, or `None` at the end of the client's bytes."""
        while not self._events:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                if self._is_idle:
                    return None
                raise _UnusableError(refusal(BAD_REQUEST, "the request ends too early"))
            self._events.extend(self._parser.feed(data))
            if self._is_idle:
                self._is_idle = False
                self.deadline = self._loop.time() + self._limits.head_seconds
        return self._events.popleft()

    async def _body(self, head: RequestHead, limits: BodyLimits) -> bytes | AsyncIterator[bytes]:
        """Receive the body of a request; one that is too large for that is left to the operation.

        Raises:
            _TooLargeError: The body is over the limit, and has not been read to its end.
            RequestRefusedError: There is no room for the body now; it has not been read to its end.
        """
        if head.length is not None and head.length > limits.most_bytes:
            raise _TooLargeError
        self._is_receiving = True
        turns = self._turns.streams if head.length is None else self._turns.bodies
        if head.length is not None and head.length > _SMALL_BODY_BYTES:
            await self._take_turn(turns)
        if head.expects_continue and not self._events:
            self._writer.write(CONTINUE)
        body = bytearray()  # a list of parts would take many times its bytes if they are short
        is_whole = head.length is None or head.length <= limits.whole_bytes
        while is_whole and (part := await self._part()):
            if len(body) + len(part) > _SMALL_BODY_BYTES:
                await self._take_turn(turns)
            body += part
            is_whole = len(body) <= limits.whole_bytes
        if len(body) > limits.most_bytes:
            raise _TooLargeError
        return bytes(body) if is_whole else self._parts(body, limits.most_bytes)

    async def _part(self) -> bytes:
        """Receive the next bytes of a body; b"" at its end."""
        match await self._next():
            case bytes() as part:
                return part
            case Malformed(reason):
                raise _UnusableError(refusal(BAD_REQUEST, reason))
        self._is_receiving = False
        return b""

    async def _parts(self, begun: bytearray, most_bytes: int) -> AsyncGenerator[bytes, None]:
        """Receive a large body in parts.

        Raises:
            _TooLargeError, _UnusableError, OSError: The body is over the limit, or ends too early; also kept in `_body_error`.
        """
        size = 0
        part = bytes(begun)
        begun.clear()
        try:
            while part := part or await self._part():
                size += len(part)
                if size > most_bytes:
                    raise _TooLargeError
                yield part
                part = b""
        except Exception as error:
            self._body_error = error
            raise

    async def _take_turn(self, turns: asyncio.Semaphore) -> None:
        """Wait for one of the turns of large bodies. A chunked body asks for it once it has become large."""
        if self._turn is not None:
            return
        self.deadline = _NEVER
        try:
            async with asyncio.timeout(self._limits.turn_seconds):
                await turns.acquire()
        except TimeoutError:
            raise RequestRefusedError(UNAVAILABLE, "as many large bodies as possible are under way") from None
        self._turn = turns

    def _give_turn_back(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    async def _refuse_rest(self, answer: Response, head: RequestHead) -> None:
        """Answer before the request is complete, then read and drop its rest.

        A client that is still sending when the connection closes would get an error in place of the answer. An actor that
        writes a stream reads the answer when it closes the file.
        """
        await self._answer(answer, head._replace(keeps_alive=False))
        if head.expects_continue and not self._events:
            return
        self._give_turn_back()
        self._is_idle = True
        while not any(isinstance(event, RequestEnd | Malformed) for event in self._events):
            self._events.clear()
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return
            self._events.extend(self._parser.feed(data))

    # --- answering

    def _operation(self, head: RequestHead) -> tuple[FileOperation | None, Response | None]:
        try:
            return operation_of(head), None
        except RequestRefusedError as error:
            return None, refusal_of(error, is_connected=True)

    async def _perform(self, operation: FileOperation, body: bytes | AsyncIterator[bytes]) -> Response:
        """Carry out an operation. A large answer comes with a turn, which it keeps until the client has received it.

        The size of an answer is known only after the operation. Without a free turn an answer that is in memory is dropped,
        and the operation repeated when a turn is free. That is safe: only reads have large answers.
        """
        answer = await self._performed(operation, body)
        if answer.length <= _SMALL_BODY_BYTES:
            return answer
        has_to_wait = self._turns.bodies.locked() and answer.stream is None
        if has_to_wait:
            del answer
        try:
            await self._take_turn(self._turns.bodies)
        except RequestRefusedError as error:
            return refusal_of(error, is_connected=True)
        return await self._performed(operation, body) if has_to_wait else answer

    async def _performed(self, operation: FileOperation, body: bytes | AsyncIterator[bytes]) -> Response:
        try:
            return await self._service.perform(operation, body)
        except Exception as error:
            if error is self._body_error:
                raise
            _log.exception("request_failed", extra={"operation": type(operation).__name__})
            return refusal(INTERNAL_ERROR, f"internal error ({type(error).__name__}); outcome unknown")

    async def _with_first_piece(self, answer: Response) -> tuple[Response, bytes]:
        """Read the first piece of a streamed answer: until its head is sent, an error is an answer like any other."""
        if answer.stream is None:
            return answer, b""
        try:
            return answer, await anext(answer.stream.pieces)
        except ProviderError as error:
            return refusal_of(error, is_connected=True), b""

    async def _answer(self, answer: Response, head: RequestHead | None, first_piece: bytes = b"") -> None:
        """Send an answer. Without a head the request was not understood, and the answer is the last one."""
        data = encode_answer(
            answer,
            is_head=head is not None and head.method == "HEAD",
            is_last=head is None or not head.keeps_alive or self._is_ending,
            is_http_1_0=head is not None and head.is_http_1_0,
        )
        await self._send(data + first_piece)

    async def _send_rest(self, stream: StreamedBody, operation: FileOperation) -> None:
        """Send the further pieces of an answer. From its length the client sees whether it has all of them."""
        try:
            async with contextlib.aclosing(stream.pieces):
                async for piece in stream.pieces:
                    await self._send(piece)
        except ProviderError as error:
            _log.warning("answer_broken_off", extra={"reason": str(error)})
            self._service.has_failed(operation)
            raise _UnusableError from None

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > _UNSENT_BYTES:
            self.deadline = self._loop.time() + self._limits.answer_seconds
            self._is_writing = True
            await self._writer.drain()
            self._is_writing = False
            self.deadline = _NEVER
