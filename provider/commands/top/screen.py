"""One picture of the view on a terminal. Knows rich, and nothing of NATS and of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from provider.commands.top.figures import duration, latency, rate, share, size
from provider.commands.top.rates import Activity, InstanceRow, LinkRow, Overview, StoreRow
from provider.plain_text import printable

SORTS: dict[str, Callable[[LinkRow], Any]] = {
    "calls": lambda row: -row.activity.calls,
    "errors": lambda row: -row.activity.errors,
    "latency": lambda row: -(row.activity.p99 or 0.0),
    "lag": lambda row: -(row.watch_pending or 0) - row.watch_seconds,
    "name": lambda row: (row.link_name, row.actor_id),
}
"""Orders of the links, each with the function that tells the place of a row. Links that do not work come first in all."""

HELP = "q quit  ↑↓ choose a link  enter open it  esc back  s sort  r reverse  p pause"

_FRAME_LINES = 12
"""Lines of a picture that are no rows: the head's two, the foot, and of each of three tables a title, a heading and a gap."""

_FEWEST_ROWS = 3
"""Rows that each table gets also on a small terminal."""

_LEAST_CHARACTERS = 8
"""Width of a name on a narrow terminal."""

_GAP_CHARACTERS = 2
"""Width of the gap between two columns."""

_ID_CHARACTERS = 13
"""Of an id: enough to tell two apart, and to find one in a log."""


@dataclass
class View:
    """The choices of the person at the keyboard.

    Attributes:
        sort: Name of the order of the links; one of `SORTS`.
        is_reversed: Whether the order is reversed.
        selected: Identity of the chosen link; None: the first one.
        is_detail: Whether the picture is of the chosen link alone.
        is_paused: Whether the picture stands still.
    """

    sort: str = "calls"
    is_reversed: bool = False
    selected: tuple[str, str, str] | None = None
    is_detail: bool = False
    is_paused: bool = False

    def ordered(self, links: Iterable[LinkRow]) -> list[LinkRow]:
        """Return links in the chosen order."""
        key = SORTS[self.sort]
        rows = sorted(links, key=lambda row: row.key)
        rows.sort(key=key, reverse=self.is_reversed)
        rows.sort(key=lambda row: not row.reason)
        return rows

    def press(self, name: str, links: Sequence[LinkRow]) -> None:
        """Change the view by a key. Links are those of the picture, in any order."""
        rows = self.ordered(links)
        keys = [row.key for row in rows]
        place = keys.index(self.selected) if self.selected in keys else 0
        match name:
            case "up" | "down" if rows:
                place = max(0, min(len(rows) - 1, place + (1 if name == "down" else -1)))
                self.selected = keys[place]
            case "enter" if rows:
                self.selected, self.is_detail = keys[place], True
            case "escape":
                self.is_detail = False
            case "s":
                names = list(SORTS)
                self.sort = names[(names.index(self.sort) + 1) % len(names)]
            case "r":
                self.is_reversed = not self.is_reversed
            case "p":
                self.is_paused = not self.is_paused


def picture(overview: Overview, view: View, *, lines: int, columns: int, remark: str = "") -> RenderableType:
    """Return the picture for a terminal of a size. `remark` is shown in place of the keys."""
    rows = view.ordered(overview.links)
    chosen = next((row for row in rows if row.key == view.selected), rows[0] if rows else None)
    parts: list[RenderableType] = [_head(overview, view)]
    if view.is_detail and chosen is not None:
        parts.append(_detail(chosen, overview))
    else:
        trouble = _trouble(overview.instances)
        room = max(lines - _FRAME_LINES - len(trouble), 3 * _FEWEST_ROWS)
        most_instances = max(_FEWEST_ROWS, min(len(overview.instances), room // 3))
        most_stores = max(_FEWEST_ROWS, min(len(overview.stores), room // 3))
        most_links = max(_FEWEST_ROWS, room - most_instances - most_stores)
        parts += [
            _instances(overview.instances, most_instances, columns),
            *trouble,
            _links(rows, chosen, view, most_links, columns),
            _stores(overview.stores, most_stores, columns),
        ]
    parts.append(Text(remark or HELP, style="yellow" if remark else "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _head(overview: Overview, view: View) -> Text:
    unhealthy = sum(not row.is_healthy for row in overview.instances)
    broken = sum(bool(row.reason) for row in overview.links)
    activity = overview.activity
    head = Text("PAUSED   " if view.is_paused else "", style="yellow")
    head.append(_counted(len(overview.instances), "instance"), style="bold")
    head.append(f", {unhealthy} unhealthy", style="bold red" if unhealthy else "green")
    head.append(f", {overview.gone} gone" if overview.gone else "", style="bold red")
    head.append(f"   {_counted(len(overview.links), 'link')}")
    head.append(f", {broken} not working", style="bold red" if broken else "green")
    head.append(f"   {rate(activity.calls)} calls/s")
    head.append(f"   {rate(activity.errors)} errors/s", style="red" if activity.errors else "")
    head.append(f"   50 %: {latency(activity.median)}   99 %: {latency(activity.p99)}")
    return head


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, expand=True, header_style="dim"
    )
    for name in left:
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1, min_width=_LEAST_CHARACTERS)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _fitted(table: Table, columns: int, *least: str) -> Table:
    """Return a table that fits on a terminal of so many columns; those named are left out for that, in their order."""
    kept = list(table.columns)
    for name in least:
        widths = [column.min_width or max(map(_width, (column.header, *column.cells))) for column in kept]
        if sum(widths) + _GAP_CHARACTERS * (len(widths) - 1) <= columns:
            break
        kept = [column for column in kept if column.header != name]
    fitted = _table(
        str(table.title),
        [str(one.header) for one in kept if one.ratio],
        [str(one.header) for one in kept if not one.ratio],
    )
    for row, cells in zip(table.rows, zip(*(column.cells for column in kept), strict=True), strict=True):
        fitted.add_row(*cells, style=row.style)
    return fitted


def _width(cell: RenderableType) -> int:
    return cell.cell_len if isinstance(cell, Text) else len(str(cell))


def _trouble(rows: Sequence[InstanceRow]) -> list[Text]:
    """Return the message of the first instance that is unhealthy, for which its row has no room."""
    message = next((row.message for row in rows if not row.is_healthy), "")
    return [Text(printable(message), style="red", no_wrap=True, overflow="ellipsis")] if message else []


def _cells(activity: Activity) -> list[Text]:
    return [
        Text(rate(activity.calls)),
        Text(rate(activity.errors), style="red" if activity.errors else "dim"),
        Text(latency(activity.median)),
        Text(latency(activity.p99)),
    ]


_ACTIVITY = ("calls/s", "errors/s", "50 %", "99 %")


def _text(text: str, style: str = "") -> Text:
    """Return a name that came from outside, without characters that control a terminal."""
    return Text(printable(text), style=style)


def _instances(rows: Sequence[InstanceRow], most: int, columns: int) -> Table:
    table = _table(
        _title("Instances", len(rows), most), ("id", "health"), (*_ACTIVITY, "waiting", "cpu", "memory", "up")
    )
    for row in sorted(rows, key=lambda row: row.is_healthy)[:most]:
        table.add_row(
            _text(row.id[:_ID_CHARACTERS]),
            _text("healthy", "green") if row.is_healthy else _text(row.message, "red"),
            *_cells(row.activity),
            str(row.in_flight),
            f"{100 * row.cpu_share:.0f} %",
            size(row.resident_bytes),
            duration(row.uptime_seconds),
        )
    return _fitted(table, columns, "50 %", "cpu", "up", "memory", "waiting", "99 %")


def _links(rows: Sequence[LinkRow], chosen: LinkRow | None, view: View, most: int, columns: int) -> Table:
    order = f"by {view.sort}{', reversed' if view.is_reversed else ''}"
    table = _table(_title("Links", len(rows), most, order), ("link", "actor", "store"), (*_ACTIVITY, "lag", "dead"))
    place = rows.index(chosen) if chosen is not None else 0
    first = max(0, min(place - most // 2, len(rows) - most))
    for row in rows[first : first + most]:
        store = _text(row.reason, "red") if row.reason else _text(f"{row.backend} {row.store}")
        table.add_row(
            _text(row.link_name),
            _text(row.actor_id[:_ID_CHARACTERS]),
            store,
            *_cells(row.activity),
            _lag(row),
            str(row.dead_letters or ""),
            style="reverse" if row is chosen else "",
        )
    return _fitted(table, columns, "50 %", "dead", "99 %", "lag", "actor")


def _lag(row: LinkRow) -> str:
    """Return the changes that wait for an actor, and the age of the one that it is being called with."""
    if row.watch_pending is None:
        return ""
    return f"{row.watch_pending} {duration(row.watch_seconds)}" if row.watch_seconds >= 1 else str(row.watch_pending)


def _stores(rows: Sequence[StoreRow], most: int, columns: int) -> Table:
    names = ("items", "size", "full", "changes/s", "writes/s", "conflicts", "lag", "copies")
    table = _table(_title("Stores", len(rows), most), ("store",), names)
    for row in sorted(rows, key=lambda row: (row.is_healthy, -row.changes, row.name))[:most]:
        is_bucket = row.kind == "bucket"
        table.add_row(
            _text(f"{row.kind} {row.name}", "" if row.is_healthy else "red"),
            str(row.items),
            size(row.size_bytes),
            share(row.size_bytes, row.limit_bytes),
            rate(row.changes) if is_bucket else "",
            rate(row.writes) if is_bucket else "",
            rate(row.conflicts) if is_bucket else "",
            "" if row.lag is None else str(row.lag),
            str(row.replicas),
        )
    return _fitted(table, columns, "copies", "conflicts", "writes/s", "lag", "size", "changes/s")


def _title(name: str, count: int, most: int, order: str = "") -> str:
    more = f", {count - most} more" if count > most else ""
    return f"\n{name} ({count}{more}) {order}".rstrip()


def _detail(row: LinkRow, overview: Overview) -> Group:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in (
        ("link", row.link_name),
        ("actor", row.actor_id),
        ("lattice", row.lattice),
        ("store", f"{row.backend} {row.store}".strip() or "none, as its settings are not valid"),
        ("instances", f"{row.instances} of {len(overview.instances)}"),
        ("state", row.reason or "works in all instances"),
        ("now", f"{rate(row.activity.calls)} calls/s, {rate(row.activity.errors)} errors/s"),
        ("latency", f"50 %: {latency(row.activity.median)}, 99 %: {latency(row.activity.p99)}"),
        ("watch", _watch(row)),
    ):
        table.add_row(name, _text(value, "red" if name == "state" and row.reason else ""))
    operations = _table("\nCalls since the start", ("operation",), ("succeeded", "failed"))
    operations.expand = False
    for name, (succeeded, failed) in row.operations.items():
        operations.add_row(_text(name), str(succeeded), Text(str(failed), style="red" if failed else "dim"))
    return Group(Text(""), table, operations)


def _watch(row: LinkRow) -> str:
    if row.watch_pending is None:
        return "none"
    age = f", the present one is {duration(row.watch_seconds)} old" if row.watch_seconds >= 1 else ""
    return f"{row.watch_pending} changes wait{age}; {row.dead_letters} dead letters"
