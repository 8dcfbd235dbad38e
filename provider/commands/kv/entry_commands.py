"""`kv get`, `put`, `create`, `update`, `del`, `purge`, `history` and `revert`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from provider.commands.kv import bucket_commands
from provider.commands.kv.name_rules import check_bucket, noted_key, stored_key
from provider.commands.kv.open_bucket import OpenBucket
from provider.commands.kv.parameters import (
    MAX_REVISION,
    BucketArgument,
    ForceOption,
    JsonLinesOption,
    JsonOption,
    KeyArgument,
    TtlOption,
)
from provider.commands.kv.rendering import HISTORY_COLUMNS, history_row, key_object, revision_object
from provider.commands.kv.running import in_bucket, is_confirmed
from provider.commands.kv.short_read import print_entry
from provider.commands.options import parse_option
from provider.commands.output import stderr_console, write_line
from provider.commands.printing import print_bytes, print_object
from provider.commands.tables import print_table
from provider.commands.target import Target
from provider.commands.value_sources import check_standard_input, parts_of_standard_input
from provider.keyvalue.link_values import Consistency
from provider.units import parse_whole_seconds

T = TypeVar("T")

ValueArgument = Annotated[
    str | None, typer.Argument(help="The value. Without it, the value is read from standard input.")
]

_MAX_TTL_SECONDS = 2**32 - 1
"""The contract's expiry is an unsigned integer of 32 bits, and the engine is the provider's."""


def get(
    target: Target,
    bucket: BucketArgument,
    key: KeyArgument,
    revision: Annotated[
        int | None,
        typer.Option(
            metavar="REVISION", min=1, max=MAX_REVISION, help="Show this revision, if the bucket still has it."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print only the bytes of the value.")] = False,
    json: JsonOption = False,
    consistency: Annotated[
        Consistency,
        typer.Option(help="With several replicas, strong proves by a tiny write that no newer value exists."),
    ] = Consistency.LEADER,
) -> None:
    """Show a value; exit code 1 if the key has none."""

    async def work(open_bucket: OpenBucket, key: str) -> None:
        if raw and not revision:
            async for piece in open_bucket.payload(key, consistency):
                print_bytes(piece)
            return
        if revision:
            entry = await open_bucket.at_revision(key, revision)
        else:
            entry = await open_bucket.get(key, consistency)
        print_entry(bucket, entry, open_bucket.now_ms(), "--raw" if raw else "--json" if json else "")

    _on_key(target, bucket, key, work)


def put(
    target: Target,
    bucket: BucketArgument,
    key: KeyArgument,
    value: ValueArgument = None,
    ttl: TtlOption = "0",
    json: JsonOption = False,
) -> None:
    """Put a value, whether or not the key has one."""
    _put(target, bucket, key, value, ttl, None, is_json=json)


def create(
    target: Target,
    bucket: BucketArgument,
    key: KeyArgument,
    value: ValueArgument = None,
    ttl: TtlOption = "0",
    json: JsonOption = False,
) -> None:
    """Put a value if the key has none; exit code 1 if it has one."""
    _put(target, bucket, key, value, ttl, 0, is_json=json)


def update(
    target: Target,
    bucket: BucketArgument,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="The new value.")],
    revision: Annotated[
        int, typer.Argument(min=0, max=MAX_REVISION, help="Revision that the key must have; 0 means no value.")
    ],
    ttl: TtlOption = "0",
    json: JsonOption = False,
) -> None:
    """Put a value if the key has the given revision; otherwise show its revision, with exit code 1."""
    payload, expires = value.encode(errors="surrogateescape"), _expires(ttl)

    async def change(to: OpenBucket, key: str) -> tuple[int, bytes]:
        return await to.update(key, payload, revision, expires), payload

    _write(target, bucket, key, change, expires=expires, is_json=json)


def delete(
    target: Target,
    bucket: BucketArgument,
    key: Annotated[str | None, typer.Argument(help="Name of the key. Without it, the whole bucket is removed.")] = None,
    force: ForceOption = False,
) -> None:
    """Delete a key but keep its history; or remove a bucket."""
    check_bucket(bucket)
    if key is None:
        bucket_commands.remove(target, bucket, is_forced=force)
        return
    key = stored_key(key)
    if _may_change(f"Delete key {bucket} > {noted_key(key)}?", is_forced=force):
        _on_key(target, bucket, key, lambda to, key: to.delete(key))


def purge(target: Target, bucket: BucketArgument, key: KeyArgument, force: ForceOption = False) -> None:
    """Delete a key and its history."""
    key = stored_key(key)
    if _may_change(f"Purge key {bucket} > {noted_key(key)}?", is_forced=force):
        _on_key(target, bucket, key, lambda to, key: to.purge(key))


def history(target: Target, bucket: BucketArgument, key: KeyArgument, json: JsonLinesOption = False) -> None:
    """Show all revisions of a key that the bucket still has."""
    _on_key(target, bucket, key, lambda to, key: _print_history(to, key, is_json=json))


def revert(
    target: Target,
    bucket: BucketArgument,
    key: KeyArgument,
    revision: Annotated[int, typer.Argument(min=1, max=MAX_REVISION, help="Revision whose value to put again.")],
    force: ForceOption = False,
) -> None:
    """Put an old value of a key again."""
    key = stored_key(key)
    if not _may_change(f"Revert {bucket} > {noted_key(key)} to revision {revision}?", is_forced=force):
        return

    async def work(open_bucket: OpenBucket, key: str) -> None:
        await open_bucket.revert(key, revision)
        await _print_history(open_bucket, key, is_json=False)

    _on_key(target, bucket, key, work)


async def _print_history(bucket: OpenBucket, key: str, *, is_json: bool) -> None:
    revisions = await bucket.history(key)
    if is_json:
        for revision in revisions:
            print_object(revision_object(bucket.name, revision))
        return
    print_table([list(HISTORY_COLUMNS), *(history_row(revision, None) for revision in revisions)])


def _put(
    target: Target, bucket: str, key: str, value: str | None, ttl: str, revision: int | None, *, is_json: bool
) -> None:
    """Put a value if the key has a revision, 0 for none; `None`: in any case."""
    expires = _expires(ttl)
    if value is None:
        check_standard_input("VALUE is missing, and")

    async def change(to: OpenBucket, key: str) -> tuple[int, bytes | None]:
        if value is None:
            return await to.put_parts(key, parts_of_standard_input(), expires, revision)
        payload = value.encode(errors="surrogateescape")
        put = to.put if revision is None else to.create
        return await put(key, payload, expires), payload

    _write(target, bucket, key, change, expires=expires, is_json=is_json)


def _write(
    target: Target,
    bucket: str,
    key: str,
    change: Callable[[OpenBucket, str], Awaitable[tuple[int, bytes | None]]],
    *,
    expires: int,
    is_json: bool,
) -> None:
    """Make a change, then print the value as `nats kv` does, unless it was too large to be kept for that."""

    async def work(open_bucket: OpenBucket, key: str) -> tuple[int, bytes | None]:
        revision, payload = await change(open_bucket, key)
        if expires and open_bucket.is_left_by_server(key):
            text = "warning: the server will not remove the value; after it expires, this command hides it, and a provider removes it"
            write_line(stderr_console(), text, "yellow")
        return revision, payload

    revision, payload = _on_key(target, bucket, key, work)
    if is_json:
        print_object(key_object(bucket, stored_key(key)) | {"revision": revision})
    elif payload is not None:
        print_bytes(payload + b"\n")


def _on_key(target: Target, bucket: str, key: str, work: Callable[[OpenBucket, str], Awaitable[T]]) -> T:
    check_bucket(bucket)
    key = stored_key(key)
    return in_bucket(target, bucket, lambda to: work(to, key))


def _expires(ttl: str) -> int:
    seconds = parse_option(parse_whole_seconds, ttl, "--ttl")
    if seconds > _MAX_TTL_SECONDS:
        raise typer.BadParameter(f"the maximum is {_MAX_TTL_SECONDS} seconds", param_hint="--ttl")
    return seconds


def _may_change(question: str, *, is_forced: bool) -> bool:
    """Ask a person at a terminal for confirmation. A script is not asked."""
    if is_confirmed(question, is_forced=is_forced or sys.stdin is None or not sys.stdin.isatty()):
        return True
    write_line(stderr_console(), "Skipped, nothing was changed")
    return False
