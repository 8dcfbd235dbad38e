"""The lattice that partition tests stand on: what is cut is cut, what is frozen arrives late, what is healed is whole."""

from __future__ import annotations

from pathlib import Path

from tests.blackbox.leaf_lattice import LeafLattice


async def test_a_cut_leaf_hears_nobody_and_the_others_hear_each_other(tmp_path: Path) -> None:
    async with LeafLattice(tmp_path, 3) as lattice:
        lattice.cut(1)
        assert not await lattice.is_connected(0, 1)
        assert not await lattice.is_connected(1, 2)
        assert await lattice.is_connected(0, 2)
        await lattice.heal()
        assert await lattice.is_connected(2, 1)


async def test_a_frozen_leaf_hears_late_and_one_frozen_and_cut_never_hears_it(tmp_path: Path) -> None:
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


async def test_a_killed_server_is_joined_again_when_it_is_back(tmp_path: Path) -> None:
    async with LeafLattice(tmp_path, 3) as lattice:
        for server in lattice.servers:
            server.restart(is_killed=True)
            await lattice.joined()
