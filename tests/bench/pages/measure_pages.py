"""All measurements of large values."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from statistics import median

import msgspec
from nats.aio.client import Client

from contracts import keyvalue
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import CommandError
from provider.keyvalue.bucket.pages.pages_settings import pages_bucket
from provider.nats.buckets import stream_name
from tests.bench.bucket_size import MEBIBYTE
from tests.bench.children import ask_once
from tests.bench.jobs import Progress, make_job, run_job
from tests.bench.pages.pages_report import PagesReport, Room, Texts, Transfer
from tests.bench.pages.redis_yardstick import has_redis, measure_redis
from tests.bench.rows import Row, median_row
from tests.bench.workloads import LARGE_SET_KEY, WorkloadName
from tests.blackbox.proc import resident_bytes

_TEXT_BYTES = 32 * MEBIBYTE
_ROUNDS = 3
_CALL_SECONDS = 60.0
"""Time that a large call may take: on a slow machine far longer than its host would wait."""

_WATCH_SECONDS = 0.25
"""Time between two looks at the stream of pages and at the memory of the provider."""


@dataclass(frozen=True)
class PagesScale:
    """The scale of the measurements.

    Attributes:
        elements: Elements of the large set and of the large list.
        operations: Changes of a row at 64 in flight, over all rounds. There is a tenth of them at 1.
        churn_seconds: Time for which members are added at full speed while the stream of pages is watched.
    """

    elements: int = 1_000_000
    operations: int = 20_000
    churn_seconds: float = 120.0


async def measure_pages(lattice: DevLattice, scale: PagesScale, progress: Progress) -> PagesReport:
    """Measure on a lattice with one provider, which has the large values at the end.

    Raises:
        DevError: A call or a measuring process fails.
    """
    bucket = lattice.settings.bucket
    progress("large values: filling", 0, 1)
    await lattice.actor.call(keyvalue.Contains("bench"))  # opens the bucket
    await ask_once("pages.large_values", "fill", lattice.nats_url, bucket, str(scale.elements))
    progress("large values: filling", 1, 1)
    async with _watched(lattice) as most:
        rows = await _rows(lattice, scale, progress)
        added, seconds = await _churn(lattice, scale, progress)
        late_reads = await _read_all(lattice, scale, progress)
    live = await ask_once("pages.large_values", "live", lattice.nats_url, bucket)
    room = Room(
        churn_seconds=seconds,
        added=added,
        most_pages=most.pages,
        live_pages=live["pages"],
        most_megabytes=most.resident / MEBIBYTE,
        late_reads=late_reads,
    )
    texts = await _texts(lattice, progress)
    redis = []
    if has_redis():
        progress("large values: Redis", 0, 1)
        redis = await measure_redis(scale.elements, scale.operations, _TEXT_BYTES)
        progress("large values: Redis", 1, 1)
    return PagesReport(elements=scale.elements, rows=rows, texts=texts, room=room, redis=redis)


async def _rows(lattice: DevLattice, scale: PagesScale, progress: Progress) -> list[Row]:
    few = max(scale.operations // 10, 300)
    plan = [
        (WorkloadName.SMALL_SETS, 64, scale.operations, ""),
        (WorkloadName.LARGE_SET, 64, scale.operations, ""),
        (WorkloadName.SMALL_SETS, 1, few, ""),
        (WorkloadName.LARGE_SET, 1, few, ""),
        (WorkloadName.SMALL_LISTS, 64, scale.operations, ""),
        (WorkloadName.LARGE_LIST, 64, scale.operations, ""),
        (WorkloadName.RANGE, 1, few, str(scale.elements)),
        (WorkloadName.RANGE_TEXT, 1, few, ""),
    ]
    # The speed of a machine drifts, so the rows take turns.
    rounds: list[list[Row]] = [[] for _ in plan]
    for _ in range(_ROUNDS):
        for row, (workload, in_flight, count, tag) in zip(rounds, plan, strict=True):
            job = make_job(lattice, lattice.identity, workload, count // _ROUNDS, in_flight, tag)
            row.append(await run_job(job, lattice.provider_pids, progress))
    return [median_row(row, by=lambda round_: round_.measured.p50_us) for row in rounds]


async def _churn(lattice: DevLattice, scale: PagesScale, progress: Progress) -> tuple[int, float]:
    """Add members at full speed; return how many, and the seconds."""
    started, added = time.perf_counter(), 0
    while time.perf_counter() - started < scale.churn_seconds:
        job = make_job(lattice, lattice.identity, WorkloadName.LARGE_SET, scale.operations, 64)
        await run_job(job, lattice.provider_pids, progress)
        added += scale.operations
    return added, time.perf_counter() - started


async def _read_all(lattice: DevLattice, scale: PagesScale, progress: Progress) -> int:
    """Read the whole set, some times one after the other; return how many reads were not done in time."""
    late = 0
    actor = Actor(lattice.connection, lattice.identity, timeout_seconds=_CALL_SECONDS)
    for number in range(_ROUNDS):
        progress("large values: reading all", number, _ROUNDS)
        try:
            members = await actor.call(keyvalue.SetQuery(LARGE_SET_KEY))
            assert len(members) >= scale.elements
            del members
        except CommandError:
            late += 1
    progress("large values: reading all", _ROUNDS, _ROUNDS)
    return late


async def _texts(lattice: DevLattice, progress: Progress) -> Texts:
    names = (lattice.nats_url, lattice.settings.bucket, str(_TEXT_BYTES))
    progress("large values: texts", 0, 2)
    found = await ask_once("pages.large_values", "texts", *names)
    progress("large values: texts", 1, 2)
    actor = Actor(lattice.connection, lattice.identity, timeout_seconds=_CALL_SECONDS)
    text, puts, gets = "x" * _TEXT_BYTES, [], []
    for _ in range(_ROUNDS):
        puts.append(await _seconds(lambda: actor.call(keyvalue.Set("bench.called.text", text, 0))))
        gets.append(await _seconds(lambda: actor.call(keyvalue.Get("bench.called.text"))))
    await actor.call(keyvalue.Del("bench.called.text"))
    progress("large values: texts", 2, 2)
    stored, objects = (msgspec.convert(found[kind], Transfer) for kind in ("stored", "objects"))
    called = Transfer(put_seconds=median(puts), get_seconds=median(gets))
    return Texts(size=_TEXT_BYTES, stored=stored, objects=objects, called=called)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


class _Most:
    """The most pages in the stream, and the most memory of the provider in bytes, that were seen."""

    pages = 0
    resident = 0


@contextlib.asynccontextmanager
async def _watched(lattice: DevLattice) -> AsyncIterator[_Most]:
    """Watch the stream of pages and the memory of the provider."""
    most = _Most()
    stream = stream_name(pages_bucket(lattice.settings.bucket))

    async def watch() -> None:
        while True:
            most.pages = max(most.pages, await _messages(lattice.connection, stream))
            most.resident = max(most.resident, resident_bytes(lattice.provider_pids[0]))
            await asyncio.sleep(_WATCH_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _messages(connection: Client, stream: str) -> int:
    answer = await connection.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=5)
    messages: int = msgspec.json.decode(answer.data)["state"]["messages"]
    return messages
