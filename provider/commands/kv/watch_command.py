"""`kv watch`: prints every change of a bucket, one per line, until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import typer

from provider.commands.kv.name_rules import check_bucket, stored_pattern
from provider.commands.kv.open_bucket import OpenBucket
from provider.commands.kv.parameters import MAX_REVISION, BucketArgument, JsonLinesOption
from provider.commands.kv.rendering import revision_object, update_line
from provider.commands.kv.running import StopSignals, in_bucket
from provider.commands.kv.stored_revision import PUT, Revision
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.commands.printing import flushed, print_line, print_object
from provider.commands.target import Target
from provider.keyvalue.bucket.follow import Selection, Start


def watch(
    target: Target,
    bucket: BucketArgument,
    pattern: Annotated[
        str, typer.Argument(metavar="[KEY]", help="A key, or a pattern: * matches one part, > at the end the rest.")
    ] = ">",
    history: Annotated[bool, typer.Option("--history", help="Begin with all revisions that the bucket has.")] = False,
    updates: Annotated[bool, typer.Option("--updates", help="Begin with the next change, not with values.")] = False,
    revision: Annotated[
        int | None, typer.Option(metavar="REVISION", min=1, max=MAX_REVISION, help="Begin with this revision.")
    ] = None,
    deletes: Annotated[bool, typer.Option("--deletes/--no-deletes", help="Show deletions.")] = True,
    json: JsonLinesOption = False,
) -> None:
    """Show the values of a bucket and then every change, until Ctrl-C."""
    if sum((history, updates, bool(revision))) > 1:
        raise typer.BadParameter("only one of --history, --updates and --revision", param_hint="--history")
    check_bucket(bucket)
    start = Start.NEW if updates else Start.ALL if history or revision else Start.LAST
    selection = Selection(stored_pattern(pattern), start, revision - 1 if revision else 0)

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        stop_signals = StopSignals()

        async def work(open_bucket: OpenBucket) -> None:
            await _print_updates(open_bucket, selection, stop_signals, has_deletes=deletes, is_json=json)

        in_bucket(target, bucket, work, stop_signals)


async def _print_updates(
    bucket: OpenBucket, selection: Selection, stop_signals: StopSignals, *, has_deletes: bool, is_json: bool
) -> None:
    def show_interruption(reason: str | None) -> None:
        with stop_signals.writing():
            _show_interruption(reason)

    async with bucket.following(selection, show_interruption) as updates:
        is_current = False
        while True:
            update = await updates.next()
            if update is None:
                is_current = True
            elif (has_deletes or update.operation == PUT) and (is_current or not update.is_expired(bucket.now_ms())):
                with stop_signals.writing():
                    _print_update(bucket, update, is_json=is_json)


def _print_update(bucket: OpenBucket, update: Revision, *, is_json: bool) -> None:
    if is_json:
        print_object(revision_object(bucket.name, update))
        return
    line = update_line(bucket.name, update, bucket.now_ms(), None)
    console = stdout_console()
    if not console.is_terminal:
        print_line(line)
        return
    from rich.text import Text

    text = Text(line)
    text.highlight_words([f"] {update.operation} "], "green" if update.operation == PUT else "red")
    with flushed():
        write_line(console, text)


def _show_interruption(reason: str | None) -> None:
    """Report on standard error that the server is gone, or, without a reason, that it is back."""
    text = f"{reason}; waiting for the server" if reason else "watching again, nothing was missed"
    write_line(stderr_console(), text, "yellow" if reason else "dim")
