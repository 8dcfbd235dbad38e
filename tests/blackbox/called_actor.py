"""An actor that is called: it listens on the subject of its host, checks calls as a host does, and answers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgpack
from nacl.signing import VerifyKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tests.blackbox.host_families import HostIdentity
from tests.blackbox.invocation_claims import entity_url
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.object_store import ObjectStore
from tests.blackbox.waiting import eventually


class Called(NamedTuple):
    """A call: the operation, and its decoded argument."""

    operation: str
    argument: Any


class CalledActor:
    """An actor in a lattice, as an async context manager that stops it.

    Args:
        client: Connection of the host that runs the actor.
        who: HostIdentity of that host.
        public_key: Public key of the actor.
        answer: Function of a call that returns, directly or as an awaitable, the error to answer with; `None`: success. If
            it raises `TimeoutError`, there is no answer.
        objects: Store of the payloads that are too large for a message.
    """

    def __init__(
        self,
        client: Client,
        who: HostIdentity,
        public_key: str,
        answer: Callable[[Called], str | None | Awaitable[str | None]] = lambda _: None,
        *,
        objects: ObjectStore | None = None,
    ) -> None:
        self.calls: list[Called] = []
        self.public_key = public_key
        self._client = client
        self._who = who
        self._answer = answer
        self._objects = objects
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        subject = f"wasmbus.rpc.{self._who.lattice}.{self.public_key}"
        self._subscription = await self._client.subscribe(subject, queue=subject, cb=self._on_call)
        await self._client.flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._subscription is not None
        await self._subscription.unsubscribe()
        await self._client.flush()

    async def called(self, count: int, deadline_seconds: float = 10.0) -> list[Called]:
        """Wait for `count` calls, and return all calls so far."""
        await eventually(lambda: len(self.calls) >= count, f"{count} calls of an actor", deadline_seconds)
        return self.calls

    async def _on_call(self, message: Msg) -> None:
        invocation = msgpack.unpackb(message.data)
        answer: dict[str, Any] = {"msg": b"", "invocation_id": invocation["id"], "content_length": 0}
        if invocation["content_length"] > len(invocation["msg"]) and self._objects is not None:
            invocation["msg"] = await self._objects.take(invocation["id"])
        refusal = self._refusal(invocation)
        if refusal is None:
            call = Called(invocation["operation"], msgpack.unpackb(invocation["msg"]))
            self.calls.append(call)
            try:
                answered = self._answer(call)
                refusal = await answered if isinstance(answered, Awaitable) else answered
            except TimeoutError:
                return
        if refusal is not None:
            answer["error"] = refusal
        await message.respond(msgpack.packb(answer))

    def _refusal(self, invocation: dict[str, Any]) -> str | None:
        """Check an invocation as a Rust host does, and return its error. Source: wasmCloud v0.82.0, crates/host/src/wasmbus/mod.rs."""
        header, claims, signature = invocation["encoded_claims"].split(".")
        claimed = json.loads(_decoded(claims))
        cluster: KeyPair = self._who.cluster
        if json.loads(_decoded(header)) != {"typ": "jwt", "alg": "Ed25519"} or claimed["iss"] != cluster.public:
            return "issuer of this invocation is not among the list of valid issuers"
        VerifyKey(bytes(cluster.signing_key.verify_key)).verify(f"{header}.{claims}".encode(), _decoded(signature))
        origin_url = entity_url(invocation["origin"])
        target_url = f"{entity_url(invocation['target'])}/{invocation['operation']}"
        text = f"{origin_url}{target_url}{invocation['operation']}".encode()
        digest = hashlib.sha256(text + invocation["msg"]).hexdigest().upper()
        if claimed["wascap"] != {"target_url": target_url, "origin_url": origin_url, "hash": digest}:
            return "invocation claims do not match"
        if invocation["host_id"][:1] != "N" or len(invocation["host_id"]) != 56 or claimed["sub"] != invocation["id"]:
            return "invalid host ID on invocation"
        if (
            invocation["content_length"] != len(invocation["msg"])
            or invocation["target"]["public_key"] != self.public_key
        ):
            return "invocation is for another actor"
        return None


def _decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
