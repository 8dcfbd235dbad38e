"""The conversations over a unix socket: requests in, answers out, each connection at its own pace. Refuses to know buckets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from provider.state_proxy.errors import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    RefusedError,
    answer_of,
    refusal,
)
from provider.state_proxy.http import CONTINUE, Answer, End, Event, Head, Malformed, RequestParser, encode_answer
from provider.state_proxy.operations import Operation, operation_of
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_READ_BYTES = 65536
_SMALL_BODY_BYTES = 65536
_UNSENT_BYTES = 65536
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. Seconds are those of waiting for the client, not for the bucket.

    Attributes:
        connections: Open at once; more are refused.
        large_bodies: Bodies over 64 KiB, of requests and answers, that are in memory at once; more wait, and are refused
            after `turn_seconds`.
        idle_seconds: Between two requests.
        head_seconds: From a request's first byte to the end of its head.
        body_seconds: Between two pieces of a body.
        whole_body_seconds: Until all of a body is here.
        answer_seconds: Until an answer, or a large part of it, has been taken.
        rest_seconds: How long the rest of a request is read that has been refused, so that the client sees why.
        ending_seconds: How long requests under way may take when everything ends.
    """

    connections: int = 256
    large_bodies: int = 4
    turn_seconds: float = 5.0
    idle_seconds: float = 600.0
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    whole_body_seconds: float = 60.0
    answer_seconds: float = 20.0
    rest_seconds: float = 5.0
    ending_seconds: float = 5.0
    tick_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class Service:
    """What answers: how long a body may be, in bytes, and what to do with it."""

    max_body_bytes: Callable[[Operation], int]
    perform: Callable[[Operation, bytes], Awaitable[Answer]]


class Server:
    """All conversations, as an async context manager; leaving it finishes the requests under way.

    Args:
        listener: Bound, not listening yet.
        service: What answers.
        limits: What a client may take.
    """

    def __init__(self, listener: socket.socket, service: Service, limits: Limits) -> None:
        self.service = service
        self.limits = limits
        self.large_bodies = asyncio.Semaphore(limits.large_bodies)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner()
        self._conversations: set[_Conversation] = set()
        self._all_ended = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, sock=self._listener)
        self._watch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for conversation in self._conversations:
            conversation.end()
        if self._conversations:
            try:
                async with asyncio.timeout(self.limits.ending_seconds):
                    await self._all_ended.wait()
            except TimeoutError:
                _log.warning("requests_cut_off", extra={"count": len(self._conversations)})
        if self._tick is not None:
            self._tick.cancel()
        await self._tasks.close()

    @property
    def is_ending(self) -> bool:
        return self._server is None or not self._server.is_serving()

    def left(self, conversation: _Conversation) -> None:
        self._conversations.discard(conversation)
        if not self._conversations and self.is_ending:
            self._all_ended.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) >= self.limits.connections:
            answer = refusal(UNAVAILABLE, f"{self.limits.connections} connections are open")
            writer.write(encode_answer(answer, is_head=False, is_last=True, is_old=False))
            writer.close()
            return
        conversation = _Conversation(self, reader, writer)
        self._conversations.add(conversation)
        self._tasks.start(conversation.run(), "conversation")

    def _watch(self) -> None:
        """Look for clients that let others wait: one timer for all of them costs less than one for every step."""
        now = self._loop.time()
        for conversation in self._conversations:
            if conversation.deadline <= now:
                conversation.expire()
        self._tick = self._loop.call_later(self.limits.tick_seconds, self._watch)


class _SlowClientError(Exception):
    """The client has not sent in time what it began."""


class _UnusableError(Exception):
    """The conversation cannot go on. `answer` is what the client is still told, `None`: nothing."""

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__()
        self.answer = answer


class _TooLargeError(Exception):
    """A body is over its limit."""


class _Conversation:
    """One connection: its requests, one after another.

    Attributes:
        deadline: When the client must have done what is waited for, on the event loop's clock.
    """

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.deadline = _NEVER
        self._server = server
        self._limits = server.limits
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser()
        self._events: deque[Event] = deque()
        self._is_idle = True
        self._is_writing = False
        self._holds_turn = False

    def expire(self) -> None:
        """Do not wait any longer for the client."""
        self.deadline = _NEVER
        if self._is_writing:
            self._writer.transport.abort()
        else:
            self._reader.set_exception(_SlowClientError())

    def end(self) -> None:
        """Let the request under way be the last."""
        if self._is_idle:
            self._reader.set_exception(_UnusableError())

    async def run(self) -> None:
        """Answer requests until the client leaves, or is no use."""
        try:
            while await self._exchange():
                pass
        except _UnusableError as error:
            if error.answer is not None:
                await self._answer(error.answer, None)
        except _SlowClientError:
            if not self._is_idle:
                await self._answer(refusal(TOO_SLOW, "the request did not come in time"), None)
        except OSError:
            pass  # the client has gone; what it asked for last has been done
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
            self._server.left(self)

    async def _exchange(self) -> bool:
        """Take a request and answer it; tells whether another may follow."""
        head = await self._head()
        if head is None:
            return False
        operation, answer = self._operation(head)
        limit = self._server.service.max_body_bytes(operation) if operation is not None else _SMALL_BODY_BYTES
        try:
            body = await self._body(head, limit)
            if operation is not None:
                answer = await self._perform(operation, body)
            assert answer is not None, "there is an operation, or a reason why not"
            await self._answer(answer, head)
        except _TooLargeError:
            await self._refuse_rest(answer or refusal(TOO_LARGE, f"the body is over {limit} bytes"), head)
            return False
        except RefusedError as error:
            await self._refuse_rest(answer_of(error, is_connected=True), head)
            return False
        finally:
            self._give_turn_back()
        return head.keeps_alive and not self._server.is_ending

    # --- taking

    async def _head(self) -> Head | None:
        """Wait for a request; `None`: the client has ended the connection in order."""
        self._is_idle = not self._events and not self._parser.is_amid
        self.deadline = self._loop.time() + (self._limits.idle_seconds if self._is_idle else self._limits.head_seconds)
        event = await self._next(self._limits.head_seconds)
        self._is_idle = False
        match event:
            case None:
                return None
            case Head():
                return event
            case Malformed():
                raise _UnusableError(refusal(BAD_REQUEST, event.reason))
        raise AssertionError(f"a request begins with its head, not with {event!r}")

    async def _next(self, seconds: float) -> Event | None:
        """Return what comes next; `None`: the client has nothing more to say.

        Args:
            seconds: How long what has begun to come may take to be complete.
        """
        while not self._events:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                if self._is_idle:
                    return None
                raise _UnusableError(refusal(BAD_REQUEST, "the request ends too early"))
            self._events.extend(self._parser.feed(data))
            if self._is_idle:
                self._is_idle = False
                self.deadline = self._loop.time() + seconds
        return self._events.popleft()

    async def _body(self, head: Head, limit: int) -> bytes:
        """Take a request's body.

        Raises:
            _TooLargeError: It is over the limit; not all of it has been read.
            RefusedError: There is no room for it now; the same.
        """
        if head.length is not None and head.length > limit:
            raise _TooLargeError
        if head.length is not None and head.length > _SMALL_BODY_BYTES:
            await self._take_turn()
        if head.expects_continue and not self._events:
            self._writer.write(CONTINUE)
        parts: list[bytes] = []
        size = 0
        last = self._loop.time() + self._limits.whole_body_seconds
        while True:
            self.deadline = min(self._loop.time() + self._limits.body_seconds, last)
            match await self._next(self._limits.body_seconds):
                case End():
                    self.deadline = _NEVER
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                case bytes() as part:
                    size += len(part)
                    if size > limit:
                        raise _TooLargeError
                    if size > _SMALL_BODY_BYTES:
                        await self._take_turn()
                    parts.append(part)
                case Malformed(reason):
                    raise _UnusableError(refusal(BAD_REQUEST, reason))

    async def _take_turn(self) -> None:
        """Wait until the large bodies in memory are few enough; one in chunks waits when it has become large."""
        if self._holds_turn:
            return
        self.deadline = _NEVER
        try:
            async with asyncio.timeout(self._limits.turn_seconds):
                await self._server.large_bodies.acquire()
        except TimeoutError:
            raise RefusedError(UNAVAILABLE, f"{self._limits.large_bodies} large bodies are under way") from None
        self._holds_turn = True

    def _give_turn_back(self) -> None:
        if self._holds_turn:
            self._holds_turn = False
            self._server.large_bodies.release()

    async def _refuse_rest(self, answer: Answer, head: Head) -> None:
        """Answer before the request is here, and read its rest for a while: else the client would fail at sending it."""
        await self._answer(answer, head._replace(keeps_alive=False))
        if head.expects_continue and not self._events:
            return
        self.deadline = self._loop.time() + self._limits.rest_seconds
        self._is_idle = True
        while not any(isinstance(event, End | Malformed) for event in self._events):
            self._events.clear()
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return
            self._events.extend(self._parser.feed(data))

    # --- answering

    def _operation(self, head: Head) -> tuple[Operation | None, Answer | None]:
        try:
            return operation_of(head), None
        except RefusedError as error:
            return None, answer_of(error, is_connected=True)

    async def _perform(self, operation: Operation, body: bytes) -> Answer:
        """Carry out an operation; a large answer comes with a turn, which it keeps until the client has taken it.

        Only what was read tells that it is large. When there is no turn for it, it is dropped, and read again with one:
        what changes anything has a short answer.
        """
        answer = await self._performed(operation, body)
        if len(answer.body) <= _SMALL_BODY_BYTES:
            return answer
        has_to_wait = self._server.large_bodies.locked()
        if has_to_wait:
            del answer
        try:
            await self._take_turn()
        except RefusedError as error:
            return answer_of(error, is_connected=True)
        return await self._performed(operation, body) if has_to_wait else answer

    async def _performed(self, operation: Operation, body: bytes) -> Answer:
        try:
            return await self._server.service.perform(operation, body)
        except Exception as error:  # noqa: BLE001  (one request's defect must not end the connector)
            _log.exception("request_failed", extra={"operation": type(operation).__name__})
            return refusal(INTERNAL_ERROR, f"internal error ({type(error).__name__}); outcome unknown")

    async def _answer(self, answer: Answer, head: Head | None) -> None:
        """Send an answer; without a head, to a request that could not be understood, as the last."""
        is_last = head is None or not head.keeps_alive or self._server.is_ending
        data = encode_answer(
            answer,
            is_head=head is not None and head.method == "HEAD",
            is_last=is_last,
            is_old=head is not None and head.is_old,
        )
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > _UNSENT_BYTES:
            self.deadline = self._loop.time() + self._limits.answer_seconds
            self._is_writing = True
            await self._writer.drain()
            self._is_writing = False
            self.deadline = _NEVER
