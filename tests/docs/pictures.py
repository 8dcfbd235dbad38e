"""The pictures of the documentation, as SVG: `python -m tests.docs.pictures` writes them to docs/img.

Each picture has an opaque light ground, so that it is readable on a light page and on a dark one. Text stays text.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[2] / "docs" / "img"

_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_TITLE_PX, _LINE_PX = 14, 12
_LINE_STEP = 17
"""Pixels from one line of text to the next: 1.4 times the size of the letters."""

_MIN_PX = 38
"""Height of a box with a title alone."""

_WIDEST_LETTER = 0.58
"""Average width of a letter as a share of its height, in the widest of the fonts above: text that fits, fits in all."""

_INK, _MUTED, _GROUND, _EDGE = "#24292f", "#57606a", "#fbfbf9", "#d0d5db"
_FILLS = {
    "plain": ("#f1f2f4", "#b4bbc4"),
    "host": ("#e7eef8", "#8ea9cc"),
    "ours": ("#e6f2ea", "#84b496"),
    "nats": ("#f8f1e1", "#cbb27a"),
}
"""Kind of a box -> colour of its ground and of its edge. `ours` is this project's code."""


_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    f'orient="auto-start-reverse"><path d="M0,0.5 L7,4 L0,7.5 z" fill="{_MUTED}"/></marker></defs>'
)
"""The tip of an arrow."""


class Box(NamedTuple):
    """A rectangle, in pixels from the top left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def middle(self) -> int:
        return self.x + self.width // 2


class Picture:
    """An SVG picture that is drawn from back to front.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        title: Text for readers that do not see the picture.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="{_FONT}" role="img">'
        )
        ground = f'width="{width - 1}" height="{height - 1}" rx="10" fill="{_GROUND}" stroke="{_EDGE}"'
        self._parts = [f"<title>{escape(title)}</title>", _TIP, f'<rect x="0.5" y="0.5" {ground}/>']

    def box(self, box: Box, kind: str, title: str, *lines: str) -> Box:
        """Draw a box with a title and lines below it.

        Raises:
            ValueError: A text is wider or higher than the box.
        """
        fill, edge = _FILLS[kind]
        self._parts.append(
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" '
            f'fill="{fill}" stroke="{edge}"/>'
        )
        _check_fit(title, _TITLE_PX, box.width)
        if _MIN_PX + len(lines) * _LINE_STEP > box.height:
            raise ValueError(f"{title!r}: {len(lines)} lines are higher than the box")
        self._text(box.x + 14, box.y + 23, title, _TITLE_PX, is_bold=True)
        for number, line in enumerate(lines):
            _check_fit(line, _LINE_PX, box.width)
            self._text(box.x + 14, box.y + 42 + number * _LINE_STEP, line, _LINE_PX)
        return box

    def note(self, x: int, y: int, *lines: str, is_end: bool = False) -> None:
        """Write lines of text, the first one at the given height; `is_end`: they end at `x`."""
        for number, line in enumerate(lines):
            self._text(x, y + number * _LINE_STEP, line, _LINE_PX, is_end=is_end)

    def arrow(self, *points: tuple[int, int], is_dashed: bool = False, is_double: bool = False) -> None:
        """Draw a line through the points, with a tip at its end, or at both."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
        start = ' marker-start="url(#tip)"' if is_double else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{_MUTED}" stroke-width="1.4"{dashes}{start} '
            'marker-end="url(#tip)"/>'
        )

    def svg(self) -> str:
        return "\n".join([self._head, *self._parts, "</svg>", ""])

    def _text(self, x: int, y: int, text: str, size: int, *, is_bold: bool = False, is_end: bool = False) -> None:
        look = f' font-weight="600" fill="{_INK}"' if is_bold else f' fill="{_MUTED}"'
        anchor = ' text-anchor="end"' if is_end else ""
        self._parts.append(f'<text x="{x}" y="{y}" font-size="{size}"{look}{anchor}>{escape(text)}</text>')


def _check_fit(text: str, size: int, width: int) -> None:
    needed = len(text) * size * _WIDEST_LETTER + 20
    if needed > width:
        raise ValueError(f"{text!r} needs {needed:.0f} pixels, the box has {width}")


def parts() -> Picture:
    """Draw how host, actor, provider and NATS talk to each other."""
    picture = Picture(960, 506, "How a host, an actor, the provider and NATS talk to each other")
    operator = picture.box(Box(40, 30, 220, 60), "plain", "Operator", "wash link put ...")
    host = picture.box(Box(330, 30, 300, 132), "host", "Host", "runs actors, starts providers")
    picture.box(Box(350, 88, 260, 60), "plain", "Actor (WebAssembly)", "calls KeyValue.Increment")
    bus = picture.box(Box(40, 244, 820, 88), "nats", "NATS server", "carries every message of the lattice")
    bucket = picture.box(Box(640, 258, 200, 60), "nats", "Bucket", "JetStream, durable")
    other = picture.box(Box(40, 416, 240, 60), "ours", "Provider, instance 2", "started by another host")
    checks = "checks signature, issuer and link,", "then carries out the call"
    provider = picture.box(Box(470, 408, 390, 76), "ours", "Provider, instance 1", *checks)

    picture.arrow((operator.middle, operator.bottom), (operator.middle, bus.y))
    picture.note(operator.middle + 12, 160, "link: actor, provider,", "link name, settings")
    picture.arrow((host.middle, host.bottom), (host.middle, bus.y), is_double=True)
    picture.note(host.middle + 12, 199, "1. call, signed by the host", "4. answer")
    picture.arrow((520, bus.bottom), (520, provider.y), is_double=True)
    picture.note(508, 366, "2. call, to one of", "the instances", is_end=True)
    picture.arrow((bucket.middle, provider.y), (bucket.middle, bucket.bottom), is_double=True)
    picture.note(bucket.middle - 12, 366, "3. read, or write if", "nothing has changed", is_end=True)
    picture.arrow((other.middle, bus.bottom), (other.middle, other.y), is_double=True)
    picture.arrow((other.right, 446), (provider.x, 446), is_dashed=True, is_double=True)
    picture.note(304, 436, "with a cache instead:")
    picture.note(304, 465, "changes, over NATS")
    picture.arrow((host.right, 74), (905, 74), (905, 446), (provider.right, 446), is_dashed=True)
    picture.note(650, 47, "starts the process, with", "host data on standard input")
    return picture


def layers() -> Picture:
    """Draw the folders of the code, each one above those that it imports."""
    picture = Picture(960, 676, "The folders of the code; imports point downwards")
    typed = "what a person types: dev, call, demo, kv, par"
    picture.box(Box(96, 30, 480, 60), "ours", "provider/commands", typed)
    picture.box(Box(592, 30, 328, 60), "ours", "provider/state_proxy", "files in a bucket, for a sidecar")
    joint = "join both sides: one verified call, one store, one answer"
    picture.box(Box(96, 106, 824, 60), "ours", "provider: host_mode, serve, calls, links, watches", joint)
    rules = "protocol, claims, seen_ids:", "the rules, as pure functions", ""
    work = "subscriptions, chunks, statistics:", "the same over NATS", "", "signing, actor_calls:", "calls to actors"
    picture.box(Box(96, 182, 280, 262), "ours", "provider/lattice", "faces the host", "", *rules, *work)
    picture.box(Box(392, 182, 528, 262), "ours", "provider/keyvalue", "keeps data")
    picture.box(Box(656, 194, 250, 40), "plain", "pool: links share stores")
    picture.box(Box(406, 242, 242, 58), "plain", "watch", "tells actors of changes")
    picture.box(Box(406, 308, 242, 58), "plain", "bucket", "JetStream: engine, lease, scan")
    memory = "memory: replica, replication,", "transfer, peers"
    picture.box(Box(656, 242, 250, 124), "plain", "cache", *memory)
    picture.box(Box(406, 374, 500, 58), "plain", "store, values, keys, conditional, batch", "what both backends share")
    nats = "alone imports nats-py: connection, requests, JetStream, consumers"
    picture.box(Box(96, 460, 824, 60), "ours", "provider/nats", nats)
    picture.box(Box(96, 536, 824, 40), "ours", "provider/errors: every error, by what survives it")
    picture.box(Box(96, 592, 824, 60), "ours", "contracts", "bytes and types that travel; imports nothing of ours")
    picture.arrow((60, 36), (60, 646))
    picture.note(50, 24, "imports")
    return picture


def call() -> Picture:
    """Draw the way of one call through the modules, and of its answer back."""
    picture = Picture(960, 704, "The way of one call through the modules of the provider")
    bus = picture.box(
        Box(40, 30, 880, 60),
        "nats",
        "NATS",
        "gives the call to one of the provider's instances; carries the answer back",
    )
    turn = "calls of one turn of the event loop go on together"
    arrival = picture.box(Box(40, 122, 520, 60), "ours", "nats/wire, lattice/subscriptions", turn)
    checks = "signature, payload hash, issuer, target, link, age, id used once"
    judge = picture.box(Box(40, 214, 520, 60), "ours", "lattice/protocol, claims, seen_ids", checks)
    serve = picture.box(
        Box(40, 306, 520, 60), "ours", "serve, calls", "limits, deadline, decoding; the link tells the store"
    )
    back = picture.box(Box(640, 214, 280, 60), "ours", "calls, lattice", "encode, count; one write a turn")
    store = picture.box(
        Box(40, 398, 880, 60),
        "ours",
        "keyvalue/store: submit(request, call)",
        "one interface for both backends; each call is answered exactly once, now or later",
    )
    reads = (
        "a read: one direct get",
        "a change: waits for the write of its key that is",
        "under way; all that wait become the next one",
    )
    bucket = picture.box(Box(40, 490, 424, 94), "ours", "keyvalue/bucket", *reads)
    memory = (
        "answers from memory, at once;",
        "the change leaves for the other replicas, signed,",
        "right after the answer",
    )
    cache = picture.box(Box(496, 490, 424, 94), "ours", "keyvalue/cache", *memory)
    stream = picture.box(Box(40, 616, 424, 60), "nats", "JetStream", "stores a write only if its revision is the last")
    others = picture.box(Box(496, 616, 424, 60), "nats", "NATS", "the other replicas of the cache")

    down = 120
    for above, below in ((bus, arrival), (arrival, judge), (judge, serve), (serve, store), (store, bucket)):
        picture.arrow((down, above.bottom), (down, below.y))
    picture.arrow((cache.middle, store.bottom), (cache.middle, cache.y))
    picture.arrow((bucket.middle, bucket.bottom), (bucket.middle, stream.y), is_double=True)
    picture.arrow((cache.middle, cache.bottom), (cache.middle, others.y))
    picture.arrow((back.middle, store.y), (back.middle, back.bottom))
    picture.arrow((back.middle, back.y), (back.middle, bus.bottom))
    picture.arrow((judge.right, 244), (back.x, 244), is_dashed=True)
    picture.note(568, 236, "refused")
    picture.arrow((serve.right, 336), (600, 336), (600, 260), (back.x, 260), is_dashed=True)
    picture.note(610, 340, "over a limit")
    picture.note(back.middle + 12, 156, "answer, or an error", "that names its reason")
    return picture


def delta() -> Picture:
    """Draw the way of a change from one replica of a cache to another, and the way of a lost one."""
    picture = Picture(960, 630, "The way of a delta from one replica of a cache to another")
    width = 400
    here, there = 40, 520
    picture.note(here, 36, "Replica A, in the instance that the actor called")
    picture.note(there, 36, "Replica B, in every other instance")
    operation = "turns the operation into an event; its dot is", "replica A, event 42"
    event = picture.box(Box(here, 50, width, 76), "ours", "1. cache/operations", *operation)
    commit = "applies the event to the state, adds its dot to the", "context; the actor has its answer now"
    committed = picture.box(Box(here, 150, width, 76), "ours", "2. cache/replica, state", *commit)
    turn = "all events of a turn of the event loop become one", "message, signed and sent right after the answer"
    sent = picture.box(Box(here, 250, width, 76), "ours", "3. cache/replication, channel", *turn)
    checks = "refuses what no member has signed, what it has", "had before, and clocks a minute ahead"
    received = picture.box(Box(there, 250, width, 76), "ours", "4. cache/channel, replication", *checks)
    apply = "ignores a dot that the context has; else removes", "what the author had seen, and adds the rest"
    applied = picture.box(Box(there, 150, width, 76), "ours", "5. cache/replica, state", *apply)
    picture.note(there, 78, "B answers its own actors from the same state as A.", "It passes no delta on.")
    for above, below in ((event, committed), (committed, sent)):
        picture.arrow((above.middle, above.bottom), (above.middle, below.y))
    picture.arrow((sent.right, 288), (received.x, 288))
    picture.arrow((received.middle, received.y), (received.middle, applied.bottom))

    picture.note(here, 378, "When a message is lost, or B was cut off or has just started:")
    beat = "a heartbeat tells A's context"
    beats = picture.box(Box(here, 394, width, 60), "ours", "cache/replication", beat)
    lacks = "B lacks dot 42, and asks A for it"
    asks = picture.box(Box(there, 394, width, 60), "ours", "cache/peers, anti_entropy", lacks)
    pages = "sends the keys that hold what B lacks, page by page"
    sends = picture.box(Box(here, 522, width, 76), "ours", "cache/transfer, journal", pages)
    merge = "merges each key as it comes; adds the dots to the", "context when all keys are there"
    merges = picture.box(Box(there, 522, width, 76), "ours", "cache/transfer, merge, coverage", *merge)
    picture.arrow((beats.right, 424), (asks.x, 424))
    picture.arrow((asks.middle, asks.bottom), (asks.middle, 488), (sends.middle, 488), (sends.middle, sends.y))
    picture.arrow((sends.right, 560), (merges.x, 560))
    return picture


PICTURES = {"parts": parts, "layers": layers, "call": call, "delta": delta}
"""File name without its ending -> function that draws it."""


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
