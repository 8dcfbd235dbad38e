"""A component that receives changes: its host's side of the watcher's functions."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.component_values import UNLIMITED, TooManyError
from provider.commands.dev_lattice.identity import DevIdentity


@contextlib.asynccontextmanager
async def component_listening(
    connection: Client, identity: DevIdentity, on_change: Callable[[wrpc.WrpcCall], None]
) -> AsyncIterator[None]:
    """Receive the changes that the provider sends to a component, until the context ends.

    Args:
        connection: Connection to the lattice.
        identity: Identity of the component.
        on_change: Callback for each call of the watcher's functions.
    """
    inbox, numbers = connection.new_inbox(), itertools.count()

    async def take(type_: type[wrpc.WrpcCall], message: Msg) -> None:
        own = f"{inbox}.{next(numbers)}"
        rest = await connection.subscribe(f"{own}.params")
        await connection.publish(message.reply, b"", reply=own)
        reader = wrpc.ParameterReader(type_, UNLIMITED)
        with contextlib.suppress(MalformedError, TooManyError, nats_errors.Error):
            call = reader.feed(message.data)
            while call is None:
                call = reader.feed((await rest.next_msg(timeout=2)).data)
            on_change(call)
        await rest.unsubscribe()
        await connection.publish(f"{message.reply}.results", b"")

    def taker(type_: type[wrpc.WrpcCall]) -> Callable[[Msg], object]:
        async def on_message(message: Msg) -> None:
            await take(type_, message)

        return on_message

    queue = f"{identity.lattice}.{identity.actor_id}"
    subscriptions = [
        await connection.subscribe(
            wrpc.invocation_subject(identity.lattice, identity.actor_id, type_),
            queue=queue,
            cb=taker(type_),  # type: ignore[arg-type]
        )
        for type_ in wrpc.WATCHER_CALLS
    ]
    await connection.flush()
    try:
        yield
    finally:
        with contextlib.suppress(nats_errors.Error):  # a lost connection has no subscription to end
            for subscription in subscriptions:
                await subscription.unsubscribe()
