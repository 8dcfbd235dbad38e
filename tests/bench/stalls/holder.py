"""A replica of a cache with a large set and a large list, which other replicas take over.

python -m tests.bench.stalls.holder NATS_URL LATTICE LINK_NAME ELEMENTS     prints {"ready": true}, runs until killed

It signs nothing, as filling it by calls would take minutes.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from provider.keyvalue.cache.messages import AddElement, AddMember, Event
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.store import Cache
from provider.keyvalue.clock import wall_clock_ms
from provider.keyvalue.connections import ConnectionPool
from provider.keyvalue.given_values import canonical_values
from provider.keyvalue.link_config import parse_link
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.bench.load_generator import write_json
from tests.bench.workloads import LARGE_LIST_KEY, LARGE_SET_KEY, element_name, member_name

VALUES = {"BACKEND": "cache", "REPLICATION_AUTH": "off"}
"""Link values of the replicas that share the cache."""

_PATIENCE_SECONDS = 10.0


def _fill(replica: Replica, elements: int) -> None:
    now_ms = wall_clock_ms()
    for number in range(elements):
        for key, add in (
            (LARGE_SET_KEY, AddMember(member_name(number))),
            (LARGE_LIST_KEY, AddElement(element_name(number))),
        ):
            replica.commit(Event(replica.clock.tick(now_ms), key, add, {}, []))
    replica.unsent = []  # the others are to take it over by a transfer


async def hold(nats_url: str, lattice: str, link_name: str, elements: int) -> None:
    """Fill a replica, then let the others know of it."""
    settings = ConnectionSettings(servers=(nats_url,))
    config = parse_link(
        canonical_values(VALUES).known, lattice=lattice, link_name=link_name, lattice_connection=settings
    )
    async with Connection(settings, "keyvalue-nats bench", _PATIENCE_SECONDS) as connection:
        cache = Cache(ConnectionPool(connection, ""), settings, config.cache, None, TaskOwner(), lambda: None)
        _fill(cache.replica, elements)
        cache.start()
        write_json({"ready": True})
        await asyncio.Event().wait()


if __name__ == "__main__":
    nats_url, lattice, link_name, elements = sys.argv[1:]
    uvloop.run(hold(nats_url, lattice, link_name, int(elements)))
