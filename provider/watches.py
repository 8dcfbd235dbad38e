"""The watches of all links. They connect the bucket that is watched with the actor that is called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from contracts import wrpc
from contracts.extensions import HANDLE_CHANGE, HandleChange
from contracts.host import HostData
from contracts.long_values import LongText
from contracts.operations import encode_change
from contracts.statistics import WatchStatistics
from provider.keyvalue.kinds import Kind
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.pool import StorePool
from provider.keyvalue.watch.key_change import KeyChange
from provider.keyvalue.watch.watch import Watch
from provider.lattice.actor_calls import ActorCaller
from provider.lattice.protocol import LinkKey
from provider.lattice.wasmcloud1.component_calls import ComponentCaller
from provider.tasks import TaskOwner

_BUCKET = "0"
"""The bucket in calls of a watcher. Hosts read a number there: they make it the handle of a resource that does not exist."""

Send = Callable[[], Awaitable[None]]
Delivery = Callable[[LinkKey, KeyChange], AbstractAsyncContextManager[Send]]


class Watches:
    """One watch for each link that has the setting WATCH.

    Args:
        host_data: Host data with the name of the lattice.
        pool: Pool of the buckets.
        deliver: Prepares a call of a link's actor or component with a change; see `watch.Deliver`.
        tasks: Owner of the background tasks.
    """

    def __init__(self, host_data: HostData, pool: StorePool, deliver: Delivery, tasks: TaskOwner) -> None:
        self._lattice = re.sub(r"[^A-Za-z0-9_-]", "_", host_data.lattice_rpc_prefix)
        self._pool = pool
        self._deliver = deliver
        self._tasks = tasks
        self._watches: dict[LinkKey, Watch] = {}
        self._turns: weakref.WeakValueDictionary[LinkKey, asyncio.Lock] = weakref.WeakValueDictionary()
        """A lock per link: the steps that replace, suspend or end its watch happen one after the other."""

    def put(self, key: LinkKey, wanted: LinkConfig) -> None:
        """Apply a link's settings: begin, change or end its watch."""
        if wanted.watch.patterns:
            self._switch(
                key, self._pool.watch(wanted, self._name(key), self._lattice, functools.partial(self._deliver, key))
            )
        else:
            self.delete(key)

    def delete(self, key: LinkKey) -> None:
        """End a link's watch in all instances, with its position."""
        if key in self._watches:
            self._switch(key, None)

    def suspend(self, key: LinkKey) -> None:
        """Stop a link's watch for now, and keep its position."""
        watch = self._watches.get(key)
        if watch is not None:
            self._tasks.start(self._finish(self._turn(key), watch), "suspend a watch")

    def statistics(self, key: LinkKey) -> WatchStatistics | None:
        """Return the statistics of a link's watch; None if it has no watch."""
        watch = self._watches.get(key)
        return watch.statistics if watch is not None else None

    def unhealthy(self) -> tuple[LinkKey, str] | None:
        """Return the first link whose watch does not work and the reason; `None`: all work."""
        for key, watch in self._watches.items():
            if watch.unhealthy is not None:
                return key, watch.unhealthy
        return None

    async def close(self) -> None:
        """Stop all watches. Other instances continue them, and so does this provider when it starts again."""
        watches, self._watches = list(self._watches.values()), {}
        await asyncio.gather(*(watch.stop() for watch in watches))

    def _switch(self, key: LinkKey, after: Watch | None) -> None:
        before = self._watches.pop(key, None)
        if after is not None:
            self._watches[key] = after
        self._tasks.start(self._replace(self._turn(key), key, before, after), "switch a watch")

    def _turn(self, key: LinkKey) -> asyncio.Lock:
        """Return the lock of a link. It is given in the order in which it was requested."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def _finish(self, turn: asyncio.Lock, watch: Watch) -> None:
        async with turn:
            await watch.finish()

    async def _replace(self, turn: asyncio.Lock, key: LinkKey, before: Watch | None, after: Watch | None) -> None:
        async with turn:
            if before is not None:
                # The actor must not be called by both: its present call ends first.
                await before.finish()
                if after is not None and after.consumer_identity == before.consumer_identity:
                    after.resume_from(before)
                else:
                    # Another bucket, or no watch any more: the consumer would only collect changes.
                    await before.delete_consumer()
                before.release()
            # The link may have changed again while this waited for its turn; then the later watch starts.
            if after is not None and self._watches.get(key) is after:
                after.start()

    def _name(self, key: LinkKey) -> str:
        """Return the name of a link's consumer: the same in every instance, and unique to the link."""
        identity = "\n".join((self._lattice, *key))
        # 96 bits: enough that no two links share them.
        return f"kvwatch_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"


class ActorDelivery:
    """The delivery of changes to actors, by a signed operation.

    Args:
        actors: Caller of the actors.
        tasks: Owner of the background tasks.
    """

    def __init__(self, actors: ActorCaller, tasks: TaskOwner) -> None:
        self._actors = actors
        self._tasks = tasks

    @contextlib.asynccontextmanager
    async def __call__(self, key: LinkKey, change: KeyChange) -> AsyncIterator[Send]:
        """Prepare a call of a link's actor. Remove a stored payload that no actor has read."""
        call = self._actors.prepare(key, HANDLE_CHANGE, encode_change(handle_change(change)))
        try:
            yield call.send
        finally:
            if call.is_stored:
                self._tasks.start(call.discard(), "remove a payload that no actor has read")


def handle_change(change: KeyChange) -> HandleChange:
    """Return a change as actors receive it. They are shown no binary value, only its kind."""
    if change.kind is None:
        return HandleChange(change.key, "", "", change.revision, "expire" if change.is_expiry else "delete")
    payload = change.payload
    text: Any = (
        payload if isinstance(payload, LongText) else bytes(payload).decode() if change.kind is not Kind.BINARY else ""
    )
    return HandleChange(change.key, change.kind.value, text, change.revision, "put")


class ComponentDelivery:
    """The delivery of changes to components of 1.x hosts, by the functions of the watcher interface.

    Args:
        components: Caller of the components.
    """

    def __init__(self, components: ComponentCaller) -> None:
        self._components = components

    @contextlib.asynccontextmanager
    async def __call__(self, key: LinkKey, change: KeyChange) -> AsyncIterator[Send]:
        """Prepare a call of a link's component."""
        yield functools.partial(self._components.call, key[0], watcher_call(change))


def watcher_call(change: KeyChange) -> wrpc.WrpcCall:
    """Return a change as a call of the watcher interface."""
    if change.kind is None:
        return wrpc.OnDelete(_BUCKET, change.key)
    return wrpc.OnSet(_BUCKET, change.key, change.payload)
