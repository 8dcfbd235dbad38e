"""Three replicas whose links are cut, frozen and healed at random while callers of every kind go on."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.process.cache.replica_load import ReplicaLoad
from tests.process.cache.replicas import converged, heartbeats_pass
from tests.process.conftest import MakeReplicas

pytestmark = pytest.mark.slow

CHAOS_SECONDS = 12.0
LEAVES = (1, 2)


@pytest.mark.parametrize("seed", [1, 2])
async def test_replicas_agree_with_every_caller_after_random_cuts_freezes_and_heals(
    make_replicas: MakeReplicas, seed: int
) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    source = random.Random(seed)
    over_at = asyncio.get_running_loop().time() + CHAOS_SECONDS
    async with ReplicaLoad(actors, seed) as load:
        while asyncio.get_running_loop().time() < over_at:
            leaf = source.choice(LEAVES)
            match source.choice(("cut", "freeze", "thaw", "mend", "mend")):
                case "cut":
                    replicas.lattice.cut(leaf)
                case "freeze":
                    replicas.lattice.freeze(leaf)
                case "thaw":
                    replicas.lattice.thaw(leaf)
                case "mend":
                    replicas.lattice.mend(leaf)
            await load.progress("whatever is cut", source.randrange(5, 120))
    await replicas.lattice.heal()
    load.ledger.check(await converged(actors, load.ledger.keys))
    await heartbeats_pass(1)  # what expires has expired then
    found = await converged(actors, load.ledger.keys)
    load.ledger.check(found)
    await heartbeats_pass(1)
    assert await converged(actors, load.ledger.keys, 0) == found
