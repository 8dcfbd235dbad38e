"""A component as its host runs it: turns calls into the messages of wRPC, and results into typed ones."""

from __future__ import annotations

import asyncio
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.wasmcloud1 import LINK_HEADER, SOURCE_HEADER
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.errors import CallFailedError, NoAnswerError
from provider.nats.frames import header_block

_READS = frozenset({wrpc.Get, wrpc.Exists, wrpc.ListKeys, wrpc.GetMany})
"""Functions that change nothing. After a time-out their outcome does not matter."""

_NO_RESPONDERS = "503"


class Component:
    """Calls a provider over an open connection, one call at a time or many concurrently."""

    def __init__(self, connection: Client, identity: DevIdentity, *, timeout_seconds: float = 2.0) -> None:
        self._connection = connection
        self._identity = identity
        self._timeout_seconds = timeout_seconds
        self._headers = {
            SOURCE_HEADER.decode(): identity.actor_id,
            LINK_HEADER.decode(): identity.link_name,
        }
        block = header_block(*((name.encode(), value.encode()) for name, value in self._headers.items()))
        self._header_bytes = len(block)

    def subject(self, type_: type[wrpc.WrpcCall]) -> str:
        """Return the subject of a function."""
        return wrpc.invocation_subject(self._identity.lattice, self._identity.provider_key, type_)

    async def call(self, call: wrpc.WrpcCall) -> Any:
        """Send a call; return the result of the function, as its class describes it.

        Raises:
            CallFailedError: The provider answered with an error.
            NoAnswerError: No provider serves the link, or no whole answer came in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                result = wrpc.decode_result(type(call), await self._exchange(call))
        except TimeoutError:
            unknown = "" if type(call) in _READS else ": outcome unknown"
            raise NoAnswerError(f"no answer within {self._timeout_seconds:g} s{unknown}") from None
        except nats.errors.Error as error:
            raise NoAnswerError(f"the call cannot be sent: {str(error).removeprefix('nats: ')}") from None
        except MalformedError:
            raise CallFailedError("the provider ended the call without a result") from None
        if isinstance(result, wrpc.Failure):
            raise CallFailedError(str(result))
        return result

    async def _exchange(self, call: wrpc.WrpcCall) -> bytes:
        """Send the parameters of a call and return the bytes of its result."""
        inbox = self._connection.new_inbox()
        answers = await self._connection.subscribe(f"{inbox}.>")
        try:
            return await self._converse(call, f"{inbox}.0", answers)
        finally:
            if self._connection.is_connected:
                await answers.unsubscribe()

    async def _converse(self, call: wrpc.WrpcCall, reply: str, answers: Subscription) -> bytes:
        most, subject = self._connection.max_payload, self.subject(type(call))
        parameters = wrpc.encode_parameters(call)
        first = most - self._header_bytes - len(reply)
        await self._connection.publish(subject, parameters[:first], reply=reply, headers=self._headers)
        parts: list[bytes] = []
        has_begun = False
        while True:
            message: Msg = await answers.next_msg(timeout=self._timeout_seconds)
            if message.subject != reply:
                if not message.data:
                    return b"".join(parts)
                parts.append(message.data)
            elif (message.headers or {}).get("Status") == _NO_RESPONDERS:
                raise NoAnswerError("no provider serves this link")
            elif not has_begun:
                has_begun = True
                for start in range(first, len(parameters), most):
                    await self._connection.publish(f"{message.reply}.params", parameters[start : start + most])
                await self._connection.publish(f"{message.reply}.params", b"")
