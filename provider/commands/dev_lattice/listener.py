"""An actor that receives changes: checks each invocation as a host would and passes the change on."""

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
from contracts.nkeys import parse_seed
from provider import errors
from provider.commands.dev_lattice.identity import DevIdentity
from provider.lattice.claims import ClaimsVerifier


@contextlib.asynccontextmanager
async def listening(
    connection: Client, identity: DevIdentity, on_change: Callable[[HandleChange], None]
) -> AsyncIterator[None]:
    """Receive the changes that the provider sends to an actor, until the context ends.

    Args:
        connection: Connection to the lattice.
        identity: Identity of the actor.
        on_change: Callback for each change.
    """
    verifier = ClaimsVerifier([parse_seed(identity.cluster_seed.reveal()).public_key])

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

    subject = actor_subject(identity.lattice, identity.actor_id)
    subscription = await connection.subscribe(subject, queue=subject, cb=answer)
    await connection.flush()
    try:
        yield
    finally:
        with contextlib.suppress(nats_errors.Error):  # a lost connection has no subscription to end
            await subscription.unsubscribe()
