"""`kv add`, `ls`, `info` and `keys`, and the part of `kv rm` that removes a bucket."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from provider.commands.connect import deadline_in
from provider.commands.errors import KeyNotFoundError
from provider.commands.kv.bucket_admin import add_bucket, bucket_status, list_buckets, remove_bucket
from provider.commands.kv.bucket_info import BucketInfo, BucketSettings, BucketStatus, Republish
from provider.commands.kv.bucket_rendering import (
    BUCKET_COLUMNS,
    bucket_row,
    heading,
    info_object,
    status_object,
    status_rows,
)
from provider.commands.kv.name_rules import actor_key, check_bucket, stored_pattern
from provider.commands.kv.parameters import BucketArgument, JsonLinesOption, JsonOption
from provider.commands.kv.rendering import key_object, local_time, one_line
from provider.commands.kv.running import in_bucket, is_confirmed, perform
from provider.commands.options import parse_option
from provider.commands.output import stderr_console, write_line
from provider.commands.printing import print_line, print_object
from provider.commands.tables import print_table
from provider.commands.target import Target
from provider.keyvalue.bucket.pages.paged_value import is_paged
from provider.keyvalue.kinds import Value
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.payloads import encode_payload
from provider.nats.jetstream import JetStream
from provider.units import format_bytes, parse_size, parse_whole_seconds

if TYPE_CHECKING:  # `ls` and `info` need no open bucket
    from provider.commands.kv.open_bucket import OpenBucket

_LABEL_WIDTH = 26
"""Columns for the labels of `kv info`, right-aligned as in `nats kv info`."""

_MAX_VALUE_BYTES = 2**31 - 1
_MAX_BUCKET_BYTES = 2**63 - 1
"""The server keeps these limits in signed integers of 32 and 64 bits. Source: nats-server server/stream.go."""


class Storage(enum.StrEnum):
    FILE = "file"
    MEMORY = "memory"


MarkerTtlOption = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="Time to mark an expired key, so that watchers see its end. "
        "A value written at the moment of expiry may be lost.",
    ),
]


def add(
    target: Target,
    bucket: Annotated[str, typer.Argument(help="Name of the new bucket.")],
    history: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=64, help="Number of revisions to keep of each key.")
    ] = 1,
    ttl: Annotated[
        str, typer.Option(metavar="DURATION", help="Maximum age of every value, e.g. 30s, 12h or 7d; 0 means no limit.")
    ] = "0",
    replicas: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=5, help="Number of servers that store the bucket.")
    ] = 1,
    max_value_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Maximum size of a value, e.g. 4096 or 512K.")
    ] = "-1",
    max_bucket_size: Annotated[str, typer.Option(metavar="SIZE", help="Maximum size of the bucket.")] = "-1",
    description: Annotated[str, typer.Option(metavar="TEXT", help="Purpose of the bucket, for people.")] = "",
    storage: Annotated[Storage, typer.Option(help="Kind of storage.")] = Storage.FILE,
    compress: Annotated[
        bool, typer.Option("--compress", help="Compress the bucket; needs nats-server 2.10 or later.")
    ] = False,
    tags: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Store the bucket on servers with this tag; may be repeated."),
    ] = None,
    cluster: Annotated[str, typer.Option(metavar="NAME", help="Store the bucket on servers of this cluster.")] = "",
    marker_ttl: MarkerTtlOption = "0",
    republish_source: Annotated[
        str, typer.Option(metavar="SUBJECT", help="Subjects to republish. Default: all of the bucket.")
    ] = "",
    republish_destination: Annotated[
        str, typer.Option(metavar="SUBJECT", help="Subject to republish every write to.")
    ] = "",
    republish_headers: Annotated[
        bool, typer.Option("--republish-headers", help="Republish the headers without the values.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Create a bucket."""
    check_bucket(bucket)
    settings = BucketSettings(
        name=bucket,
        history=history,
        ttl_seconds=parse_option(parse_whole_seconds, ttl, "--ttl"),
        replicas=replicas,
        storage=storage.value,
        max_bytes=_size(max_bucket_size, "--max-bucket-size", _MAX_BUCKET_BYTES),
        max_value_bytes=_size(max_value_size, "--max-value-size", _MAX_VALUE_BYTES),
        description=description,
        is_compressed=compress,
        cluster=cluster,
        tags=tuple(tags or ()),
        marker_ttl_seconds=parse_option(parse_whole_seconds, marker_ttl, "--marker-ttl"),
        republish=_republish(republish_destination, republish_source, republish_headers),
    )

    async def work(jetstream: JetStream) -> BucketStatus:
        return await add_bucket(jetstream, settings, deadline_in(target.timeout_seconds))

    _print_status(perform(target, work), is_json=json)


def _republish(destination: str, source: str, only_headers: bool) -> Republish | None:
    if destination:
        return Republish(destination, source, only_headers)
    if source or only_headers:
        raise typer.BadParameter("needs --republish-destination", param_hint="--republish-source")
    return None


def info(target: Target, bucket: BucketArgument, json: JsonOption = False) -> None:
    """Show the settings and the size of a bucket."""
    check_bucket(bucket)

    async def work(jetstream: JetStream) -> BucketStatus:
        return await bucket_status(jetstream, bucket, deadline_in(target.timeout_seconds))

    _print_status(perform(target, work), is_json=json)


def ls(
    target: Target,
    bucket: Annotated[str | None, typer.Argument(help="Name of a bucket, to list its keys.")] = None,
    names: Annotated[bool, typer.Option("--names", "-n", help="Show only the names of the buckets.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the keys with their times and revisions.")
    ] = False,
    display_value: Annotated[
        bool, typer.Option("--display-value", help="With --verbose, show the values too.")
    ] = False,
    json: JsonLinesOption = False,
) -> None:
    """List the buckets, or the keys of one bucket."""
    if bucket is not None:
        check_bucket(bucket)
        _list_keys(target, bucket, ">", is_verbose=verbose, has_values=display_value, is_json=json)
        return

    async def work(jetstream: JetStream) -> list[BucketInfo]:
        return await list_buckets(jetstream, deadline_in(target.timeout_seconds))

    found = perform(target, work)
    if json:
        for each in found:
            print_object(info_object(each) | {"pages_bytes": each.pages_bytes})
    elif not found:
        write_line(stderr_console(), "No Key-Value buckets found")
    elif names:
        for each in found:
            print_line(each.name)
    else:
        print_table([list(BUCKET_COLUMNS), *(bucket_row(each, None) for each in found)])


def keys(
    target: Target,
    bucket: BucketArgument,
    pattern: Annotated[
        str, typer.Argument(help="Pattern of the keys: * matches one part between dots, > at the end the rest.")
    ] = ">",
    json: JsonLinesOption = False,
) -> None:
    """List the keys of a bucket."""
    check_bucket(bucket)
    _list_keys(target, bucket, stored_pattern(pattern), is_verbose=False, has_values=False, is_json=json)


def remove(target: Target, bucket: str, *, is_forced: bool) -> None:
    """Remove a bucket after confirmation."""
    if not is_confirmed(f"Delete bucket {bucket}?", is_forced=is_forced):
        write_line(stderr_console(), "Skipping delete")
        return

    async def work(jetstream: JetStream) -> None:
        await remove_bucket(jetstream, bucket, deadline_in(target.timeout_seconds))

    perform(target, work)


def _list_keys(target: Target, bucket: str, pattern: str, *, is_verbose: bool, has_values: bool, is_json: bool) -> None:
    async def work(open_bucket: OpenBucket) -> bool:
        if is_verbose and not is_json:
            return await print_key_table(open_bucket, pattern, has_values=has_values)
        return await _print_keys(open_bucket, pattern, is_json=is_json)

    if not in_bucket(target, bucket, work):
        write_line(stderr_console(), "No keys found in bucket")


async def _print_keys(bucket: OpenBucket, pattern: str, *, is_json: bool) -> bool:
    """Print the keys as they arrive; return whether there were any."""
    has_any = False
    async for head in bucket.keys(pattern):
        has_any = True
        if is_json:
            print_object(key_object(bucket.name, head.bucket_key) | {"revision": head.revision})
        else:
            print_line(head.bucket_key)
    return has_any


async def print_key_table(bucket: OpenBucket, pattern: str, *, has_values: bool) -> bool:
    """Print the keys as a table; return whether there were any. A key deleted before its value was read is left out."""
    rows = []
    async for head in bucket.keys(pattern):
        row = [head.bucket_key, actor_key(head.bucket_key) or "", local_time(head.time_ms, None), str(head.revision)]
        if has_values:
            try:
                row.append(_value_cell(await bucket.value(head.bucket_key, Consistency.LEADER)))
            except KeyNotFoundError:
                continue
        rows.append(row)
    if rows:
        columns = ["Key", "Actor's Key", "Created", "Revision", *(["Value"] if has_values else [])]
        print_table([columns, *rows])
    return bool(rows)


def _value_cell(value: Value) -> str:
    """Return a value for a table; of one with pages, only its kind and size."""
    if is_paged(value):
        return f"({value.kind.value}, {format_bytes(value.data.size)} in pages)"
    return one_line(encode_payload(value))


def _size(text: str, option: str, maximum: int) -> int:
    return parse_option(lambda given: parse_size(given, maximum), text, option)


def _print_status(status: BucketStatus, *, is_json: bool) -> None:
    for option in status.ignored:
        write_line(stderr_console(), f"warning: the server does not support {option} and ignored it", "yellow")
    if is_json:
        print_object(status_object(status))
        return
    print_line(heading(status, None))
    print_line("")
    for label, text in status_rows(status):
        print_line(f"{label:>{_LABEL_WIDTH}}: {text}", kept="")
