"""The watches in force: links whose actors are told of changes. Joins the bucket that is watched with the actor called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

from contracts.extensions import HANDLE_CHANGE, HandleChange
from contracts.host import HostData
from contracts.operations import encode_request
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.pool import StorePool
from provider.keyvalue.watch.watch import Watch
from provider.lattice.actor_calls import ActorCaller
from provider.lattice.protocol import LinkKey
from provider.tasks import TaskOwner


class Watches:
    """What each link's actor is told of.

    Args:
        host_data: Whose lattice they belong to.
        pool: Where the buckets come from.
        actors: Calls the actors.
        tasks: Owns what is done in the background.
    """

    def __init__(self, host_data: HostData, pool: StorePool, actors: ActorCaller, tasks: TaskOwner) -> None:
        self._lattice = re.sub(r"[^A-Za-z0-9_-]", "_", host_data.lattice_rpc_prefix)
        self._pool = pool
        self._actors = actors
        self._tasks = tasks
        self._watches: dict[LinkKey, Watch] = {}
        self._turns: weakref.WeakValueDictionary[LinkKey, asyncio.Lock] = weakref.WeakValueDictionary()
        """What happens to one link's watch happens one after the other."""

    def put(self, key: LinkKey, wanted: LinkConfig) -> None:
        """Follow a link's settings: watch, watch something else, or no more."""
        if wanted.watch.patterns:
            self._switch(
                key, self._pool.watch(wanted, self._name(key), self._lattice, functools.partial(self._call, key))
            )
        else:
            self.delete(key)

    def delete(self, key: LinkKey) -> None:
        """Watch no more, in no instance: the place is forgotten."""
        if key in self._watches:
            self._switch(key, None)

    def suspend(self, key: LinkKey) -> None:
        """Tell nothing for now, without forgetting the place."""
        watch = self._watches.get(key)
        if watch is not None:
            self._tasks.start(self._finish(self._turn(key), watch), "suspend a watch")

    def unhealthy(self) -> tuple[LinkKey, str] | None:
        """Return the first link whose watch does not work, and why; `None`: all do."""
        for key, watch in self._watches.items():
            if watch.unhealthy is not None:
                return key, watch.unhealthy
        return None

    async def close(self) -> None:
        """Stop; other instances go on, and so does this provider when it is started again."""
        watches, self._watches = list(self._watches.values()), {}
        await asyncio.gather(*(watch.stop() for watch in watches))

    def _switch(self, key: LinkKey, after: Watch | None) -> None:
        before = self._watches.pop(key, None)
        if after is not None:
            self._watches[key] = after
        self._tasks.start(self._replace(self._turn(key), key, before, after), "switch a watch")

    def _turn(self, key: LinkKey) -> asyncio.Lock:
        """Return the lock of a link; whoever waits for it has it in the order of asking."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def _finish(self, turn: asyncio.Lock, watch: Watch) -> None:
        async with turn:
            await watch.finish()

    async def _replace(self, turn: asyncio.Lock, key: LinkKey, before: Watch | None, after: Watch | None) -> None:
        async with turn:
            if before is not None:
                await before.finish()
                if after is not None and after.consumer_identity == before.consumer_identity:
                    after.resume_from(before)
                else:
                    await before.delete_consumer()
                before.release()
            if after is not None and self._watches.get(key) is after:
                after.start()

    def _name(self, key: LinkKey) -> str:
        """Name the consumer of a link, the same in every instance."""
        identity = "\n".join((self._lattice, *key))
        return f"kvwatch_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"

    @contextlib.asynccontextmanager
    async def _call(self, key: LinkKey, change: HandleChange) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Prepare a call of a link's actor, and see to it that nothing is left of it; see `watch.Deliver`."""
        call = self._actors.prepare(key, HANDLE_CHANGE, encode_request(change))
        try:
            yield call.send
        finally:
            if call.is_stored:
                self._tasks.start(call.take_back(), "remove a payload that no actor has read")
