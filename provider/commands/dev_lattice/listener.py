"""An actor that is called, as a development lattice runs it: it checks what a host checks and hands on what it is told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts import operations
from contracts.codec import MalformedError
from contracts.extensions import HandleChange
from contracts.lattice import actor_subject, decode_invocation, encode_failure, encode_success
from provider import errors
from provider.commands.dev_lattice.actor import Link
from provider.commands.dev_lattice.keys import cluster_public_key
from provider.lattice.claims import ClaimsVerifier


@contextlib.asynccontextmanager
async def listening(connection: Client, link: Link, on_change: Callable[[HandleChange], None]) -> AsyncIterator[None]:
    """Be the actor of a link.

    Args:
        connection: Of the lattice.
        link: Whose actor.
        on_change: Called with each change that it is told of.
    """
    verifier = ClaimsVerifier([cluster_public_key(link.cluster_seed)])

    async def answer(message: Msg) -> None:
        invocation_id = ""
        try:
            invocation = decode_invocation(message.data)
            invocation_id = invocation.id
            verifier.verify(invocation, time.time())
            on_change(operations.decode_change(invocation.operation, invocation.msg))
        except (errors.InvocationDeniedError, operations.UnknownOperationError, MalformedError) as error:
            await message.respond(encode_failure(invocation_id, str(error)))
        else:
            await message.respond(encode_success(invocation_id, b"", 0))

    subject = actor_subject(link.lattice, link.actor_id)
    subscription = await connection.subscribe(subject, queue=subject, cb=answer)
    await connection.flush()
    try:
        yield
    finally:
        with contextlib.suppress(nats_errors.Error):  # the connection may be lost: then there is nothing to end
            await subscription.unsubscribe()
