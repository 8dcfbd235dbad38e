"""The stores of all links. Links on the same bucket or cache share one store."""

from __future__ import annotations

import asyncio
import functools
from typing import Self

from msgspec import structs

from contracts.statistics import BucketStatistics, CacheStatistics, ConnectionStatistics
from provider import errors
from provider.keyvalue.bucket.store import WHOLE_BUCKET, BucketLink, BucketStore, Upkeep
from provider.keyvalue.cache.store import Cache, CacheLink
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys, keys_of_text
from provider.keyvalue.connections import ConnectionPool
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.link_values import Backend, ReplicationAuth
from provider.keyvalue.store import Store
from provider.keyvalue.watch.watch import Deliver, Watch
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner

_StoreKey = tuple[Backend, ConnectionSettings, str]


class StorePool:
    """All stores of the process and their connections, as an async context manager.

    Args:
        tasks: Owner of the background tasks.
        lattice: The lattice's own connection.
        connection_name: Name of the other connections, shown in the servers' monitoring.
        keys: Keys by which the replicas of caches know each other; None: the host gave none.
        is_keyless: True under a family of hosts that never give one: then a cache without `REPLICATION_KEY` does without
            proof, unless its link demands it.
        upkeep: The memory that the buckets of the process may take.
    """

    def __init__(
        self,
        tasks: TaskOwner,
        lattice: Connection,
        connection_name: str,
        keys: ClusterKeys | None = None,
        *,
        is_keyless: bool = False,
        upkeep: Upkeep = WHOLE_BUCKET,
    ) -> None:
        self._upkeep = upkeep
        self._is_keyless = is_keyless
        self._tasks = tasks
        self._keys = keys
        self._connections = ConnectionPool(lattice, connection_name)
        self._stores: dict[_StoreKey, BucketStore | Cache] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every store. Their calls must have been answered."""
        stores, self._stores = list(self._stores.values()), {}
        await asyncio.gather(*(store.close() for store in stores))

    def statistics(self) -> tuple[list[BucketStatistics], list[CacheStatistics]]:
        """Return the statistics of all buckets and of all caches."""
        stores = self._stores.values()
        return (
            [store.statistics for store in stores if isinstance(store, BucketStore)],
            [store.statistics for store in stores if isinstance(store, Cache)],
        )

    def connection_statistics(self) -> ConnectionStatistics:
        """Return the statistics of the lattice's connection and of those of the stores together."""
        return self._connections.statistics()

    def acquire(self, config: LinkConfig) -> Store:
        """Return a link's view of its store, held for the caller. A new store is opened in the background.

        Raises:
            errors.LinkError: The link is of a cache whose messages are to be signed, and there is no key for it.
        """
        return self._cache(config) if config.backend is Backend.CACHE else self._bucket(config)

    def watch(self, config: LinkConfig, name: str, lattice: str, deliver: Deliver) -> Watch:
        """Return a watch of a link's bucket that has not been started; see `Watch`."""
        return Watch(self._bucket(config), name, lattice, deliver)

    def _bucket(self, config: LinkConfig) -> BucketLink:
        key = (config.backend, config.connection, config.bucket.name)
        store = self._stores.get(key)
        if not isinstance(store, BucketStore):
            on_idle = functools.partial(self._retire, key)
            store = BucketStore(self._connections, config.connection, config.bucket, self._tasks, on_idle, self._upkeep)
            self._stores[key] = store
            store.start()
        store.link(config.bucket)
        return BucketLink(config, store)

    def _cache(self, config: LinkConfig) -> Store:
        keys = keys_of_text(config.cache.key) if config.cache.key else self._keys
        if keys is None and self._is_keyless and "REPLICATION_AUTH" not in config.cache.given:
            config = structs.replace(config, cache=structs.replace(config.cache, auth=ReplicationAuth.OFF))
        if keys is None and config.cache.auth is not ReplicationAuth.OFF:
            raise errors.LinkError(
                "REPLICATION_KEY", "is needed, or REPLICATION_AUTH=off, as the host gave no seed of the cluster"
            )
        subjects = f"{config.cache.state_subject} {config.cache.replay_subject}"
        if keys is not None:  # replicas with other keys do not know each other, also within one process
            subjects += f" {keys.issuer.hex()[:16]}"
        key = (config.backend, config.connection, subjects)
        store = self._stores.get(key)
        if not isinstance(store, Cache):
            on_idle = functools.partial(self._retire, key)
            store = Cache(self._connections, config.connection, config.cache, keys, self._tasks, on_idle)
            store.limit_answers(self._upkeep.max_answer_bytes)
            self._stores[key] = store
            store.start()
        store.link(config.cache)
        return CacheLink(config, store)

    def _retire(self, key: _StoreKey) -> None:
        """Close a store that has no holders, in the background. A later link gets a new one."""
        store = self._stores.pop(key, None)
        if store is not None:
            self._tasks.start(store.close(), f"close {key[0].value} {key[2]}")
