"""A report as tables: rows, yardsticks, and the scorecard."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from provider.commands.output import table, write_line
from tests.bench.cache.cache_report import CacheReport
from tests.bench.pages.pages_report import PagesReport
from tests.bench.report import Report, Yardsticks, scorecard
from tests.bench.rows import Row, ScoreLine
from tests.bench.stalls.stalls_report import StallReport


def show(console: Console, report: Report) -> None:
    if report.yardsticks is not None:
        _show_bucket(console, report.rows, report.yardsticks)
    if report.pages is not None:
        _show_pages(console, report.pages)
    if report.stalls is not None:
        _show_stalls(console, report.stalls)
    if report.cache is not None:
        _show_cache(console, report.cache)
    for part in report.components:
        console.print(_rows(f"Components on a {part.backend}", [part.get]))
        write_line(console, "")
    console.print(_scorecard_table(scorecard(report)))


def _show_bucket(console: Console, rows: list[Row], yard: Yardsticks) -> None:
    console.print(_rows("Signed operations", rows))
    write_line(console, "")
    shown = table("Yardsticks of this run", "what", "", right=frozenset({""}))
    shown.add_row("one signature check, CPU", f"{yard.signature_cpu_us:.1f} µs")
    shown.add_row("bare echo service in Python, 1 in flight, p50", f"{yard.echo_p50_us:.0f} µs")
    shown.add_row("raw direct get, 1 in flight, p50", f"{yard.direct_get_p50_us:.0f} µs")
    shown.add_row("naive read-then-CAS, one counter, 64 tasks", f"{yard.naive_counter_per_second:.0f}/s")
    shown.add_row("naive read-then-CAS, one set of 1,000, 64 tasks", f"{yard.naive_set_per_second:.0f}/s")
    console.print(shown)
    write_line(console, "")


def _show_pages(console: Console, pages: PagesReport) -> None:
    console.print(_rows(f"Large values, of {pages.elements:,} elements, and small ones", pages.rows))
    write_line(console, "")
    if pages.redis:
        numbers = ["clients", "commands/s", "p50 µs"]
        shown = table("Redis on this machine, by redis-benchmark", "command", *numbers, right=frozenset(numbers))
        for row in pages.redis:
            shown.add_row(row.command, str(row.clients), f"{row.per_second:,.0f}", f"{row.p50_us:,.0f}")
        console.print(shown)
        write_line(console, "")


def _show_cache(console: Console, cache: CacheReport) -> None:
    console.print(_rows("Signed operations on a cache: one instance serves, one other is up", cache.speed.rows))
    write_line(console, "")
    speed, spread = cache.speed, cache.propagation
    shown = table("Beside them", "what", "", right=frozenset({""}))
    shown.add_row("one signature check, CPU", f"{speed.signature_cpu_us:.1f} µs")
    shown.add_row("bare echo service in Python, 1 in flight, p50", f"{speed.echo_p50_us:.0f} µs")
    shown.add_row("bare NATS round trip between two processes, p50", f"{spread.round_trip_p50_us:.0f} µs")
    shown.add_row("one turn of an event loop, p50", f"{spread.turn_p50_us:.1f} µs")
    shown.add_row("write until another process sees it, p50", f"{spread.visible_p50_us:.0f} µs")
    shown.add_row("the same, p99", f"{spread.visible_p99_us:.0f} µs")
    name = "Gets at the other instance upon the acknowledgement that were older than the Set"
    shown.add_row(name, f"{speed.older_elsewhere} of {speed.reads_elsewhere}")
    console.print(shown)
    write_line(console, "")


def _show_stalls(console: Console, stalls: StallReport) -> None:
    numbers = ["seconds", "Gets", "p99 ms", "slowest ms"]
    title = f"Small Gets beside one call about {stalls.elements:,} elements"
    shown = table(title, "backend", "call", *numbers, "", right=frozenset(numbers))
    for row in stalls.rows:
        figures = (f"{row.seconds:.2f}", str(row.gets), f"{row.p99_ms:.1f}", f"{row.longest_ms:.1f}")
        shown.add_row(row.backend, row.work, *figures, row.error)
    console.print(shown)
    write_line(console, "")


def _rows(title: str, rows: list[Row]) -> object:
    has_others = any(row.others_cpu_us for row in rows)
    others = ["other's CPU"] if has_others else []
    numbers = ["in flight", "ops/s", "CPU µs/op", *others, "p50 µs", "p99 µs", "errors"]
    shown = table(title, "operation", *numbers, "", right=frozenset(numbers))
    for row in rows:
        measured = row.measured
        note = measured.first_error or ("" if measured.is_exact else "totals not exactly once")
        if measured.own_cpu_seconds > 0.9 * measured.seconds:
            note = f"{note} load generator at its limit".strip()
        shown.add_row(
            row.workload,
            str(row.in_flight),
            f"{row.per_second:,.0f}",
            f"{row.provider_cpu_us:.0f}",
            *([f"{row.others_cpu_us:.0f}"] if has_others else []),
            f"{measured.p50_us:,.0f}",
            f"{measured.p99_us:,.0f}",
            str(measured.errors),
            note,
        )
    return shown


def _scorecard_table(lines: list[ScoreLine]) -> object:
    shown = table("Targets", "ratio of this run", "measured", "target", "", "", right=frozenset({"measured", "target"}))
    for line in lines:
        verdict = Text("met", style="green") if line.is_met else Text("MISSED", style="bold red")
        limit = f"{'<=' if line.is_at_most else '>='} {line.limit:g}"
        shown.add_row(line.name, f"{line.ratio:.2f}", limit, verdict, line.detail)
    return shown
