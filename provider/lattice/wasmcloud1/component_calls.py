"""Calls of components on 1.x hosts by wRPC over NATS: the watcher's functions, which have no result.

Source: wrpc-transport-nats 0.29 (the messages of a call); wasmCloud v1.9.2 crates/host (the watcher).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable

from contracts.codec import MalformedError
from contracts.long_values import LongBytes
from contracts.wasmcloud1 import SOURCE_HEADER, TARGET_HEADER
from contracts.wrpc import WrpcCall, encode_parameters_in_parts, invocation_subject
from provider import errors
from provider.lattice.wasmcloud1.paced_answers import BYTES_PER_SECOND
from provider.nats.connection import Connection
from provider.nats.frames import header_block, status_of
from provider.nats.requests import new_inbox

_FLUSH_SECONDS = 1.0
"""The time for the server to confirm the subscription: many round trips. Only the first call waits for it."""

_NO_RESPONDERS = 503
_PARAMETERS, _RESULTS = b".params", b".results"


class _Pending:
    """A call under way: the subject for the rest of its parameters, once the host has taken it, and its end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.taken: asyncio.Future[bytes] = loop.create_future()
        self.ended = asyncio.Event()


class ComponentCaller:
    """The caller of components on behalf of this provider.

    Args:
        connection: Connection to the lattice.
        lattice: Name of the lattice.
        provider_id: Id of this provider.
        wait_seconds: Time for a host to take a call, and for the component to end it.
        is_inbox: Tells whether a subject that a host names is an inbox; nothing is sent to another one.
    """

    def __init__(
        self,
        connection: Connection,
        lattice: str,
        provider_id: str,
        wait_seconds: float,
        is_inbox: Callable[[bytes], bool],
    ) -> None:
        self._is_inbox = is_inbox
        self._connection = connection
        self._lattice = lattice
        self._provider_id = provider_id
        self._wait_seconds = wait_seconds
        self._inbox = new_inbox().encode()
        self._numbers = itertools.count()
        self._pending: dict[bytes, _Pending] = {}
        self._listening = asyncio.Lock()
        self._is_listening = False

    async def call(self, component_id: str, call: WrpcCall) -> None:
        """Call a component, and return when its host has taken the call and the component has ended, or is slow.

        Whether the component has failed cannot be known: its host answers the same then.

        Raises:
            errors.ActorUnreachableError: The component was not called: no host runs it, or the lattice cannot be reached.
            errors.ActorFailedError: No host has taken the call in time, or no subject can have the component's id.
        """
        await self._listen()
        token = b"%d" % next(self._numbers)
        pending = self._pending[token] = _Pending()
        try:
            await self._send(component_id, call, self._inbox + b"." + token, pending)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    await pending.ended.wait()
        except errors.NotConnectedError as error:
            raise errors.ActorUnreachableError(str(error)) from None
        except MalformedError as error:
            raise errors.ActorFailedError(str(error)) from None
        finally:
            del self._pending[token]

    async def _send(self, component_id: str, call: WrpcCall, reply: bytes, pending: _Pending) -> None:
        """Send the parameters: as much as the first message takes, and the rest when the host has taken that."""
        subject = invocation_subject(self._lattice, component_id, type(call)).encode()
        header = header_block((SOURCE_HEADER, self._provider_id.encode()), (TARGET_HEADER, component_id.encode()))
        encoded, most = encode_parameters_in_parts(call), self._connection.max_payload_bytes
        parameters = encoded if isinstance(encoded, LongBytes) else LongBytes([encoded])
        first = min(most - len(header) - len(reply), len(parameters))
        self._connection.publish_request(subject, reply, bytes(parameters.read(0, first)), header)
        try:
            async with asyncio.timeout(self._wait_seconds):
                rest = await pending.taken
        except TimeoutError:
            raise errors.ActorFailedError("no host has taken the call in time") from None
        for start in range(first, len(parameters), most):
            part = bytes(parameters.read(start, min(start + most, len(parameters))))
            self._connection.publish(rest + _PARAMETERS, part)
            await self._connection.flush(_FLUSH_SECONDS)
            await asyncio.sleep(len(part) / BYTES_PER_SECOND)
        self._connection.publish(rest + _PARAMETERS, b"")

    async def _listen(self) -> None:
        async with self._listening:
            if not self._is_listening:
                await self._connection.listen(f"{self._inbox.decode()}.>", self._receive)
                # A message may overtake a subscription on its way out, and the answer to it would then be lost.
                await self._connection.flush(_FLUSH_SECONDS)
                self._is_listening = True

    def _receive(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Take a message of a host: that it has taken a call, a part of the results, or their end, which is empty."""
        token, is_result, _ = subject[len(self._inbox) + 1 :].partition(_RESULTS)
        pending = self._pending.get(token)
        if pending is None:
            return
        if is_result:
            if not payload:
                pending.ended.set()
        elif not pending.taken.done():
            if status_of(header) == _NO_RESPONDERS:
                pending.taken.set_exception(errors.ActorUnreachableError("no host runs the component"))
            elif self._is_inbox(reply):
                pending.taken.set_result(reply)
