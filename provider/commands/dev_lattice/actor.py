"""An actor as its host runs it: turns typed requests into signed invocations, and responses into typed results."""

from __future__ import annotations

import time
import uuid
from typing import Any

import nats.errors
from msgspec import structs
from nats.aio.client import Client

from contracts import extensions, keyvalue, lattice, operations
from contracts.lattice import Invocation, WasmCloudEntity
from contracts.nkeys import parse_seed
from contracts.tokens import invocation_claims
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.payloads import ADDITIONAL_SECONDS, Payloads
from provider.commands.errors import CallFailedError, NoAnswerError
from provider.commands.minting import TokenMinter

_READS = frozenset(
    f"{type_.interface}.{type_.__name__}"
    for type_ in (
        keyvalue.Get,
        keyvalue.Contains,
        keyvalue.ListRange,
        keyvalue.SetQuery,
        keyvalue.SetUnion,
        keyvalue.SetIntersection,
        extensions.GetEntry,
        extensions.GetMany,
        extensions.ListKeys,
    )
)
"""Operations that change nothing. After a time-out their outcome does not matter."""


class Signer:
    """Signs the invocations of one actor to one provider."""

    def __init__(self, identity: DevIdentity) -> None:
        self._identity = identity
        self._minter = TokenMinter(parse_seed(identity.cluster_seed.reveal()))
        self._origin = WasmCloudEntity(identity.actor_id)
        self._target = WasmCloudEntity(identity.provider_key, identity.link_name, keyvalue.CONTRACT_ID)

    def sign(self, request: keyvalue.Request, *, issued_at: int | None = None) -> Invocation:
        """Sign one invocation with a new id.

        Args:
            request: Operation and its arguments.
            issued_at: Whole seconds since 1970; None means now.
        """
        msg = operations.encode_request(request)
        invocation = Invocation(
            origin=self._origin,
            target=self._target,
            operation=operations.operation_name(request),
            msg=msg,
            id=str(uuid.uuid4()),
            encoded_claims="",
            host_id=self._identity.host_id,
            content_length=len(msg),
        )
        seconds = int(time.time()) if issued_at is None else issued_at
        invocation.encoded_claims = self._minter.mint(invocation_claims(invocation, self._minter.public_key, seconds))
        return invocation


class Actor:
    """Calls a provider over an open connection, one invocation at a time or many concurrently."""

    def __init__(self, connection: Client, identity: DevIdentity, *, timeout_seconds: float = 2.0) -> None:
        self._connection = connection
        self._subject = identity.subjects.rpc
        self._signer = Signer(identity)
        self._timeout_seconds = timeout_seconds
        self._payloads = Payloads(connection, identity.lattice)

    async def call(self, request: keyvalue.Request) -> Any:
        """Sign and send a request; return the result of the operation.

        Raises:
            CallFailedError: The provider answered with an error.
            NoAnswerError: No provider serves the link, or no answer came in time.
        """
        return operations.decode_response(type(request), await self.send(self._signer.sign(request)))

    async def send(self, invocation: Invocation) -> bytes:
        """Send an invocation unchanged, forged or not, and return the `msg` of the response.

        Raises:
            CallFailedError: The provider answered with an error.
            NoAnswerError: No provider serves the link, or no answer came in time.
        """
        limit_seconds = self._timeout_seconds
        try:
            sent = await self._payloads.send(invocation)
            limit_seconds += ADDITIONAL_SECONDS if sent is not invocation else 0
            data = lattice.encode_invocation(sent)
            reply = await self._connection.request(self._subject, data, timeout=limit_seconds)
        except nats.errors.NoRespondersError:
            raise NoAnswerError("no provider serves this link") from None
        except nats.errors.TimeoutError:
            unknown = "" if invocation.operation in _READS else ": outcome unknown"
            raise NoAnswerError(f"no answer within {limit_seconds:g} s{unknown}") from None
        except nats.errors.Error as error:
            raise NoAnswerError(f"the call cannot be sent: {str(error).removeprefix('nats: ')}") from None
        response = lattice.decode_invocation_response(reply.data)
        if isinstance(response.error, str):
            raise CallFailedError(response.error)
        try:
            return await self._payloads.receive(response)
        except nats.errors.Error as error:
            raise NoAnswerError(f"the answer cannot be read: {str(error).removeprefix('nats: ')}") from None

    def sign(self, request: keyvalue.Request) -> Invocation:
        return self._signer.sign(request)


def with_payload(invocation: Invocation, request: keyvalue.Request) -> Invocation:
    """Replace the payload and keep the signature, as a forger would."""
    msg = operations.encode_request(request)
    return structs.replace(invocation, msg=msg, content_length=len(msg))
