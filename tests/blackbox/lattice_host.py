"""A lattice host: starts a provider, links actors, sends their signed invocations, checks health, shuts down.

It shares no code with the provider. This is the behaviour that all hosts share; `host_families.py` has their differences.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import nats.errors

from tests.blackbox.connected_host import ConnectedHost
from tests.blackbox.host_families import CONTRACT_ID, Health, HostFamily, HostIdentity, Response
from tests.blackbox.invocation_claims import invocation_claims, sign
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.object_store import ObjectStore
from tests.blackbox.provider_process import ProviderProcess
from tests.blackbox.waiting import eventually

PROJECT_FOLDER = Path(__file__).parent.parent.parent
PROVIDER_COMMAND = (sys.executable, "-m", "provider")

_CHUNKED_CALL_SECONDS = 13.0


class CallFailedError(Exception):
    """The provider has answered with an error, whose text is the argument."""


class LatticeHost(ConnectedHost):
    """A host in a lattice with at most one provider process, as an async context manager.

    Args:
        family: Kind of host.
        server_url: URL of the lattice's nats-server.
        folder: Folder for the output of the provider.
        lattice: Lattice prefix; `None`: a new one, so that tests can share a server.
        provider_key: Key of the provider; `None`: a new one.
        cluster: Key that signs invocations; `None`: a new one.
        link_name: Link name of the provider process.
        command: Command of a provider in place of this checkout's. It runs in the root folder, and only with the variables
            that `launch` is given.
    """

    def __init__(
        self,
        family: HostFamily,
        server_url: str,
        folder: Path,
        *,
        lattice: str | None = None,
        provider_key: KeyPair | None = None,
        cluster: KeyPair | None = None,
        link_name: str = "default",
        command: Sequence[str] | None = None,
    ) -> None:
        super().__init__(server_url, folder)
        self.family = family
        self.who = HostIdentity(
            lattice=lattice or f"lattice-{uuid.uuid4().hex[:12]}",
            link_name=link_name,
            server=server_url.removeprefix("nats://"),
            cluster=cluster or KeyPair.generate("C"),
            host=KeyPair.generate("N"),
            provider=provider_key or KeyPair.generate("V"),
        )
        self._command = command

    # --- names

    @property
    def subject(self) -> str:
        """The subject of the provider, to which hosts append their verbs."""
        return f"wasmbus.rpc.{self.who.lattice}.{self.who.provider.public}.{self.who.link_name}"

    @property
    def default_bucket(self) -> str:
        return f"{self.who.lattice}_{self.who.link_name}"

    @property
    def objects(self) -> ObjectStore:
        return ObjectStore(self.client, self.who.lattice, self.family.object_time_key)

    # --- the process

    def host_data(
        self, links: Sequence[dict[str, Any]] = (), config: dict[str, Any] | None = None, **changed: Any
    ) -> dict[str, Any]:
        """Return the host data that a provider gets at its start, with the `changed` keys replaced."""
        config_json = None if config is None else json.dumps(config)
        return self.family.host_data(self.who, list(links), config_json) | changed

    def launch(self, line: bytes, *, variables: dict[str, str] | None = None) -> ProviderProcess:
        """Execute the provider and write a line, valid or not."""
        assert self._provider is None, "a host starts its provider once"
        environment = self.family.environment() if self._command is None else {}
        self._provider = ProviderProcess(
            self._command or PROVIDER_COMMAND,
            self._folder / f"provider-{self.who.instance_id}",
            environment | (variables or {}),
            line,
            keeps_stdin_open=self.family.keeps_stdin_open,
            working_folder=PROJECT_FOLDER if self._command is None else Path("/"),
        )
        return self._provider

    async def start_provider(
        self, links: Sequence[dict[str, Any]] = (), config: dict[str, Any] | None = None, **changed: Any
    ) -> ProviderProcess:
        """Start a provider with links, and return once it answers invocations."""
        provider = self.launch(self.family.encode_line(self.host_data(links, config, **changed)))
        await self.ready()
        return provider

    async def ready(self) -> None:
        """Wait until a provider listens, which answers even an empty message."""

        async def is_served() -> bool:
            assert self.provider.exit_code is None, f"the provider ended:\n{self.provider.stderr}"
            try:
                await self.client.request(self.subject, b"", timeout=2)
            except nats.errors.NoRespondersError:
                return False
            return True

        await eventually(is_served, "an answer of the provider")

    # --- links

    def actor(self) -> str:
        """Return the public key of a new actor."""
        return KeyPair.generate("M").public

    def link(self, actor: str, values: dict[str, Any] | None = None, contract_id: str = CONTRACT_ID) -> dict[str, Any]:
        return self.family.link(self.who, actor, values or {}, contract_id)

    async def put_link(self, link: dict[str, Any]) -> None:
        """Send the provider a link, as many times as this family does. The provider does not acknowledge it."""
        for _ in range(self.family.put_deliveries):
            await self.client.publish(f"{self.subject}.linkdefs.put", self.family.encode_link(link))

    async def delete_link(self, link: dict[str, Any]) -> None:
        for _ in range(self.family.put_deliveries):
            await self.client.publish(f"{self.subject}.linkdefs.del", self.family.encode_link(link))

    # --- invocations

    def invocation(
        self,
        actor: str,
        operation: str,
        payload: bytes,
        *,
        claims: dict[str, Any] | None = None,
        key: KeyPair | None = None,
        **changed: Any,
    ) -> dict[str, Any]:
        """Build a signed invocation.

        Args:
            actor: Public key of the origin.
            operation: Full name of the operation, e.g. `KeyValue.Get`.
            payload: Encoded argument.
            claims: Claims to replace before signing; `None` removes one.
            key: Key that signs; `None`: the key that this family uses. The claims name the usual issuer in both cases.
            **changed: Fields to replace after signing; `None` removes one.
        """
        who, family = self.who, self.family
        origin = {"public_key": actor, "link_name": "", "contract_id": ""}
        target = family.target(who)
        invocation_id = family.invocation_id()
        issuer = family.issuer(who)
        signed = invocation_claims(issuer.public, invocation_id, origin, target, operation, payload)
        signed = {name: value for name, value in (signed | (claims or {})).items() if value is not None}
        fields = {
            "origin": origin,
            "target": target,
            "operation": operation,
            "msg": payload,
            "id": invocation_id,
            "encoded_claims": sign(signed, key or issuer),
            "content_length": len(payload),
            **family.invocation_fields(who),
        }
        return {name: value for name, value in (fields | changed).items() if name not in changed or value is not None}

    async def invoke(self, invocation: dict[str, Any], timeout_seconds: float | None = None) -> Response:
        """Send an invocation, through the object store if it is large, and decode the answer as this family does."""
        msg = invocation["msg"]
        wait = self.family.call_seconds if timeout_seconds is None else timeout_seconds
        if len(msg) > self.family.request_threshold_bytes:
            await self.objects.create()
            await self.objects.put(invocation["id"], msg)
            invocation = invocation | {"msg": b"", "content_length": len(msg)}
            wait += _CHUNKED_CALL_SECONDS
        reply = await self.client.request(self.subject, msgpack.packb(invocation), timeout=wait)
        return await self.read(reply.data, invocation["id"])

    async def read(self, data: bytes, invocation_id: str) -> Response:
        """Decode an answer to an invocation. A chunked one is fetched from the object store and deleted there."""
        response = self.family.read_response(data, invocation_id)
        if response.is_chunked:
            msg = await self.objects.take(f"{invocation_id}-r")
            assert len(msg) == response.content_length, f"content_length {response.content_length}, {len(msg)} bytes"
            return Response(msg, response.error, is_chunked=True, content_length=len(msg))
        return response

    async def call(self, actor: str, operation: str, argument: Any, timeout_seconds: float | None = None) -> Any:
        """Call an operation and return its decoded answer.

        Args:
            actor: Public key of the caller.
            operation: Name of the operation, e.g. `KeyValueBatch.GetMany`; those of `KeyValue` without the prefix, e.g. `Get`.
            argument: Argument as the interface defines it: a text, an array or a map.
            timeout_seconds: Time for which the caller waits; `None`: as long as this family does.

        Raises:
            CallFailedError: The answer is an error.
        """
        name = operation if "." in operation else f"KeyValue.{operation}"
        invocation = self.invocation(actor, name, msgpack.packb(argument))
        response = await self.invoke(invocation, timeout_seconds)
        if response.error is not None:
            raise CallFailedError(response.error)
        return msgpack.unpackb(response.msg) if response.msg else None

    async def set(self, actor: str, key: str, value: str) -> None:
        await self.call(actor, "Set", {"key": key, "value": value, "expires": 0})

    async def get(self, actor: str, key: str) -> str | None:
        """Return a text, or `None` if the key is absent."""
        answer = await self.call(actor, "Get", key)
        value: str | None = answer["value"] if answer["exists"] else None
        return value

    async def increment(self, actor: str, key: str, value: int = 1) -> int:
        total: int = await self.call(actor, "Increment", {"key": key, "value": value})
        return total

    async def error(self, actor: str, operation: str, argument: Any, timeout_seconds: float | None = None) -> str:
        """Call an operation that must fail, and return the text of the error."""
        try:
            answer = await self.call(actor, operation, argument, timeout_seconds)
        except CallFailedError as failed:
            return str(failed)
        raise AssertionError(f"{operation} {argument!r} did not fail, but answered {answer!r}")

    # --- health and shutdown

    async def health(self) -> Health:
        reply = await self.client.request(f"{self.subject}.health", self.family.health_payload, timeout=2)
        return self.family.read_health(reply.data)

    async def shutdown(self, timeout_seconds: float | None = None) -> float:
        """Ask the provider to stop, and return the seconds until it has acknowledged.

        Raises:
            nats.errors.TimeoutError: The provider has not answered within the time limit of this family, after which a real
                host kills it.
        """
        request = json.dumps({"host_id": self.family.shutdown_host_id(self.who)}).encode()
        began = time.monotonic()
        wait = self.family.shutdown_seconds if timeout_seconds is None else timeout_seconds
        await self.client.request(f"{self.subject}.shutdown", request, timeout=wait)
        return time.monotonic() - began

    async def statistics(self) -> dict[str, Any]:
        """Return the service statistics of this host's provider, as soon as it publishes them."""
        subject = f"$SRV.STATS.keyvalue-nats-{self.who.provider.public}.{self.who.instance_id}"

        async def answered() -> Any:
            try:
                return json.loads((await self.client.request(subject, b"", timeout=2)).data)
            except nats.errors.NoRespondersError:
                return None

        answer: dict[str, Any] = await eventually(answered, "service statistics")
        return answer


async def gather_outcomes(calls: Sequence[Any]) -> list[Any]:
    """Run calls concurrently, and return the answer or the exception of each."""
    return await asyncio.gather(*calls, return_exceptions=True)
