"""`kv get`, `put`, `create`, `update`, `del`, `purge`, `history`, `revert`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from provider.commands.kv import bucket_commands as buckets
from provider.commands.kv.name_rules import check_bucket, check_key
from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.commands.kv.printing import print_bytes, print_line, print_object
from provider.commands.kv.rendering import HISTORY_COLUMNS, aligned, entry_lines, history_row, revision_object
from provider.commands.kv.running import MAX_REVISION, Target, is_confirmed, named, parsed, perform
from provider.commands.output import stderr_console, write_line
from provider.keyvalue.link_values import Consistency
from provider.nats.jetstream import JetStream
from provider.units import parse_whole_seconds

T = TypeVar("T")

_BUCKET = typer.Argument(help="The bucket.")
_KEY = typer.Argument(help="The key.")
_VALUE = typer.Argument(None, help="The value; without one it is read from standard input.")
_TTL = typer.Option("0", metavar="DURATION", help="When the value goes away, as 30s or 12h; 0: never.")
_JSON = typer.Option(False, "--json", help="Print one JSON object.")
_FORCE = typer.Option(False, "--force", "-f", help="Do not ask.")
_MAX_TTL_SECONDS = 2**32 - 1


def get(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    revision: int = typer.Option(None, min=1, max=MAX_REVISION, help="An old value, if the bucket still has it."),
    raw: bool = typer.Option(False, "--raw", help="Print the value's bytes alone."),
    json: bool = _JSON,
    consistency: Consistency = typer.Option(
        Consistency.LEADER, help="With several replicas: strong proves that nothing newer is there, by a tiny write."
    ),
) -> None:
    """Show a value; exit code 1 when there is none."""

    async def work(open_bucket: OpenBucket) -> None:
        if revision:
            entry = await open_bucket.at_revision(key, revision)
        else:
            entry = await open_bucket.get(key, consistency)
        if raw:
            print_bytes(entry.payload)
        elif json:
            print_object(revision_object(bucket, entry))
        else:
            for line in entry_lines(bucket, entry, open_bucket.now_ms(), None):
                print_line(line)

    _in_bucket(target, bucket, key, work)


def put(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    value: str = _VALUE,
    ttl: str = _TTL,
    json: bool = _JSON,
) -> None:
    """Put a value, whatever is there."""
    payload, expires = _value(value), _expires(ttl)
    _write(target, bucket, key, payload, lambda to: to.put(key, payload, expires), expires=expires, is_json=json)


def create(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    value: str = _VALUE,
    ttl: str = _TTL,
    json: bool = _JSON,
) -> None:
    """Put a value where none is; exit code 1 when there is one."""
    payload, expires = _value(value), _expires(ttl)
    _write(target, bucket, key, payload, lambda to: to.create(key, payload, expires), expires=expires, is_json=json)


def update(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    value: str = typer.Argument(help="The new value."),
    revision: int = typer.Argument(min=0, max=MAX_REVISION, help="The revision that must stand there; 0: none may."),
    ttl: str = _TTL,
    json: bool = _JSON,
) -> None:
    """Put a value where a revision stands; exit code 1, and the one that does, when another does."""
    payload, expires = value.encode(errors="surrogateescape"), _expires(ttl)

    def change(to: OpenBucket) -> Awaitable[int]:
        return to.update(key, payload, revision, expires)

    _write(target, bucket, key, payload, change, expires=expires, is_json=json)


def delete(
    target: Target,
    bucket: str = _BUCKET,
    key: str | None = typer.Argument(None, help="The key; without one the whole bucket is removed."),
    force: bool = _FORCE,
) -> None:
    """Delete a key, its history stays; or remove a bucket."""
    named(check_bucket, bucket)
    if key is None:
        buckets.remove(target, bucket, is_forced=force)
        return
    named(check_key, key)
    if _may_remove(f"Delete key {bucket} > {key}?", is_forced=force):
        _in_bucket(target, bucket, key, lambda to: to.delete(key))


def purge(target: Target, bucket: str = _BUCKET, key: str = _KEY, force: bool = _FORCE) -> None:
    """Delete a key and its history."""
    if _may_remove(f"Purge key {bucket} > {key}?", is_forced=force):
        _in_bucket(target, bucket, key, lambda to: to.purge(key))


def history(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
) -> None:
    """Show all values of a key that the bucket still has."""
    _in_bucket(target, bucket, key, lambda to: _print_history(to, key, is_json=json))


def revert(
    target: Target,
    bucket: str = _BUCKET,
    key: str = _KEY,
    revision: int = typer.Argument(min=1, max=MAX_REVISION, help="Whose value to put again."),
    force: bool = _FORCE,
) -> None:
    """Put an old value of a key again."""
    if not _may_remove(f"Revert {bucket} > {key} to revision {revision}?", is_forced=force):
        return

    async def work(open_bucket: OpenBucket) -> None:
        await open_bucket.revert(key, revision)
        await _print_history(open_bucket, key, is_json=False)

    _in_bucket(target, bucket, key, work)


async def _print_history(bucket: OpenBucket, key: str, *, is_json: bool) -> None:
    revisions = await bucket.history(key)
    if is_json:
        for revision in revisions:
            print_object(revision_object(bucket.name, revision))
        return
    for line in aligned([list(HISTORY_COLUMNS), *(history_row(revision, None) for revision in revisions)]):
        print_line(line)


def _write(
    target: Target,
    bucket: str,
    key: str,
    payload: bytes,
    change: Callable[[OpenBucket], Awaitable[int]],
    *,
    expires: int,
    is_json: bool,
) -> None:
    """Write, and print the value as `nats kv` does."""

    async def work(open_bucket: OpenBucket) -> int:
        revision = await change(open_bucket)
        if expires and not open_bucket.expires_by_itself:
            text = "warning: the server does not remove it; only the provider and this command see that it has expired"
            write_line(stderr_console(), text, "yellow")
        return revision

    revision = _in_bucket(target, bucket, key, work)
    if is_json:
        print_object({"bucket": bucket, "key": key, "revision": revision})
    else:
        print_bytes(payload + b"\n")


def _in_bucket(target: Target, bucket: str, key: str, work: Callable[[OpenBucket], Awaitable[T]]) -> T:
    named(check_bucket, bucket)
    named(check_key, key)

    async def run(jetstream: JetStream) -> T:
        async with opened(jetstream, bucket, target.timeout_seconds) as open_bucket:
            return await work(open_bucket)

    return perform(target, run)


def _value(given: str | None) -> bytes:
    if given is not None:
        return given.encode(errors="surrogateescape")
    if sys.stdin is None or sys.stdin.isatty():
        what = "closed" if sys.stdin is None else "a terminal"
        raise typer.BadParameter(f"missing, and standard input is {what}", param_hint="VALUE")
    return sys.stdin.buffer.read()


def _expires(ttl: str) -> int:
    seconds = parsed(parse_whole_seconds, ttl, "--ttl")
    if seconds > _MAX_TTL_SECONDS:
        raise typer.BadParameter(f"the maximum is {_MAX_TTL_SECONDS} seconds", param_hint="--ttl")
    return seconds


def _may_remove(question: str, *, is_forced: bool) -> bool:
    """Ask a person at a terminal; a script is believed."""
    if is_confirmed(question, is_forced=is_forced or sys.stdin is None or not sys.stdin.isatty()):
        return True
    write_line(stderr_console(), "Skipped, nothing was changed")
    return False
