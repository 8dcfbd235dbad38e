"""Calls of an actor in the lattice: a signed invocation to its subject, and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import uuid
from collections.abc import Callable

from msgspec import structs

from contracts.codec import MalformedError
from contracts.host import HostData
from contracts.lattice import (
    CHUNK_THRESHOLD_BYTES,
    Invocation,
    WasmCloudEntity,
    actor_subject,
    decode_invocation_response,
    encode_invocation,
)
from contracts.long_values import LongBytes
from provider import errors
from provider.lattice.chunks import ChunkStore
from provider.lattice.protocol import LinkKey
from provider.lattice.signing import InvocationSigner
from provider.nats.connection import Connection

_CHUNKED_SECONDS = 13.0
"""Extra time for a payload that the host has to fetch. Source: wasmbus-rpc v0.15 rpc_client.rs."""

_DISCARD_SECONDS = 5.0
"""No caller waits for this, so a slow server gets time enough."""

_SHOWN_CHARACTERS = 1000
"""An actor's error goes to the log and into a dead letter, whatever its length."""


class ActorCall:
    """One call of an actor: one invocation, which may be sent again until an actor receives it.

    Args:
        connection: Connection to the lattice.
        chunks: Object store for a payload that does not fit in a message. It is written once for all attempts.
        sign: Function that signs the invocation at a time in seconds since 1970, with the same id each time.
        subject: Subject of the actor.
        wait_seconds: Time for the actor to answer.
        is_long: Whether the payload does not fit in a message.
    """

    def __init__(
        self,
        connection: Connection,
        chunks: ChunkStore,
        sign: Callable[[float], Invocation],
        subject: bytes,
        wait_seconds: float,
        *,
        is_long: bool,
    ) -> None:
        self._connection = connection
        self._chunks = chunks
        self._sign = sign
        self._subject = subject
        self._wait_seconds = wait_seconds
        self._is_long = is_long
        self._stored: Invocation | None = None

    @property
    def is_stored(self) -> bool:
        """True if the payload is in the object store. The host of the actor removes it when it has read it."""
        return self._stored is not None

    async def send(self) -> None:
        """Call the actor, and return when it has answered without an error.

        Raises:
            errors.ActorUnreachableError: The actor was not called: no host runs it, or the lattice cannot be reached.
            errors.ActorFailedError: The actor answered with an error, or not in time.
        """
        # A thread hashes a large payload, which takes a fifth of a second.
        now = time.time()
        invocation = await asyncio.to_thread(self._sign, now) if self._is_long else self._sign(now)
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        try:
            if self._is_long:
                if self._stored is None:
                    await self._chunks.put(invocation.id, invocation.msg, deadline)
                    self._stored = invocation
                invocation = structs.replace(invocation, msg=b"")
                deadline += _CHUNKED_SECONDS
            _, answer = await self._connection.request(self._subject, encode_invocation(invocation), deadline=deadline)
            response = decode_invocation_response(answer)
        except errors.NoRespondersError:
            raise errors.ActorUnreachableError("no host runs the actor") from None
        except (errors.NotConnectedError, errors.ChunkError) as error:
            raise errors.ActorUnreachableError(str(error)) from None
        except errors.RequestTimeoutError:
            raise errors.ActorFailedError("no answer in time") from None
        except (errors.NatsError, MalformedError) as error:
            raise errors.ActorFailedError(str(error)) from None
        if isinstance(response.error, str):
            raise errors.ActorFailedError(response.error[:_SHOWN_CHARACTERS])
        self._stored = None

    async def discard(self) -> None:
        """Remove the payload from the object store if no host has."""
        if self._stored is not None:
            deadline = asyncio.get_running_loop().time() + _DISCARD_SECONDS
            with contextlib.suppress(errors.ChunkError):
                await self._chunks.remove(self._stored.id, deadline)


class ActorCaller:
    """The caller of actors on behalf of this provider.

    Args:
        connection: Connection to the lattice.
        host_data: Host data with the lattice, the provider's key and the seed to sign with.
    """

    def __init__(self, connection: Connection, host_data: HostData) -> None:
        self._connection = connection
        self._lattice = host_data.lattice_rpc_prefix
        self._provider_key = host_data.provider_key
        self._seconds = host_data.default_rpc_timeout_ms / 1000
        self._signer = _signer(host_data)
        self._chunks = ChunkStore(connection, self._lattice, host_data.js_domain or "")

    def prepare(self, link: LinkKey, operation: str, msg: bytes | LongBytes) -> ActorCall:
        """Prepare a call of a link's actor without sending it.

        Raises:
            errors.ActorFailedError: The host gave no seed to sign with, or no subject can have the actor's id.
        """
        if self._signer is None:
            raise errors.ActorFailedError("the host gave no invocation_seed to sign with")
        actor_id, contract_id, link_name = link
        origin = WasmCloudEntity(self._provider_key, link_name, contract_id)
        sign = functools.partial(self._signer.sign, str(uuid.uuid4()), origin, actor_id, operation, msg)
        try:
            subject = actor_subject(self._lattice, actor_id).encode()
        except MalformedError as error:
            raise errors.ActorFailedError(str(error)) from None
        is_long = len(msg) > CHUNK_THRESHOLD_BYTES
        return ActorCall(self._connection, self._chunks, sign, subject, self._seconds, is_long=is_long)


def _signer(host_data: HostData) -> InvocationSigner | None:
    """Return a signer, or None without a usable seed: actors can still call the provider, but it cannot call them."""
    try:
        return InvocationSigner(host_data.host_id, host_data.invocation_seed)
    except ValueError:
        return None
