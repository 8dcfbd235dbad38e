"""Call an actor of the lattice: a signed invocation to its subject, and what it answers."""

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
from provider import errors
from provider.lattice.chunks import ChunkStore
from provider.lattice.protocol import LinkKey
from provider.lattice.signing import InvocationSigner
from provider.nats.connection import Connection

_CHUNKED_SECONDS = 13.0
"""More time for a payload that the host has to fetch. Source: wasmbus-rpc v0.15 rpc_client.rs."""

_TAKE_BACK_SECONDS = 5.0


class ActorCall:
    """One call of an actor: one invocation, which may be sent again as long as nobody has taken it.

    Args:
        connection: The lattice's.
        chunks: Takes a payload that fits in no message, once for all sendings.
        sign: Makes the invocation at a time in seconds since 1970, with the same id each time.
        subject: The actor's.
        wait_seconds: How long the actor may take.
    """

    def __init__(
        self,
        connection: Connection,
        chunks: ChunkStore,
        sign: Callable[[float], Invocation],
        subject: bytes,
        wait_seconds: float,
    ) -> None:
        self._connection = connection
        self._chunks = chunks
        self._sign = sign
        self._subject = subject
        self._wait_seconds = wait_seconds
        self._stored: Invocation | None = None

    @property
    def is_stored(self) -> bool:
        """Whether its payload is in the object store, from where the host of an actor removes what it reads."""
        return self._stored is not None

    async def send(self) -> None:
        """Call the actor, and return when it has answered without an error.

        Raises:
            errors.ActorUnreachableError: It was not called: nobody runs it, or the lattice cannot be reached.
            errors.ActorFailedError: It answered with an error, or not in time.
        """
        invocation = self._sign(time.time())
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        try:
            if len(invocation.msg) > CHUNK_THRESHOLD_BYTES:
                if self._stored is None:
                    await self._chunks.put(invocation.id, invocation.msg, deadline)
                    self._stored = invocation
                invocation = structs.replace(invocation, msg=b"")
                deadline += _CHUNKED_SECONDS
            _, answer = await self._connection.request(self._subject, encode_invocation(invocation), deadline=deadline)
            response = decode_invocation_response(answer)
        except (errors.NoRespondersError, errors.NotConnectedError, errors.ChunkError) as error:
            raise errors.ActorUnreachableError(str(error)) from None
        except errors.RequestTimeoutError:
            raise errors.ActorFailedError("no answer in time") from None
        except (errors.NatsError, MalformedError) as error:
            raise errors.ActorFailedError(str(error)) from None
        if isinstance(response.error, str):
            raise errors.ActorFailedError(response.error[:1000])
        self._stored = None

    async def take_back(self) -> None:
        """Remove its payload from the object store, when nobody has."""
        if self._stored is not None:
            deadline = asyncio.get_running_loop().time() + _TAKE_BACK_SECONDS
            with contextlib.suppress(errors.ChunkError):
                await self._chunks.remove(self._stored.id, deadline)


class ActorCaller:
    """Calls actors on behalf of this provider.

    Args:
        connection: The lattice's.
        host_data: Whose key and lattice.
    """

    def __init__(self, connection: Connection, host_data: HostData) -> None:
        self._connection = connection
        self._lattice = host_data.lattice_rpc_prefix
        self._provider_key = host_data.provider_key
        self._seconds = host_data.default_rpc_timeout_ms / 1000
        self._signer = _signer(host_data)
        self._chunks = ChunkStore(connection, self._lattice, host_data.js_domain or "")

    def prepare(self, link: LinkKey, operation: str, msg: bytes) -> ActorCall:
        """Return a call of a link's actor that is not sent yet.

        Raises:
            errors.ActorFailedError: There is nothing to sign it with.
        """
        if self._signer is None:
            raise errors.ActorFailedError("the host gave no invocation_seed to sign with")
        actor_id, contract_id, link_name = link
        origin = WasmCloudEntity(self._provider_key, link_name, contract_id)
        sign = functools.partial(self._signer.sign, str(uuid.uuid4()), origin, actor_id, operation, msg)
        subject = actor_subject(self._lattice, actor_id).encode()
        return ActorCall(self._connection, self._chunks, sign, subject, self._seconds)


def _signer(host_data: HostData) -> InvocationSigner | None:
    """A host without a usable seed may still have actors call this provider; only the other way round is cut off."""
    try:
        return InvocationSigner(host_data.host_id, host_data.invocation_seed)
    except ValueError:
        return None
