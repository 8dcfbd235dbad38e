"""The lattice of the partition tests: cut links carry nothing, frozen links deliver late, healed links deliver."""

from __future__ import annotations

from pathlib import Path

from tests.blackbox.nats.leaf_lattice import LeafLattice


async def test_a_cut_leaf_receives_nothing_and_the_others_reach_each_other(tmp_path: Path) -> None:
    async with LeafLattice(tmp_path, 3) as lattice:
        lattice.cut(1)
        assert not await lattice.is_connected(0, 1)
        assert not await lattice.is_connected(1, 2)
        assert await lattice.is_connected(0, 2)
        await lattice.heal()
        assert await lattice.is_connected(2, 1)


async def test_a_frozen_leaf_receives_late_and_one_that_is_also_cut_never_does(tmp_path: Path) -> None:
    async with LeafLattice(tmp_path, 2) as lattice:
        lattice.freeze()
        assert not await lattice.is_connected(0, 1)
        lattice.thaw()
        await lattice.joined()
        lattice.freeze()
        assert not await lattice.is_connected(1, 0)
        lattice.cut()
        await lattice.heal()
        assert await lattice.is_connected(1, 0)


async def test_a_killed_server_joins_again_after_its_restart(tmp_path: Path) -> None:
    async with LeafLattice(tmp_path, 3) as lattice:
        for server in lattice.servers:
            server.restart(is_killed=True)
            await lattice.joined()
