"""A replica pulls from others of which most lie: those that deliver are soon found. Time is simulated."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.cache.anti_entropy import AntiEntropy
from provider.keyvalue.cache.messages import (
    CellState,
    ContextState,
    Heartbeat,
    Piece,
    PieceRequest,
    TextState,
    TransferPage,
    TransferRequest,
    pack,
)
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.pieces.cutting import MAX_PIECES, MAX_TEXT_BYTES
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Sender
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError
from provider.keyvalue.link_config import CacheConfig
from provider.keyvalue.link_values import ReplicationAuth
from tests.unit.keyvalue.cache.exchange import admission_of, change, replica_of, state

FAR = 2**40
KEYS = 300
WIDE_BYTES = 1024 * 1024
"""Size of a page with a large context."""
CONFIG = CacheConfig("s", "r", ReplicationAuth.ON, 1, 0, 0, 0, 0, 1000)
WAYS = ["silent", "gone", "garbage", "endless", "empty", "boasting", "late", "claiming", "wide", "dripping"]


class SimulatedTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next moment at which something is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_NeverWaiting(self))

    def time(self) -> float:
        return self.now


class _NeverWaiting(selectors.SelectSelector):
    def __init__(self, loop: SimulatedTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if timeout and not found:
            self._loop.now += timeout
        return found


def simulate(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=SimulatedTime) as runner:
        runner.run(work)


class Liars:
    """The channel to one replica that delivers and to many that do not."""

    def __init__(self, good: Replica, ways: dict[str, str]) -> None:
        self.config = CONFIG
        self.requests = self.refused = 0
        self._good = good
        self._sender = Sender(good)
        self._ways = ways

    async def request_page(
        self,
        peer: str,
        request: TransferRequest | PieceRequest,
        timeout_seconds: float,
        has_room: Callable[[int], bool],
        *,
        is_signed: bool,
    ) -> TransferPage | Piece:
        self.requests += 1
        way, number = self._ways.get(peer), request.page
        if way is None:
            await asyncio.sleep(0.002)
            assert isinstance(request, TransferRequest)
            return self._sender.answer("asker-000001", request, self.requests * 0.0)
        if way in ("silent", "gone"):
            await asyncio.sleep(timeout_seconds if way == "silent" else 0.2)
            raise errors.RequestTimeoutError if way == "silent" else errors.NoRespondersError
        await asyncio.sleep({"late": 0.9, "claiming": 0.1}.get(way, 0.002))
        if way == "dripping":
            return _drop_of(request)
        if way == "garbage":
            raise ForeignMessageError("nonsense")
        if way == "wide" and not has_room(WIDE_BYTES):
            self.refused += 1
            await asyncio.sleep(timeout_seconds)
            raise errors.RequestTimeoutError
        if way in ("claiming", "wide"):
            return TransferPage("t", number, True, False, ContextState({peer: FAR}, {}), {}, [])
        if way in ("empty", "boasting"):
            vector = {peer: 1, self._good.id: FAR} if way == "boasting" else {}
            return TransferPage("t", number, True, False, ContextState(vector, {}), {}, [])
        context = ContextState({peer: FAR}, {}) if number == 0 else None
        names = (
            [f"{peer} {number}"] if way == "endless" else [f"{peer} {number} {key} {'x' * 3000}" for key in range(100)]
        )
        cells = [CellState(name, {peer: number + 1}, [], [], [], None, None) for name in names]
        return TransferPage("t", number, False, False, context, {}, cells)

    def refuse(self, error: ForeignMessageError) -> None:
        pass


def _drop_of(request: TransferRequest | PieceRequest) -> Piece:
    """Return a byte of the largest text that a page may have."""
    if isinstance(request, PieceRequest):
        return Piece(0, request.number, MAX_PIECES, MAX_TEXT_BYTES, b"", b"x")
    text = TextState("liar-0000000", 1, 1, "", 0)
    cell = CellState("k", {"liar-0000000": 1}, [], [text], [], None, None)
    page = TransferPage("t", 0, True, False, ContextState({}, {}), {}, [cell])
    return Piece(0, 0, MAX_PIECES, MAX_TEXT_BYTES, pack(page), b"")


class Asker:
    """A replica that hears all of them."""

    def __init__(self, ways: dict[str, str]) -> None:
        self.good, self.replica = replica_of(1), replica_of(2)
        for number in range(KEYS):
            change(self.good, kv.Set(f"k{number}", "v", 0))
        self.channel = Liars(self.good, ways)
        self.peers = Peers(self.replica.id, 1000.0)
        self.has_it = asyncio.Event()
        channel: Any = self.channel
        self.pulls = AntiEntropy(
            self.replica, admission_of(self.replica), self.peers, channel, self._on_pulled, self._ask
        )
        self._ways = ways

    def hear_all(self) -> None:
        names = [*self._ways, self.good.id]
        random.shuffle(names)
        for name in names:
            count = self.good.count if name == self.good.id else FAR
            beat = Heartbeat({self.replica.id: 0, name: count}, 0, False, False)
            self.peers.receive(name, beat, asyncio.get_running_loop().time())
            self.pulls.schedule_if_behind(name)

    def _ask(self) -> None:
        """The good replica is the only one that answers."""
        beat = Heartbeat({self.replica.id: 0, self.good.id: self.good.count}, 0, False, False)
        self.peers.receive(self.good.id, beat, asyncio.get_running_loop().time())

    def _on_pulled(self, peer: str, is_whole: bool, has_values: bool) -> None:
        if self.replica.context.vector.get(self.good.id, 0) >= self.good.count:
            self.has_it.set()


def heartbeats(ways: dict[str, str], seconds: float) -> None:
    """Let the replicas announce their events each second, until all of the good one's is here."""

    async def run() -> None:
        asker = Asker(ways)
        pulling = asyncio.create_task(asker.pulls.run())
        async with asyncio.timeout(seconds):
            while not asker.has_it.is_set():
                asker.hear_all()
                await asyncio.wait([asyncio.ensure_future(asker.has_it.wait())], timeout=1.0)
        assert state(asker.replica) == state(asker.good)
        pulling.cancel()
        await asyncio.wait([pulling])

    simulate(run())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WAYS), max_size=80))
def test_whatever_the_others_do_what_one_replica_delivers_arrives_soon(ways: list[str]) -> None:
    heartbeats({f"liar-{number:07}": way for number, way in enumerate(ways)}, 20)


def test_hundreds_that_keep_silent_hold_up_nothing() -> None:
    heartbeats({f"liar-{number:07}": "silent" for number in range(900)}, 4)


def test_hundreds_that_deliver_events_without_values_hold_up_nothing() -> None:
    heartbeats({f"liar-{number:07}": "claiming" for number in range(900)}, 4)


def test_large_pages_that_arrive_at_once_are_kept_up_to_a_size() -> None:
    async def run() -> None:
        asker = Asker({f"liar-{number:07}": "wide" for number in range(300)})
        pulling = asyncio.create_task(asker.pulls.run())
        asker.hear_all()
        await asyncio.sleep(20)
        assert asker.has_it.is_set()
        assert asker.channel.refused
        pulling.cancel()
        await asyncio.wait([pulling])

    simulate(run())


def test_hundreds_that_send_a_page_byte_by_byte_hold_up_nothing() -> None:
    heartbeats({f"liar-{number:07}": "dripping" for number in range(300)}, 20)


def test_replicas_that_never_deliver_are_asked_a_number_of_times_a_second_in_turn() -> None:
    async def run() -> None:
        asker = Asker({f"liar-{number:07}": "empty" for number in range(200)})
        pulling = asyncio.create_task(asker.pulls.run())
        for _ in range(60):
            asker.hear_all()
            await asyncio.sleep(0.5)
        assert asker.channel.requests < 200 + KEYS + 30 * 31
        assert asker.pulls.undelivered(3) == 200
        pulling.cancel()
        await asyncio.wait([pulling])

    simulate(run())


def test_deleted_keys_that_never_were_take_bounded_memory_however_many_replicas_name_them() -> None:
    async def run() -> None:
        names = [f"liar-{number:07}" for number in range(20)]
        asker = Asker(dict.fromkeys(names, "naming"))
        asker.hear_all()
        pulling = asyncio.create_task(asker.pulls.run())
        most = 0
        async with asyncio.timeout(60):
            while (
                not asker.has_it.is_set() or most < 8 * 2**20 or any(asker.pulls.is_scheduled(name) for name in names)
            ):
                await asyncio.sleep(0.01)
                most = max(most, sum(coverage.size_bytes for coverage in asker.replica.coverages))
        assert most < 20 * 2**20
        pulling.cancel()
        await asyncio.wait([pulling])

    simulate(run())


def test_only_one_replica_is_asked_for_what_it_soon_delivers() -> None:
    async def run() -> None:
        asker = Asker({})
        for number in range(5):
            beat = Heartbeat({asker.replica.id: 0, asker.good.id: asker.good.count}, 0, False, False)
            asker.peers.receive(f"good-{number:07}", beat, 0.0)
            asker.pulls.schedule(f"good-{number:07}")
        pulling = asyncio.create_task(asker.pulls.run())
        await asyncio.sleep(1.0)
        assert state(asker.replica) == state(asker.good)
        assert asker.channel.requests <= KEYS // 100 + 1
        pulling.cancel()
        await asyncio.wait([pulling])

    simulate(run())
