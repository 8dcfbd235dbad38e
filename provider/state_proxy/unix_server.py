"""The server of the unix socket: it accepts connections, enforces their deadlines, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from types import TracebackType
from typing import Self

from provider.state_proxy.conversation import ClientLimits, Conversation, Service, Turns
from provider.state_proxy.http1 import encode_answer
from provider.state_proxy.refusals import UNAVAILABLE, refusal
from provider.state_proxy.socket_file import BACKLOG
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)


class UnixServer:
    """All connections, as an async context manager. Leaving it lets requests under way finish.

    Args:
        listener: A listening socket.
        service: The functions that answer.
        limits: Limits of the clients.

    Attributes:
        turns: Turns of the large bodies in memory.
    """

    def __init__(self, listener: socket.socket, service: Service, limits: ClientLimits) -> None:
        self.turns = Turns(limits)
        self._service = service
        self._limits = limits
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner()
        self._conversations: set[Conversation] = set()
        self._waiting: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._is_ending = False
        self._all_ended = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, sock=self._listener, backlog=BACKLOG)
        self._check_deadlines()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._is_ending = True
        for conversation in self._conversations:
            conversation.end()
        if self._conversations:
            try:
                async with asyncio.timeout(self._limits.ending_seconds):
                    await self._all_ended.wait()
            except TimeoutError:
                _log.warning("requests_cut_off", extra={"count": len(self._conversations)})
        if self._tick is not None:
            self._tick.cancel()
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) < self._limits.connections:
            self._begin(reader, writer)
        elif len(self._waiting) < self._limits.waiting_connections:
            # Not refused: a client that cannot look up a file takes it for absent, and has no time limit for waiting.
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can read
            self._waiting.append((reader, writer))
            self._close_spare()
        else:
            answer = refusal(UNAVAILABLE, f"{self._limits.connections} connections are open")
            writer.write(encode_answer(answer, is_head=False, is_last=True, is_http_1_0=False))
            writer.close()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(reader, writer, self._service, self._limits, self.turns)
        self._conversations.add(conversation)
        if self._is_ending:  # accepted by the kernel before the listener was closed
            conversation.end()
        self._tasks.start(self._run(conversation), "conversation")

    async def _run(self, conversation: Conversation) -> None:
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)
            if self._waiting:
                reader, writer = self._waiting.popleft()
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                self._begin(reader, writer)
            if not self._conversations and self._is_ending:
                self._all_ended.set()

    def _close_spare(self) -> None:
        """Close as many spare connections as others wait, those that have been idle for longest first."""
        now = self._loop.time()
        spare = sorted((each for each in self._conversations if each.is_spare(now)), key=lambda each: each.deadline)
        for conversation in spare[: len(self._waiting)]:
            conversation.end()

    def _check_deadlines(self) -> None:
        """End waits for clients whose deadline has passed. One timer for all of them is cheaper than one for each step."""
        now = self._loop.time()
        for conversation in self._conversations:
            if conversation.deadline <= now:
                conversation.expire()
        if self._waiting:
            self._close_spare()
        self._tick = self._loop.call_later(self._limits.tick_seconds, self._check_deadlines)
