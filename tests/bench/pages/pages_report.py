"""The results of large values, and their score. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.bench.rows import Row, ScoreLine
from tests.bench.workloads import ELEMENT_BYTES, RANGE_ELEMENTS, WorkloadName


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Median seconds of a put and a get of one large text."""

    put_seconds: float
    get_seconds: float


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """A large text.

    Attributes:
        size: Bytes of the text.
        stored: By the provider's engine.
        objects: The same bytes by the object store of nats-py.
        called: By a signed call, with the two ways through the lattice's object store.
    """

    size: int
    stored: Transfer
    objects: Transfer
    called: Transfer


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The room that large values take while they are changed and read.

    Attributes:
        churn_seconds: Time for which members were added at full speed.
        added: Number of these members.
        most_pages: Most pages in the stream during that time, of all values.
        live_pages: Pages that the values reached after it.
        most_megabytes: Most memory of the provider, in MiB.
        late_reads: Reads of all members that were not done within the caller's time, of three.
    """

    churn_seconds: float
    added: int
    most_pages: int
    live_pages: int
    most_megabytes: float
    late_reads: int = 0


class RedisRow(msgspec.Struct, frozen=True, kw_only=True):
    """A command at one number of clients, by redis-benchmark."""

    command: str
    clients: int
    per_second: float
    p50_us: float


class PagesReport(msgspec.Struct, frozen=True, kw_only=True):
    """All results of large values. `redis` is empty where no redis-server is installed."""

    elements: int
    rows: list[Row]
    texts: Texts
    room: Room
    redis: list[RedisRow] = msgspec.field(default_factory=list)

    def row(self, workload: WorkloadName, in_flight: int) -> Row:
        return next(row for row in self.rows if (row.workload, row.in_flight) == (workload, in_flight))


def pages_scorecard(report: PagesReport | None) -> Iterator[ScoreLine]:
    """Yield the score of large values."""
    if report is None:
        return
    of_many = f"{report.elements:,} elements of {ELEMENT_BYTES} bytes"
    large, small = report.row(WorkloadName.LARGE_SET, 64), report.row(WorkloadName.SMALL_SETS, 64)
    yield ScoreLine(f"SetAdd to {of_many}: rate / to 1,000", large.per_second / small.per_second, 0.2, False)
    large, small = report.row(WorkloadName.LARGE_SET, 1), report.row(WorkloadName.SMALL_SETS, 1)
    yield ScoreLine("the same, 1 in flight: p50", large.measured.p50_us / small.measured.p50_us, 3, True)
    large, small = report.row(WorkloadName.LARGE_LIST, 64), report.row(WorkloadName.SMALL_LISTS, 64)
    yield ScoreLine(f"ListAdd to {of_many}: rate / to 1,000", large.per_second / small.per_second, 0.25, False)
    ranges, text = report.row(WorkloadName.RANGE, 1), report.row(WorkloadName.RANGE_TEXT, 1)
    name = f"ListRange of {RANGE_ELEMENTS} of them: p50 / Get of a text of that size"
    yield ScoreLine(name, ranges.measured.p50_us / text.measured.p50_us, 4, True)
    yield from _texts(report.texts)
    room = report.room
    detail = f"{room.most_pages:,} / {room.live_pages:,} pages, {room.added:,} added in {room.churn_seconds:.0f} s"
    yield ScoreLine(
        "pages stored while members are added / pages in use", room.most_pages / room.live_pages, 5, True, detail
    )
    late = f"{room.late_reads} of 3 reads of the whole set were not done in time" if room.late_reads else ""
    yield ScoreLine("large values changed and read: MB resident", room.most_megabytes, 160, True, late)


def _texts(texts: Texts) -> Iterator[ScoreLine]:
    size = f"{texts.size / 2**20:.0f} MiB"
    for name, stored, objects, called in (
        ("Set", texts.stored.put_seconds, texts.objects.put_seconds, texts.called.put_seconds),
        ("Get", texts.stored.get_seconds, texts.objects.get_seconds, texts.called.get_seconds),
    ):
        detail = f"{objects * 1000:.0f} / {stored * 1000:.0f} ms; whole call {called * 1000:.0f} ms"
        yield ScoreLine(
            f"{name} of {size}: object store of nats-py / provider's store", objects / stored, 0.7, False, detail
        )
