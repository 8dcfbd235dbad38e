"""`kv watch`: every change of a bucket, a line each, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib

import typer
from rich.text import Text

from provider.commands.kv.ending import Ending
from provider.commands.kv.name_rules import check_bucket, check_pattern
from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.commands.kv.printing import print_line, print_object, written
from provider.commands.kv.rendering import revision_object, update_line
from provider.commands.kv.running import MAX_REVISION, Target, named, perform
from provider.commands.kv.stored_revision import PUT, Revision
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.keyvalue.bucket.follow import Selection, Start
from provider.nats.jetstream import JetStream


def watch(
    target: Target,
    bucket: str = typer.Argument(help="The bucket."),
    pattern: str = typer.Argument(">", metavar="[KEY]", help="A key or a pattern: * is one part, > at the end any."),
    history: bool = typer.Option(False, "--history", help="Begin with every value that is still there."),
    updates: bool = typer.Option(False, "--updates", help="Begin with nothing: show what changes from now on."),
    revision: int = typer.Option(None, min=1, max=MAX_REVISION, help="Begin with this revision."),
    deletes: bool = typer.Option(True, "--deletes/--no-deletes", help="Show deletions."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
) -> None:
    """Show what stands in a bucket and then every change, until Ctrl-C."""
    if sum((history, updates, bool(revision))) > 1:
        raise typer.BadParameter("only one of --history, --updates and --revision", param_hint="--history")
    named(check_bucket, bucket)
    named(check_pattern, pattern)
    start = Start.NEW if updates else Start.ALL if history or revision else Start.LAST
    selection = Selection(pattern, start, revision - 1 if revision else 0)

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        ending = Ending()

        async def work(jetstream: JetStream) -> None:
            async with opened(jetstream, bucket, target.timeout_seconds) as open_bucket:
                await _print_updates(open_bucket, selection, ending, has_deletes=deletes, is_json=json)

        perform(target, work, ending)


async def _print_updates(
    bucket: OpenBucket, selection: Selection, ending: Ending, *, has_deletes: bool, is_json: bool
) -> None:
    def say_state(reason: str | None) -> None:
        with ending.writing():
            _say_state(reason)

    async with bucket.following(selection, say_state) as updates:
        is_current = False
        while True:
            update = await updates.next()
            if update is None:
                is_current = True
            elif (has_deletes or update.operation == PUT) and (is_current or not update.is_expired(bucket.now_ms())):
                with ending.writing():
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
    text = Text(line)
    text.highlight_words([f"] {update.operation} "], "green" if update.operation == PUT else "red")
    with written():
        write_line(console, text)


def _say_state(reason: str | None) -> None:
    """Say on standard error that changes are waited for, and that none was missed."""
    text = f"{reason}; waiting for the server" if reason else "watching again, nothing was missed"
    write_line(stderr_console(), text, "yellow" if reason else "dim")
