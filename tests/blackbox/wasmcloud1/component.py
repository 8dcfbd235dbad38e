"""A component that calls a provider over wRPC, as the transport of hosts 1.0 or of 1.1 to 1.9.2 does."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.blackbox.wasmcloud1.values import Reader, parameters, read_result

_INSTANCES = {
    "increment": "atomics",
    "get-many": "batch",
    "set-many": "batch",
    "delete-many": "batch",
}
_HEADER_ROOM_BYTES = 200
"""More than the headers and the inbox take of the first message."""


class NotConnectedError(Exception):
    """No provider serves the function: what a host tells as "not connected"."""


class IncompleteResultError(Exception):
    """The call was ended without a whole result; the component traps. `text` is what 1.0 is told."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


class _Call:
    """One call: what its caller has been sent."""

    def __init__(self) -> None:
        self.server: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.result = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Component:
    """The calls of one component.

    Args:
        client: Connection of its host.
        lattice: Name of the lattice.
        provider_id: Id of the provider.
        component_id: Id of the component.
        flavour: `1.0` sends no link name and no end of its parameters, and listens to errors.
        registers_after: Seconds for which messages are dropped: hosts 1.4.1 to 1.9.2 may listen later than they have sent.
    """

    def __init__(
        self,
        client: Client,
        lattice: str,
        provider_id: str,
        component_id: str,
        *,
        flavour: str = "1.9",
        registers_after: float = 0.0,
    ) -> None:
        self.client = client
        self.id = component_id
        self.handshakes = 0
        self.registers_after = registers_after
        self._prefix = f"{lattice}.{provider_id}.wrpc.0.0.1.wrpc:keyvalue"
        self._is_1_0 = flavour == "1.0"
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._calls: dict[str, _Call] = {}
        self._count = 0

    async def listen(self) -> None:
        await self.client.subscribe(f"{self._inbox}.>", cb=self._on_message)
        await self.client.flush()

    async def call(
        self, function: str, *arguments: Any, link_name: str = "default", timeout_seconds: float = 10.0, **given: Any
    ) -> Any:
        """Call a function and return its good result.

        Args:
            function: Name of the function.
            *arguments: Its arguments, the bucket first.
            link_name: Link name that the component has chosen.
            timeout_seconds: Time to wait; a real host waits for ever.
            **given: `payload`, the encoded parameters; `headers` in place of the usual ones; `first_bytes`, where the
                parameters are cut.
        """
        payload = given.get("payload")
        if payload is None:
            payload = parameters(function, *arguments)
        headers = given.get("headers")
        if headers is None:
            headers = {"source-id": self.id} | ({} if self._is_1_0 else {"link-name": link_name})
        self._count += 1
        name = f"{secrets.token_hex(11)}{self._count}"
        call = _Call()
        if self.registers_after:
            asyncio.get_running_loop().call_later(self.registers_after, self._calls.__setitem__, name, call)
        else:
            self._calls[name] = call
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._send(function, f"{self._inbox}.{name}", call, payload, headers, given.get("first_bytes"))
                await call.ended
        finally:
            self._calls.pop(name, None)
        if not call.result:
            raise IncompleteResultError
        return read_result(function, call.result)

    async def _send(
        self, function: str, reply: str, call: _Call, payload: bytes, headers: dict[str, str], first_bytes: int | None
    ) -> None:
        size = self.client.max_payload
        first = size - _HEADER_ROOM_BYTES if first_bytes is None else first_bytes
        instance = _INSTANCES.get(function, "store")
        subject = f"{self._prefix}/{instance}@0.2.0-draft.{function}"
        await self.client.publish(subject, payload[:first], reply=reply, headers=headers or None)
        server = await call.server
        for at in range(first, len(payload), size):
            await self.client.publish(f"{server}.params", payload[at : at + size])
        if not self._is_1_0:
            await self.client.publish(f"{server}.params", b"")

    async def _on_message(self, message: Msg) -> None:
        name, _, kind = message.subject.removeprefix(f"{self._inbox}.").partition(".")
        call = self._calls.get(name)
        if call is None or call.ended.done():
            return
        if kind == "":
            if message.headers and message.headers.get("Status") == "503":
                error = NotConnectedError()
                call.server.set_exception(error)
            else:
                self.handshakes += 1
                if not call.server.done():
                    call.server.set_result(message.reply)
        elif kind == "results":
            if message.data:
                call.result += message.data
            else:
                call.ended.set_result(None)
        elif kind == "error" and self._is_1_0:
            call.ended.set_exception(IncompleteResultError(Reader(message.data).text()))
