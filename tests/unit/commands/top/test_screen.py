"""The picture fits on small terminals, with all of its numbers whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from provider.commands.top.rates import Activity, InstanceRow, LinkRow, Overview, StoreRow
from provider.commands.top.screen import HELP, View, picture

BUSY = Activity(calls=12345.0, errors=12.5, median=0.0012, p99=0.0123)
REASON = "link default of actor MAAA: bucket 'users': no JetStream server of that domain answers"


def overview(links: int) -> Overview:
    def instance(name: str, message: str) -> InstanceRow:
        is_healthy, memory = not message, 360 << 20
        return InstanceRow(name, "l", "NAAA", "1.0", 259_000.0, is_healthy, message, BUSY, 4096, 0.99, memory, links)

    def link(number: int) -> LinkRow:
        return LinkRow("l", f"M{number:055}", "default", "bucket", "users", 2, "", BUSY, 12345, 3700.0, 3)

    return Overview(
        instances=[instance("c55631de-3af6", ""), instance("8b43a4b6-e81d", REASON)],
        links=[link(number) for number in range(links)],
        stores=[StoreRow("l", "bucket", "users", True, 12_345_678, 123 << 30, 1 << 39, 3, 12345.6, 1234.5, 123.4)],
        activity=BUSY,
    )


def shown(view: View, columns: int, lines: int, links: int = 30) -> list[str]:
    console = Console(width=columns, height=lines, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(picture(overview(links), view, lines=lines, columns=columns))
    return capture.get().rstrip().splitlines()


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_a_terminal_of_24_lines_has_room_for_head_rows_and_foot(columns: int) -> None:
    lines = shown(View(is_paused=True), columns, 24)
    assert len(lines) <= 24
    assert lines[0].startswith("PAUSED   2 instances, 1 unhealthy")
    assert "99 %: 12 ms" in " ".join(lines[:2])
    assert lines[-1].strip() == HELP
    assert any(line.startswith(REASON[:70]) for line in lines)
    links = [line for line in lines if line.startswith("default")]
    assert len(links) >= 3
    assert all("12345" in line and "12.5" in line and "12345 1h01m" in line for line in links)


@pytest.mark.parametrize("columns", [40, 50, 60, 70, 80, 90])
def test_a_narrow_terminal_has_fewer_columns_and_no_number_that_is_cut(columns: int) -> None:
    for line in shown(View(), columns, 24):
        assert len(line) <= columns
        number = line.split("\u2026")
        assert all(not part[:1].isalnum() and not part.startswith(".") for part in number[1:]), line
    heads = [line.split() for line in shown(View(), columns, 24) if line.startswith("id ")]
    assert all({"id", "health", "calls/s", "errors/s"} <= set(head) for head in heads)
    assert heads


def test_instances_that_do_not_answer_any_more_are_seen() -> None:
    console = Console(width=80, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(picture(replace(overview(1), gone=3), View(), lines=24, columns=80))
    assert capture.get().startswith("2 instances, 1 unhealthy, 3 gone   1 link")


def test_one_of_a_kind_is_no_plural() -> None:
    assert "   1 link, 0 not working" in shown(View(), 120, 24, links=1)[0]
