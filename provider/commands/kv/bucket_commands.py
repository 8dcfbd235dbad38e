"""`kv add`, `ls`, `info`, and `rm` of a bucket."""

from __future__ import annotations

import enum

import typer

from provider.commands.connect import deadline_in
from provider.commands.errors import KeyNotFoundError
from provider.commands.kv.bucket_admin import add_bucket, bucket_status, list_buckets, remove_bucket
from provider.commands.kv.bucket_info import BucketInfo, BucketSettings, BucketStatus, Republish
from provider.commands.kv.name_rules import actor_key, check_bucket, check_pattern
from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.commands.kv.printing import print_line, print_object
from provider.commands.kv.rendering import (
    BUCKET_COLUMNS,
    aligned,
    bucket_row,
    heading,
    info_object,
    local_time,
    one_line,
    status_object,
    status_rows,
)
from provider.commands.kv.running import Target, is_confirmed, named, parsed, perform
from provider.commands.output import stderr_console, write_line
from provider.keyvalue.link_values import Consistency
from provider.nats.jetstream import JetStream
from provider.units import parse_bytes, parse_whole_seconds

_LABEL_WIDTH = 26
_MAX_VALUE_BYTES = 2**31 - 1
_MAX_BUCKET_BYTES = 2**63 - 1


class Storage(enum.StrEnum):
    FILE = "file"
    MEMORY = "memory"


def add(
    target: Target,
    bucket: str = typer.Argument(help="The new bucket's name."),
    history: int = typer.Option(1, min=1, max=64, help="How many values of a key to keep."),
    ttl: str = typer.Option("0", metavar="DURATION", help="Greatest age of any value, as 30s, 12h, 7d; 0: any."),
    replicas: int = typer.Option(1, min=1, max=5, help="How many servers have it."),
    max_value_size: str = typer.Option("-1", metavar="BYTES", help="Greatest size of a value, as 4096 or 512K."),
    max_bucket_size: str = typer.Option("-1", metavar="BYTES", help="Greatest size of the bucket."),
    description: str = typer.Option("", help="What it is for."),
    storage: Storage = typer.Option(Storage.FILE, help="Where its servers keep it."),
    compress: bool = typer.Option(False, "--compress", help="Keep it compressed; nats-server 2.10 and later."),
    tags: list[str] = typer.Option(None, metavar="TAG", help="On servers with this tag; may be repeated."),
    cluster: str = typer.Option("", help="On servers of this cluster."),
    marker_ttl: str = typer.Option(
        "0",
        metavar="DURATION",
        help="How long a key that has expired is marked, so that watchers see it; what is written at that moment may be lost.",
    ),
    republish_source: str = typer.Option("", metavar="SUBJECT", help="What to republish; default: everything."),
    republish_destination: str = typer.Option("", metavar="SUBJECT", help="Where to republish what is written."),
    republish_headers: bool = typer.Option(False, "--republish-headers", help="Republish headers only."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Make a bucket."""
    if (republish_source or republish_headers) and not republish_destination:
        raise typer.BadParameter("goes with --republish-destination", param_hint="--republish-source")
    republish = Republish(republish_destination, republish_source, republish_headers) if republish_destination else None
    settings = BucketSettings(
        name=named(check_bucket, bucket),
        history=history,
        ttl_seconds=parsed(parse_whole_seconds, ttl, "--ttl"),
        replicas=replicas,
        storage=storage.value,
        max_bytes=_size(max_bucket_size, "--max-bucket-size", _MAX_BUCKET_BYTES),
        max_value_bytes=_size(max_value_size, "--max-value-size", _MAX_VALUE_BYTES),
        description=description,
        is_compressed=compress,
        cluster=cluster,
        tags=tuple(tags or ()),
        marker_ttl_seconds=parsed(parse_whole_seconds, marker_ttl, "--marker-ttl"),
        republish=republish,
    )

    async def work(jetstream: JetStream) -> BucketStatus:
        return await add_bucket(jetstream, settings, deadline_in(target.timeout_seconds))

    _show(perform(target, work), is_json=json)


def info(
    target: Target,
    bucket: str = typer.Argument(help="The bucket."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show a bucket's settings and what it holds."""
    named(check_bucket, bucket)

    async def work(jetstream: JetStream) -> BucketStatus:
        return await bucket_status(jetstream, bucket, deadline_in(target.timeout_seconds))

    _show(perform(target, work), is_json=json)


def ls(
    target: Target,
    bucket: str | None = typer.Argument(None, help="List this bucket's keys."),
    names: bool = typer.Option(False, "--names", "-n", help="Only the names of the buckets."),
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="Keys with when they were written, and their revisions."
    ),
    display_value: bool = typer.Option(False, "--display-value", help="With --verbose: with their values."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
) -> None:
    """List the buckets, or the keys of one."""
    if bucket is not None:
        named(check_bucket, bucket)
        list_keys(target, bucket, ">", is_verbose=verbose, has_values=display_value, is_json=json)
        return

    async def work(jetstream: JetStream) -> list[BucketInfo]:
        return await list_buckets(jetstream, deadline_in(target.timeout_seconds))

    found = perform(target, work)
    if json:
        for each in found:
            print_object(info_object(each))
    elif not found:
        write_line(stderr_console(), "No Key-Value buckets found")
    elif names:
        for each in found:
            print_line(each.name)
    else:
        for line in aligned([list(BUCKET_COLUMNS), *(bucket_row(each, None) for each in found)]):
            print_line(line)


def keys(
    target: Target,
    bucket: str = typer.Argument(help="The bucket."),
    pattern: str = typer.Argument(">", help="Which keys: * is one part between dots, > at the end any."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
) -> None:
    """List the keys of a bucket."""
    named(check_bucket, bucket)
    named(check_pattern, pattern)
    list_keys(target, bucket, pattern, is_verbose=False, has_values=False, is_json=json)


def list_keys(target: Target, bucket: str, pattern: str, *, is_verbose: bool, has_values: bool, is_json: bool) -> None:
    async def work(jetstream: JetStream) -> bool:
        async with opened(jetstream, bucket, target.timeout_seconds) as open_bucket:
            return await _list_keys(open_bucket, pattern, is_verbose=is_verbose, has_values=has_values, is_json=is_json)

    if not perform(target, work):
        write_line(stderr_console(), "No keys found in bucket")


async def _list_keys(bucket: OpenBucket, pattern: str, *, is_verbose: bool, has_values: bool, is_json: bool) -> bool:
    """Print the keys; tells whether there were any."""
    if is_verbose and not is_json:
        return await list_rows(bucket, pattern, has_values=has_values)
    has_any = False
    async for head in bucket.keys(pattern):
        has_any = True
        if is_json:
            actor = actor_key(head.bucket_key)
            named_for_actors = {"actor_key": actor} if actor is not None else {}
            print_object({"bucket": bucket.name, "key": head.bucket_key, "revision": head.revision} | named_for_actors)
        else:
            print_line(head.bucket_key)
    return has_any


async def list_rows(bucket: OpenBucket, pattern: str, *, has_values: bool) -> bool:
    """Print the keys as a table; tells whether there were any. One that is gone when its value is read is left out."""
    rows = []
    async for head in bucket.keys(pattern):
        row = [head.bucket_key, actor_key(head.bucket_key) or "", local_time(head.time_ms, None), str(head.revision)]
        if has_values:
            try:
                row.append(one_line((await bucket.get(head.bucket_key, Consistency.LEADER)).payload))
            except KeyNotFoundError:
                continue
        rows.append(row)
    if rows:
        columns = ["Key", "Actor's Key", "Created", "Revision", *(["Value"] if has_values else [])]
        for line in aligned([columns, *rows]):
            print_line(line)
    return bool(rows)


def remove(target: Target, bucket: str, *, is_forced: bool) -> None:
    """Remove a bucket, once a person has said so."""
    if not is_confirmed(f"Delete bucket {bucket}?", is_forced=is_forced):
        write_line(stderr_console(), "Skipping delete")
        return

    async def work(jetstream: JetStream) -> None:
        await remove_bucket(jetstream, bucket, deadline_in(target.timeout_seconds))

    perform(target, work)


def _size(text: str, option: str, maximum: int) -> int:
    size = parsed(parse_bytes, text, option)
    if size > maximum:
        raise typer.BadParameter(f"the maximum is {maximum} bytes", param_hint=option)
    return size


def _show(status: BucketStatus, *, is_json: bool) -> None:
    for option in status.ignored:
        write_line(
            stderr_console(), f"warning: the server does not know what {option} asks for, and has ignored it", "yellow"
        )
    if is_json:
        print_object(status_object(status))
        return
    print_line(heading(status, None))
    print_line("")
    for label, text in status_rows(status):
        print_line(f"{label:>{_LABEL_WIDTH}}: {text}")
